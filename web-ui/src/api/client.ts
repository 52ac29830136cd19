// The one way to the REST API: same origin, by cookie; what is refused is thrown.

import createClient from "openapi-fetch";
import { ApiProblem, problemOf, Unreachable } from "./problem";
import type { paths } from "./schema";

/** A path that leads nowhere is a mistake here, not a request. */
export const api = createClient<paths>({ baseUrl: "/", credentials: "same-origin" });

/** A value with the ETag that a later write names in `If-Match`. */
export interface Read<T> {
  value: T;
  etag: string | undefined;
}

interface Result<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** What was answered; throws `ApiProblem` or `Unreachable`. */
export async function answer<T>(asked: Promise<Result<T>>): Promise<T> {
  return (await read(asked)).value;
}

/** The same with its ETag. */
export async function read<T>(asked: Promise<Result<T>>): Promise<Read<T>> {
  const { data, error, response } = await asked.catch((cause: unknown) => {
    // A request that was called off is nobody's failure: whoever did it knows.
    if (cause instanceof DOMException && cause.name === "AbortError") throw cause;
    throw new Unreachable(cause);
  });
  if (!response.ok) throw new ApiProblem(problemOf(response, error));
  // An answer of 204 has no data, and those who ask know it: their T is undefined.
  return { value: data as T, etag: response.headers.get("etag") ?? undefined };
}

/** How a write is made. */
export interface Writing {
  /** Answers what would be, and changes nothing. */
  dryRun?: boolean;
  /** The ETag of what was read: refused with 412 when that has changed since. */
  etag?: string | undefined;
  /** Answers only when the agents have applied it, or failed to. */
  wait?: boolean;
}

/** Query and headers of a write, as openapi-fetch takes them. */
export function writing({ dryRun, etag, wait }: Writing = {}) {
  return {
    query: { ...(dryRun && { dry_run: true }), ...(wait && { wait: "applied" as const }) },
    ...(etag !== undefined && { header: { "If-Match": etag } }),
  };
}
