// The topology as a graph in columns: clients, balancers, terminators, app processes. Pure.
//
// A pool that discovers a listener's agents stands on that listener's node: its backends
// are those agents, seen by the balancers.

import type { Topology, TopologyListener, TopologyPool } from "../../api/types";

export type Column = "clients" | "balancers" | "terminators" | "apps";
export const COLUMNS: readonly Column[] = ["clients", "balancers", "terminators", "apps"];

export type Part =
  | { kind: "clients"; clients: Topology["clients"] }
  | { kind: "listener"; listener: TopologyListener }
  | { kind: "pool"; pool: TopologyPool };

export interface FleetNode {
  id: string;
  column: Column;
  /** From top to bottom; each has its own edges. */
  parts: Part[];
}

/** Where an edge begins or ends: a part of a node. */
export interface End {
  node: string;
  part: number;
}

export interface FleetEdge {
  id: string;
  from: End;
  to: End;
  /** New connections a second that reach `to` by all its edges together. */
  rate: number;
  /** What becomes of them there. */
  tone: Tone;
}

export type Tone = "ok" | "warn" | "down";

export interface FleetGraph {
  nodes: FleetNode[];
  edges: FleetEdge[];
}

export function fleetGraph(topology: Topology): FleetGraph {
  const nodes = makeNodes(topology);
  const ends = new Map<string, End>();
  for (const node of nodes)
    node.parts.forEach((part, index) => {
      ends.set(partId(part), { node: node.id, part: index });
    });
  return { nodes, edges: makeEdges(topology, ends) };
}

function makeNodes({ clients, listeners, pools }: Topology): FleetNode[] {
  const discovering = pools.filter(({ discover }) =>
    listeners.some(({ name }) => name === discover),
  );
  const nodes: FleetNode[] = [
    { id: "clients", column: "clients", parts: [{ kind: "clients", clients }] },
  ];
  for (const listener of listeners)
    nodes.push({
      id: listenerId(listener.name),
      column: listener.role === "balancer" ? "balancers" : "terminators",
      parts: [
        ...discovering
          .filter(({ discover }) => discover === listener.name)
          .map((pool): Part => ({ kind: "pool", pool })),
        { kind: "listener", listener },
      ],
    });
  for (const pool of pools)
    if (!discovering.includes(pool))
      nodes.push({ id: poolId(pool.name), column: "apps", parts: [{ kind: "pool", pool }] });
  return nodes;
}

function makeEdges({ listeners, pools }: Topology, ends: Map<string, End>): FleetEdge[] {
  const edges: FleetEdge[] = [];
  const connect = (from: string, to: string, rate: number, tone: Tone) => {
    const [begin, end] = [ends.get(from), ends.get(to)];
    if (begin && end) edges.push({ id: `${from} > ${to}`, from: begin, to: end, rate, tone });
  };
  for (const listener of listeners) {
    const id = listenerId(listener.name);
    if (listener.edge) connect("clients", id, listener.accept_rate, listenerTone(listener));
    for (const name of listener.pools) {
      const pool = pools.find((one) => one.name === name);
      if (pool) connect(id, poolId(name), pool.connect_rate, poolTone(pool));
    }
  }
  return edges;
}

/**
 * Whether anybody serves a listener, as far as is known: an agent that is behind or failed
 * goes on with what it ran. Single agents have marks of their own.
 */
export function listenerTone({ agents }: TopologyListener): Tone {
  return agents.serving + agents.behind + agents.failed + agents.silent > 0 ? "ok" : "down";
}

/** Whether connections to a pool are served: by whom they should be, by others, by nobody. */
export function poolTone({ serving }: TopologyPool): Tone {
  const others = serving.backup + serving.fail_open;
  if (serving.nobody > 0) return serving.primary + others > 0 ? "warn" : "down";
  return others > 0 ? "warn" : "ok";
}

export function partId(part: Part): string {
  if (part.kind === "clients") return "clients";
  return part.kind === "listener" ? listenerId(part.listener.name) : poolId(part.pool.name);
}

function listenerId(name: string): string {
  return `listener ${name}`;
}

function poolId(name: string): string {
  return `pool ${name}`;
}
