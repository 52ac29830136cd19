import { queryOptions } from "@tanstack/react-query";
import { answer, api, type Read, read, type Writing, writing } from "../client";
import type { Commit, FleetDocument } from "../types";

export const configQuery = queryOptions({
  queryKey: ["config"],
  queryFn: async ({ signal }): Promise<Read<FleetDocument>> => {
    const { value, etag } = await read(api.GET("/api/v1/config", { signal }));
    // YAML comes only to who asks for it.
    if (typeof value === "string") throw new Error("the document came as text");
    return { value, etag };
  },
});

export function applyConfig(document: FleetDocument, how: Writing = {}): Promise<Commit> {
  return answer(api.PUT("/api/v1/config", { params: writing(how), body: document }));
}
