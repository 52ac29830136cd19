import { queryOptions } from "@tanstack/react-query";
import { answer, api, read, type Writing, writing } from "../client";
import type { Commit, Pool } from "../types";

export const poolsQuery = queryOptions({
  queryKey: ["pools"],
  queryFn: async ({ signal }) => (await answer(api.GET("/api/v1/pools", { signal }))).items,
});

export function poolQuery(name: string) {
  return queryOptions({
    queryKey: ["pools", name],
    queryFn: ({ signal }) =>
      read(api.GET("/api/v1/pools/{name}", { params: { path: { name } }, signal })),
  });
}

/** Who serves, and how many wait, as each agent sees it. */
export function poolAgentsQuery(name: string) {
  return queryOptions({
    queryKey: ["pools", name, "agents"],
    queryFn: async ({ signal }) =>
      (await answer(api.GET("/api/v1/pools/{name}/agents", { params: { path: { name } }, signal })))
        .items,
  });
}

export function putPool(pool: Pool, how: Writing = {}): Promise<Commit> {
  const params = { path: { name: pool.name }, ...writing(how) };
  return answer(api.PUT("/api/v1/pools/{name}", { params, body: pool }));
}

export function deletePool(name: string, how: Writing = {}): Promise<Commit> {
  const params = { path: { name }, ...writing(how) };
  return answer(api.DELETE("/api/v1/pools/{name}", { params }));
}
