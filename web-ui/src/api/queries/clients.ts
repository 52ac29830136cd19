import { keepPreviousData, queryOptions } from "@tanstack/react-query";
import { answer, api } from "../client";
import type { Measure, Window } from "../types";

/** Who did most. `live` is now, whatever the window. */
export function topClientsQuery(by: Measure, window: Window, limit: number) {
  return queryOptions({
    queryKey: ["clients", "top", by, by === "live" ? "now" : window, limit],
    queryFn: ({ signal }) =>
      answer(api.GET("/api/v1/ip-stats/top", { params: { query: { by, window, limit } }, signal })),
    placeholderData: keepPreviousData,
  });
}

export function clientQuery(ip: string) {
  return queryOptions({
    queryKey: ["clients", ip],
    queryFn: ({ signal }) =>
      answer(api.GET("/api/v1/ip-stats/{ip}", { params: { path: { ip } }, signal })),
  });
}
