// Who is logged in, and what that role may do.

import { queryOptions, useQuery, useQueryClient } from "@tanstack/react-query";
import { answer, api } from "./client";
import { isProblem } from "./problem";
import type { ApiRole, Session } from "./types";

export const sessionKey = ["session"] as const;

/** `null` = nobody is. */
export const sessionQuery = queryOptions({
  queryKey: sessionKey,
  queryFn: async ({ signal }): Promise<Session | null> => {
    try {
      return await answer(api.GET("/api/v1/session", { signal }));
    } catch (error) {
      if (isProblem(error, 401)) return null;
      throw error;
    }
  },
  staleTime: Number.POSITIVE_INFINITY,
});

export function logIn(token: string): Promise<Session> {
  return answer(api.POST("/api/v1/session", { body: { token } }));
}

export function useLogOut(): () => Promise<void> {
  const client = useQueryClient();
  return async () => {
    await answer(api.DELETE("/api/v1/session"));
    // What one person read is not for the next one.
    client.clear();
    client.setQueryData(sessionKey, null);
  };
}

const RANK: Record<ApiRole, number> = { viewer: 0, operator: 1, admin: 2 };

export function mayDo(role: ApiRole | undefined, needed: ApiRole): boolean {
  return role !== undefined && RANK[role] >= RANK[needed];
}

/**
 * Why this session may not do what takes `needed`, for a disabled control's description;
 * nothing when it may.
 */
export function useForbidden(needed: ApiRole): string | undefined {
  const { data } = useQuery(sessionQuery);
  if (mayDo(data?.role, needed)) return undefined;
  return `This takes the role ${needed}; this session is ${data ? `${data.role}` : "nobody"}.`;
}
