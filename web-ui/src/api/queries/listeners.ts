import { queryOptions } from "@tanstack/react-query";
import { answer, api, read, type Writing, writing } from "../client";
import type { Commit, Listener } from "../types";

export const listenersQuery = queryOptions({
  queryKey: ["listeners"],
  queryFn: async ({ signal }) => (await answer(api.GET("/api/v1/listeners", { signal }))).items,
});

export function listenerQuery(name: string) {
  return queryOptions({
    queryKey: ["listeners", name],
    queryFn: ({ signal }) =>
      read(api.GET("/api/v1/listeners/{name}", { params: { path: { name } }, signal })),
  });
}

export function putListener(listener: Listener, how: Writing = {}): Promise<Commit> {
  const params = { path: { name: listener.name }, ...writing(how) };
  return answer(api.PUT("/api/v1/listeners/{name}", { params, body: listener }));
}

export function deleteListener(name: string, how: Writing = {}): Promise<Commit> {
  const params = { path: { name }, ...writing(how) };
  return answer(api.DELETE("/api/v1/listeners/{name}", { params }));
}
