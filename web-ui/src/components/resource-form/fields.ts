// Fields of a form as places in a resource, by JSON pointer (RFC 6901). Pure: the form
// shows some places as fields and the whole as JSON, and both are the same value.

import { type ProblemPlace, pointerPath, splitProblem } from "../../api/problem";

export interface Field {
  /** `/health_check/interval`. */
  pointer: string;
  label: string;
  kind: "text" | "number" | "choice" | "switch" | "list" | "labels";
  /** Of a choice; the empty one leaves the place out. */
  choices?: readonly string[];
  help?: string;
  /** What holds when it is left out. */
  placeholder?: string;
  required?: boolean;
  /** It is part of who the resource is: written once. */
  fixed?: boolean;
}

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** The value at a place; nothing where there is none. */
export function valueAt(whole: unknown, pointer: string): unknown {
  let value = whole;
  for (const step of pointerPath(pointer)) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Record<string, unknown>)[step];
  }
  return value;
}

/** The whole with another value at a place; `undefined` takes it out, and what is empty then. */
export function withValue<T>(whole: T, pointer: string, value: unknown): T {
  return put(whole, pointerPath(pointer), value) as T;
}

function put(whole: unknown, steps: string[], value: unknown): unknown {
  const [step, ...rest] = steps;
  if (step === undefined) return value;
  const object = typeof whole === "object" && whole !== null ? { ...whole } : {};
  const before = (object as Record<string, unknown>)[step];
  const after = put(before, rest, value);
  const gone = after === undefined || (rest.length > 0 && isEmpty(after));
  if (gone) delete (object as Record<string, unknown>)[step];
  else (object as Record<string, unknown>)[step] = after;
  return object;
}

function isEmpty(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}

/** As text in an input. */
export function written(field: Field, value: unknown): string {
  if (value === undefined || value === null) return "";
  if (field.kind === "list" && Array.isArray(value)) return value.join(", ");
  if (field.kind === "labels" && typeof value === "object")
    return Object.entries(value)
      .map(([key, label]) => `${key}=${label}`)
      .join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** What an input's text means; `undefined` leaves the place out. What it is not is sent as
 * it stands, so that the API says what is wrong with it. */
export function meant(field: Field, text: string): unknown {
  const trimmed = text.trim();
  if (trimmed === "") return undefined;
  switch (field.kind) {
    case "number":
      return /^\d+$/.test(trimmed) ? Number(trimmed) : trimmed;
    case "list":
      return parts(trimmed);
    case "labels":
      return Object.fromEntries(
        parts(trimmed).map((pair) => {
          const [key = "", ...label] = pair.split("=");
          return [key.trim(), label.join("=").trim()];
        }),
      );
    default:
      return trimmed;
  }
}

function parts(text: string): string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean);
}

/** What a problem says, at each field, and what belongs to none of them. */
export function problemOfFields(
  error: unknown,
  fields: Field[],
): { fields: Record<string, string>; rest: ProblemPlace[] } {
  const split = splitProblem(error, (pointer) => {
    const holds = fields.filter(
      (field) => pointer === field.pointer || pointer.startsWith(`${field.pointer}/`),
    );
    return holds.sort((a, b) => b.pointer.length - a.pointer.length)[0]?.pointer;
  });
  return split;
}
