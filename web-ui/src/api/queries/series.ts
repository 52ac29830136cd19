// The last hour of figures; see `Series` for the shape and the measures.

import { keepPreviousData, queryOptions } from "@tanstack/react-query";
import { answer, api } from "../client";
import type { Series } from "../types";

export type SeriesOf =
  | { of: "fleet" }
  | { of: "agent"; id: string }
  | { of: "listener"; name: string }
  | { of: "pool"; name: string }
  | { of: "backend"; pool: string; name: string };

export function seriesQuery(subject: SeriesOf) {
  return queryOptions({
    queryKey: ["series", subject],
    queryFn: ({ signal }) => ask(subject, signal),
    placeholderData: keepPreviousData,
  });
}

function ask(subject: SeriesOf, signal: AbortSignal): Promise<Series> {
  switch (subject.of) {
    case "fleet":
      return answer(api.GET("/api/v1/series", { signal }));
    case "agent": {
      const params = { path: { id: subject.id } };
      return answer(api.GET("/api/v1/series/agents/{id}", { params, signal }));
    }
    case "listener": {
      const params = { path: { name: subject.name } };
      return answer(api.GET("/api/v1/series/listeners/{name}", { params, signal }));
    }
    case "pool": {
      const params = { path: { name: subject.name } };
      return answer(api.GET("/api/v1/series/pools/{name}", { params, signal }));
    }
    case "backend": {
      const params = { path: { name: subject.pool, backend: subject.name } };
      return answer(api.GET("/api/v1/series/pools/{name}/backends/{backend}", { params, signal }));
    }
  }
}
