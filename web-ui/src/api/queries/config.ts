import { queryOptions } from "@tanstack/react-query";
import { answer, api, read, type Writing, writing } from "../client";
import type { Commit, FleetDocument } from "../types";

export const configQuery = queryOptions({
  queryKey: ["config"],
  queryFn: ({ signal }) => read(api.GET("/api/v1/config", { signal })),
});

export function applyConfig(document: FleetDocument, how: Writing = {}): Promise<Commit> {
  return answer(api.PUT("/api/v1/config", { params: writing(how), body: document }));
}
