import { queryOptions } from "@tanstack/react-query";
import { answer, api, read, type Writing, writing } from "../client";
import type { Commit, JoinTokenRequest, NewJoinToken } from "../types";

export const agentsQuery = queryOptions({
  queryKey: ["agents"],
  queryFn: async ({ signal }) => (await answer(api.GET("/api/v1/agents", { signal }))).items,
});

export function agentQuery(id: string) {
  return queryOptions({
    queryKey: ["agents", id],
    queryFn: ({ signal }) =>
      read(api.GET("/api/v1/agents/{id}", { params: { path: { id } }, signal })),
  });
}

export function revokeAgent(id: string, how: Omit<Writing, "dryRun"> = {}): Promise<Commit> {
  const params = { path: { id }, ...writing(how) };
  return answer(api.POST("/api/v1/agents/{id}/revoke", { params }));
}

export function removeAgent(id: string, how: Omit<Writing, "dryRun"> = {}): Promise<Commit> {
  const params = { path: { id }, ...writing(how) };
  return answer(api.DELETE("/api/v1/agents/{id}", { params }));
}

export const joinTokensQuery = queryOptions({
  queryKey: ["join-tokens"],
  queryFn: async ({ signal }) => (await answer(api.GET("/api/v1/join-tokens", { signal }))).items,
});

/** The only time that the token is shown. */
export function makeJoinToken(body: JoinTokenRequest): Promise<NewJoinToken> {
  return answer(api.POST("/api/v1/join-tokens", { body }));
}

export function deleteJoinToken(id: string) {
  return answer(api.DELETE("/api/v1/join-tokens/{id}", { params: { path: { id } } }));
}
