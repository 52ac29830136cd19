import { queryOptions } from "@tanstack/react-query";
import { answer, api, read, type Writing, writing } from "../client";
import type { Commit, UploadCommit } from "../types";

export const certificatesQuery = queryOptions({
  queryKey: ["certificates"],
  queryFn: async ({ signal }) => (await answer(api.GET("/api/v1/certificates", { signal }))).items,
});

export function certificateQuery(name: string) {
  return queryOptions({
    queryKey: ["certificates", name],
    queryFn: ({ signal }) =>
      read(api.GET("/api/v1/certificates/{name}", { params: { path: { name } }, signal })),
  });
}

/** PEM both; the key is never answered, and the page forgets it. */
export function uploadCertificate(
  name: string,
  chain: string,
  privateKey: string,
  how: Writing = {},
): Promise<UploadCommit> {
  const params = { path: { name }, ...writing(how) };
  const body = { chain, private_key: privateKey };
  return answer(api.PUT("/api/v1/certificates/{name}", { params, body }));
}

export function deleteCertificate(name: string, how: Writing = {}): Promise<Commit> {
  const params = { path: { name }, ...writing(how) };
  return answer(api.DELETE("/api/v1/certificates/{name}", { params }));
}
