import { queryOptions } from "@tanstack/react-query";
import { answer, api, read, type Writing, writing } from "../client";
import type { Commit, ListedBackend, Saying } from "../types";

/** Every backend of a pool, as each agent sees it. */
export function backendsQuery(pool: string) {
  return queryOptions({
    queryKey: ["pools", pool, "backends"],
    queryFn: async ({ signal }) => {
      const params = { path: { name: pool } };
      return (await answer(api.GET("/api/v1/pools/{name}/backends", { params, signal }))).items;
    },
  });
}

/** One as it is listed in the document. */
export function listedBackendQuery(pool: string, backend: string) {
  return queryOptions({
    queryKey: ["pools", pool, "listed", backend],
    queryFn: ({ signal }) =>
      read(
        api.GET("/api/v1/pools/{name}/backends/{backend}", {
          params: { path: { name: pool, backend } },
          signal,
        }),
      ),
  });
}

/** What operators say of it, and how many connections remain. */
export function backendStateQuery(pool: string, backend: string) {
  return queryOptions({
    queryKey: ["pools", pool, "state", backend],
    queryFn: ({ signal }) =>
      read(
        api.GET("/api/v1/pools/{name}/backends/{backend}/state", {
          params: { path: { name: pool, backend } },
          signal,
        }),
      ),
  });
}

export function putBackend(
  pool: string,
  backend: string,
  body: ListedBackend,
  how: Writing = {},
): Promise<Commit> {
  const params = { path: { name: pool, backend }, ...writing(how) };
  return answer(api.PUT("/api/v1/pools/{name}/backends/{backend}", { params, body }));
}

export function deleteBackend(pool: string, backend: string, how: Writing = {}): Promise<Commit> {
  const params = { path: { name: pool, backend }, ...writing(how) };
  return answer(api.DELETE("/api/v1/pools/{name}/backends/{backend}", { params }));
}

export function sayBackendState(
  pool: string,
  backend: string,
  saying: Saying,
  how: Omit<Writing, "dryRun"> = {},
) {
  const params = { path: { name: pool, backend }, ...writing(how) };
  return answer(api.PUT("/api/v1/pools/{name}/backends/{backend}/state", { params, body: saying }));
}

export function killConnections(pool: string, backend: string, agent?: string) {
  const params = { path: { name: pool, backend }, query: agent === undefined ? {} : { agent } };
  return answer(api.POST("/api/v1/pools/{name}/backends/{backend}/kill", { params }));
}
