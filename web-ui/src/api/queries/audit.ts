import { infiniteQueryOptions } from "@tanstack/react-query";
import { answer, api } from "../client";

const PAGE = 100;

/** Newest first, a page at a time. */
export const auditQuery = infiniteQueryOptions({
  queryKey: ["audit"],
  initialPageParam: undefined as number | undefined,
  queryFn: async ({ signal, pageParam: before }) => {
    const query = { limit: PAGE, ...(before !== undefined && { before }) };
    return (await answer(api.GET("/api/v1/audit", { params: { query }, signal }))).items;
  },
  getNextPageParam: (last) => (last.length < PAGE ? undefined : last.at(-1)?.number),
});
