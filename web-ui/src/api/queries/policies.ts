import { queryOptions } from "@tanstack/react-query";
import { answer, api, read, type Writing, writing } from "../client";
import type { Commit, Policy } from "../types";

export const policiesQuery = queryOptions({
  queryKey: ["policies"],
  queryFn: async ({ signal }) => (await answer(api.GET("/api/v1/policies", { signal }))).items,
});

export function policyQuery(name: string) {
  return queryOptions({
    queryKey: ["policies", name],
    queryFn: ({ signal }) =>
      read(api.GET("/api/v1/policies/{name}", { params: { path: { name } }, signal })),
  });
}

export function putPolicy(policy: Policy, how: Writing = {}): Promise<Commit> {
  const params = { path: { name: policy.name }, ...writing(how) };
  return answer(api.PUT("/api/v1/policies/{name}", { params, body: policy }));
}

export function deletePolicy(name: string, how: Writing = {}): Promise<Commit> {
  const params = { path: { name }, ...writing(how) };
  return answer(api.DELETE("/api/v1/policies/{name}", { params }));
}
