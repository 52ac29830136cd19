// Problems (RFC 9457) as errors, and which of their parts belong at which field.

import type { components } from "./schema";

export type Problem = components["schemas"]["Problem"];
export type ProblemPlace = components["schemas"]["ProblemPlace"];

/** What the API refused, whole. */
export class ApiProblem extends Error {
  override readonly name = "ApiProblem";
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail);
    this.problem = problem;
  }

  get status(): number {
    return this.problem.status;
  }
}

/** No answer at all: the control plane is away, or what is between. */
export class Unreachable extends Error {
  override readonly name = "Unreachable";

  constructor(cause: unknown) {
    super("The control plane does not answer.", { cause });
  }
}

export function isProblem(error: unknown, status?: number): error is ApiProblem {
  return error instanceof ApiProblem && (status === undefined || error.status === status);
}

/** An answer that is not a problem document, as something in between may send. */
export function problemOf(response: Response, body: unknown): Problem {
  if (isProblemBody(body)) return { ...body, status: response.status };
  return {
    type: "about:blank",
    title: response.statusText || `Status ${response.status}`,
    status: response.status,
    detail: `The answer was ${response.status}, without words of the control plane.`,
    request_id: response.headers.get("x-request-id") ?? "",
  };
}

function isProblemBody(body: unknown): body is Problem {
  return typeof body === "object" && body !== null && "title" in body && "detail" in body;
}

/** Whether trying again can help without anybody changing anything. */
export function isPassing(error: unknown): boolean {
  return error instanceof Unreachable || (error instanceof ApiProblem && error.status >= 500);
}

export interface SplitProblem {
  /** By field, the details joined. */
  fields: Record<string, string>;
  /** What belongs to no field. */
  rest: ProblemPlace[];
}

/**
 * Puts each place of a problem at its field. `fieldOf` says which field a pointer belongs
 * to, if any; `pointerPath` helps it.
 */
export function splitProblem(
  error: unknown,
  fieldOf: (pointer: string) => string | undefined,
): SplitProblem {
  const split: SplitProblem = { fields: {}, rest: [] };
  if (!(error instanceof ApiProblem)) return split;
  for (const place of error.problem.errors ?? []) {
    const field = fieldOf(place.pointer);
    if (field === undefined) split.rest.push(place);
    else {
      const before = split.fields[field];
      split.fields[field] = before === undefined ? place.detail : `${before} ${place.detail}`;
    }
  }
  return split;
}

/**
 * The steps of a JSON pointer (RFC 6901), without `within` where it begins with that: a
 * problem points into the body, or into the whole document by `/config`.
 */
export function pointerPath(pointer: string, within = ""): string[] {
  const inner =
    within !== "" && (pointer === within || pointer.startsWith(`${within}/`))
      ? pointer.slice(within.length)
      : pointer;
  return inner
    .split("/")
    .slice(1)
    .map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
}
