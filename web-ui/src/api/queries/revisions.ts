import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { answer, api, type Writing, writing } from "../client";
import type { Commit } from "../types";

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
    queryFn: ({ signal }) =>
      answer(api.GET("/api/v1/revisions/{number}", { params: { path: { number } }, signal })),
    // A revision never changes.
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
