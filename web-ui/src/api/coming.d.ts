// What the API answers beyond docs/openapi.json so far: written by hand, and to be
// deleted piece by piece as the document gains it.

import type { components, paths as described } from "./schema";

type Schemas = components["schemas"];

export interface Session {
  author: string;
  label: string;
  role: Schemas["ApiRole"];
  /** RFC 3339. */
  expires_at: string;
}

/** A figure over the last hour at most, oldest first; null = nothing known then. */
export type Points = (number | null)[];

export interface Series {
  step_ms: number;
  /** When the last point was taken; null while there is none. */
  to: string | null;
  /** By measure, all equally long. Rates are a second. */
  measures: Record<string, Points>;
}

export interface TopologyListener {
  name: string;
  role: Schemas["Role"];
  bind: string;
  /** Whether clients enter there. */
  edge: boolean;
  pools: string[];
  /** Counts of agents. */
  agents: { serving: number; behind: number; failed: number; offline: number; silent: number };
  live: number;
  clients_live: number;
  accept_rate: number;
  byte_rate: number;
  handshake_rate: number;
  resumed_rate: number;
}

export interface TopologyPool {
  name: string;
  /** The listener whose agents are its backends. */
  discover?: string;
  backends: number;
  /** Counts of (agent, backend) pairs. */
  seen: { up: number; down: number; ejected: number; drained: number; stale: number };
  /** Counts of agents. */
  serving: { primary: number; backup: number; fail_open: number; nobody: number };
  queued: number;
  live: number;
  connect_rate: number;
}

export interface Topology {
  clients: { live: number; accept_rate: number; byte_rate: number };
  listeners: TopologyListener[];
  pools: TopologyPool[];
}

export interface AttentionItem {
  severity: "critical" | "warning" | "notice";
  kind: string;
  subject: {
    kind: "agent" | "backend" | "pool" | "listener" | "certificate" | "control_plane";
    name: string;
    /** Of a backend. */
    pool?: string;
  };
  what: string;
  mend: string;
  since?: string;
}

export interface Attention {
  total: number;
  /** Worst first, 200 at most. */
  items: AttentionItem[];
}

interface Failing {
  headers: { [name: string]: unknown };
  content: { "application/problem+json": Schemas["Problem"] };
}

interface Answers<T> {
  responses: {
    200: { headers: { [name: string]: unknown }; content: { "application/json": T } };
    default: Failing;
  };
}

interface NoAnswer {
  responses: { 204: { headers: { [name: string]: unknown }; content?: never }; default: Failing };
}

interface WithPath<Names extends string> {
  parameters: { path: Record<Names, string> };
}

interface ComingPaths {
  "/api/v1/session": {
    get: Answers<Session>;
    post: Answers<Session> & {
      requestBody: { content: { "application/json": { token: string } } };
    };
    delete: NoAnswer;
  };
  "/api/v1/series": { get: Answers<Series> };
  "/api/v1/series/agents/{id}": { get: Answers<Series> & WithPath<"id"> };
  "/api/v1/series/listeners/{name}": { get: Answers<Series> & WithPath<"name"> };
  "/api/v1/series/pools/{name}": { get: Answers<Series> & WithPath<"name"> };
  "/api/v1/series/pools/{name}/backends/{backend}": {
    get: Answers<Series> & WithPath<"name" | "backend">;
  };
  "/api/v1/topology": { get: Answers<Topology> };
  "/api/v1/attention": { get: Answers<Attention> };
}

/** Writes that take `?dry_run=true`, which answers what would be and changes nothing. */
type DryRunnable =
  | "/api/v1/listeners/{name}"
  | "/api/v1/pools/{name}"
  | "/api/v1/policies/{name}"
  | "/api/v1/pools/{name}/backends/{backend}"
  | "/api/v1/revisions/{number}/rollback";

type WithDryRun<Operation> = Operation extends { parameters: { query?: infer Query } }
  ? Omit<Operation, "parameters"> & {
      parameters: Omit<Operation["parameters"], "query"> & {
        query?: Query & { dry_run?: boolean };
      };
    }
  : Operation;

type Writes = "put" | "post" | "delete";

export type paths = Omit<described, keyof ComingPaths | DryRunnable> &
  ComingPaths & {
    [Path in DryRunnable]: {
      [Method in keyof described[Path]]: Method extends Writes
        ? WithDryRun<described[Path][Method]>
        : described[Path][Method];
    };
  };
