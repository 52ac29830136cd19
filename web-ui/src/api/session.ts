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
    if (!hint.isThere()) return null;
    try {
      return await answer(api.GET("/api/v1/session", { signal }));
    } catch (error) {
      if (!isProblem(error, 401)) throw error;
      hint.clear();
      return null;
    }
  },
  staleTime: Number.POSITIVE_INFINITY,
});

export async function logIn(token: string): Promise<Session> {
  const session = await answer(api.POST("/api/v1/session", { body: { token } }));
  hint.set(session.expires_at);
  return session;
}

export function useLogOut(): () => Promise<void> {
  const client = useQueryClient();
  return async () => {
    await answer(api.DELETE("/api/v1/session"));
    hint.clear();
    // The gate asks for a login by this; then what one person read is not for the next one.
    client.setQueryData(sessionKey, null);
    client.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== sessionKey[0] });
  };
}

/**
 * Until when a session may be there, for all tabs. The cookie itself is for no script; who
 * never logged in is not asked about, since every refusal is an error in the console.
 */
const hint = {
  key: "tidegate-session-until",
  isThere: () => {
    // A development server may add a token to each request.
    if (import.meta.env.DEV) return true;
    try {
      return Date.parse(localStorage.getItem(hint.key) ?? "") > Date.now();
    } catch {
      // Storage is forbidden here: ask.
      return true;
    }
  },
  set: (until: string) => {
    try {
      localStorage.setItem(hint.key, until);
    } catch {
      // Storage is forbidden here: it is asked anyway.
    }
  },
  clear: () => {
    try {
      localStorage.removeItem(hint.key);
    } catch {
      // Nothing was kept.
    }
  },
};

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
