import { queryOptions } from "@tanstack/react-query";
import { answer, api, type Read, read, type Writing, writing } from "../client";
import type { Commit, FleetDocument } from "../types";

/** Asks for YAML. */
export const YAML = { Accept: "application/yaml" };

export const configQuery = queryOptions({
  queryKey: ["config"],
  queryFn: async ({ signal }): Promise<Read<FleetDocument>> => {
    const { value, etag } = await read(api.GET("/api/v1/config", { signal }));
    // YAML comes only to who asks for it.
    if (typeof value === "string") throw new Error("the document came as text");
    return { value, etag };
  },
});

/** The document as YAML: what the editor begins with. */
export const configTextQuery = queryOptions({
  queryKey: ["config", "text"],
  queryFn: ({ signal }): Promise<Read<string>> =>
    read(api.GET("/api/v1/config", { headers: YAML, parseAs: "text", signal })),
});

/** Applies a document as it was typed, so that mistakes point into that. */
export function applyText(text: string, how: Writing = {}): Promise<Commit> {
  return answer(
    api.PUT("/api/v1/config", {
      params: writing(how),
      // Typed by the description as a document or a string: this is the string.
      body: text as unknown as FleetDocument,
      bodySerializer: (body) => body,
      headers: { "Content-Type": "application/yaml" },
    }),
  );
}

export function applyConfig(document: FleetDocument, how: Writing = {}): Promise<Commit> {
  return answer(api.PUT("/api/v1/config", { params: writing(how), body: document }));
}
