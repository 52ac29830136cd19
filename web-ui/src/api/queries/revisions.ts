import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { answer, api, type Writing, writing } from "../client";
import type { Commit, RevisionDocument } from "../types";
import { YAML } from "./config";

const PAGE = 100;

/** Newest first, a page at a time. */
export const revisionsQuery = infiniteQueryOptions({
  queryKey: ["revisions"],
  initialPageParam: undefined as number | undefined,
  queryFn: async ({ signal, pageParam: before }) => {
    const query = { limit: PAGE, ...(before !== undefined && { before }) };
    return (await answer(api.GET("/api/v1/revisions", { params: { query }, signal }))).items;
  },
  getNextPageParam: (last) => (last.length < PAGE ? undefined : last.at(-1)?.number),
});

export function revisionQuery(number: number) {
  return queryOptions({
    queryKey: ["revision", number],
    queryFn: async ({ signal }): Promise<RevisionDocument> => {
      const params = { path: { number } };
      const value = await answer(api.GET("/api/v1/revisions/{number}", { params, signal }));
      // YAML comes only to who asks for it.
      if (typeof value === "string") throw new Error("the revision came as text");
      return value;
    },
    // A revision never changes.
    staleTime: Number.POSITIVE_INFINITY,
  });
}

/** Its document as YAML; revision 0 is the empty document. */
export function revisionTextQuery(number: number) {
  return queryOptions({
    queryKey: ["revision", number, "text"],
    queryFn: async ({ signal }): Promise<string> => {
      if (number === 0) return "";
      const params = { path: { number } };
      return answer(
        api.GET("/api/v1/revisions/{number}", { params, headers: YAML, parseAs: "text", signal }),
      );
    },
    staleTime: Number.POSITIVE_INFINITY,
  });
}

/** What differs from `against`; from the one before when it is not given. */
export function revisionDiffQuery(number: number, against?: number) {
  return queryOptions({
    queryKey: ["revision", number, "diff", against],
    queryFn: ({ signal }) => {
      const query = against === undefined ? {} : { against };
      const params = { path: { number }, query };
      return answer(api.GET("/api/v1/revisions/{number}/diff", { params, signal }));
    },
    staleTime: Number.POSITIVE_INFINITY,
  });
}

/** Makes a new revision with that one's content. */
export function rollBack(number: number, how: Writing = {}): Promise<Commit> {
  const params = { path: { number }, ...writing(how) };
  return answer(api.POST("/api/v1/revisions/{number}/rollback", { params }));
}
