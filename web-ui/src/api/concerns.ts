// Which queries an event of the stream makes stale. Pure: the first step of a query's key
// is its resource, the second a name; see src/api/queries.

import type { QueryKey } from "@tanstack/react-query";

export type LiveEvent =
  | { kind: "reset" }
  | { kind: "change"; change: number; revision: number }
  // Nobody is named where many are meant.
  | { kind: "agent"; agent?: string }
  | { kind: "backend"; pool?: string; backend?: string; agent?: string }
  | { kind: "audit"; number: number }
  | { kind: "sample"; at: string };

export const EVENT_KINDS = ["reset", "change", "agent", "backend", "audit", "sample"] as const;

/** What a commit may have changed: the document, and the facts that are planned with it. */
const COMMITTED = new Set([
  "agents",
  "attention",
  "certificates",
  "config",
  "join-tokens",
  "listeners",
  "policies",
  "pools",
  "revisions",
  "status",
  "ticket-keys",
  "topology",
]);
const OF_AGENTS = new Set(["agents", "attention", "status", "ticket-keys", "topology"]);
const OF_BACKENDS = new Set(["attention", "status", "topology"]);
const FIGURES = new Set(["agents", "attention", "clients", "series", "status", "topology"]);
/** Below a pool, what agents report of it. */
const SEEN_OF_POOL = new Set(["agents", "backends", "state"]);

export function concerns(event: LiveEvent, key: QueryKey): boolean {
  const [resource, name] = key;
  if (typeof resource !== "string" || resource === "session") return false;
  switch (event.kind) {
    case "reset":
      return true;
    case "change":
      return COMMITTED.has(resource);
    case "agent":
      // An agent that comes or goes is a backend of the pools that discover it.
      return OF_AGENTS.has(resource) || isSeenOfPool(key);
    case "backend":
      return (
        OF_BACKENDS.has(resource) ||
        (isSeenOfPool(key) && (event.pool === undefined || name === event.pool))
      );
    case "audit":
      return resource === "audit" || resource === "api-tokens" || resource === "join-tokens";
    case "sample":
      return FIGURES.has(resource) || isSeenOfPool(key);
  }
}

function isSeenOfPool([resource, , part]: QueryKey): boolean {
  return resource === "pools" && typeof part === "string" && SEEN_OF_POOL.has(part);
}

/** An event as it came, or nothing when it is none that this page knows. */
export function parseEvent(kind: string, data: string): LiveEvent | undefined {
  if (!EVENT_KINDS.some((known) => known === kind)) return undefined;
  try {
    const fields: unknown = JSON.parse(data);
    if (typeof fields !== "object" || fields === null) return undefined;
    return { ...fields, kind } as LiveEvent;
  } catch {
    return undefined;
  }
}
