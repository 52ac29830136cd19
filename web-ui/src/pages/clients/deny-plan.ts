// What denying a network comes to: the document it makes, and the live connections it ends.
// Pure.

import type { Client, Difference, FleetDocument, Policy } from "../../api/types";
import { contains, type Network, parseNetwork } from "../../format/networks";

/** Which policy denies: one that is there, or a new one on listeners that have none. */
export type Target =
  | { kind: "existing"; policy: string }
  | { kind: "new"; policy: string; listeners: string[] };

/** A policy with one network more; the same one when it has it already. */
export function denying(policy: Policy, network: string): Policy {
  const deny = policy.deny ?? [];
  return deny.includes(network) ? policy : { ...policy, deny: [...deny, network] };
}

/** The document with a new policy on the listeners chosen. */
export function withNewPolicy(
  document: FleetDocument,
  name: string,
  network: string,
  on: string[],
): FleetDocument {
  return {
    ...document,
    policies: [...(document.policies ?? []), { name, deny: [network] }],
    listeners: (document.listeners ?? []).map((listener) =>
      on.includes(listener.name) ? { ...listener, policy: name } : listener,
    ),
  };
}

/** The listeners on which the network is refused then. */
export function listenersOf(document: FleetDocument, target: Target): string[] {
  if (target.kind === "new") return target.listeners;
  return (document.listeners ?? [])
    .filter(({ policy }) => policy === target.policy)
    .map(({ name }) => name);
}

export interface Hit {
  listener: string;
  connections: number;
  agents: string[];
  clients: number;
}

/** The live connections of clients in the network, by listener; most first. */
export function hitsOf(clients: Client[], network: Network, listeners: string[]): Hit[] {
  const hits = new Map<
    string,
    { connections: number; agents: Set<string>; clients: Set<string> }
  >();
  for (const client of clients) {
    const own = parseNetwork(client.client);
    // A network inside an IPv6 /64 may hit the client or not: it is counted, as the most.
    if (!own || !(contains(network, own) || contains(own, network))) continue;
    for (const { listener, agent, live } of client.live) {
      if (live === 0 || !listeners.includes(listener)) continue;
      const hit = hits.get(listener) ?? { connections: 0, agents: new Set(), clients: new Set() };
      hit.connections += live;
      hit.agents.add(agent);
      hit.clients.add(client.client);
      hits.set(listener, hit);
    }
  }
  return [...hits]
    .map(([listener, { connections, agents, clients: own }]) => ({
      listener,
      connections,
      agents: [...agents],
      clients: own.size,
    }))
    .sort((a, b) => b.connections - a.connections);
}

/**
 * Connections that end, each counted once: a client's connection is live on the balancer's
 * listener and on the terminator's behind it.
 */
export function endings(hits: Hit[], edge: string[]): number {
  const entering = hits.filter(({ listener }) => edge.includes(listener));
  const counted = entering.length > 0 ? entering : hits;
  return counted.reduce((sum, { connections }) => sum + connections, 0);
}

/** A name for a new policy that is not taken. */
export function freeName(policies: Policy[]): string {
  const taken = new Set(policies.map(({ name }) => name));
  for (let number = 1; ; number += 1) {
    const name = number === 1 ? "denied" : `denied-${number}`;
    if (!taken.has(name)) return name;
  }
}

const REVERSE = { added: "removed", removed: "added", changed: "changed" } as const;

/** Whether `diff` undoes `done`, and nothing else. */
export function isReverse(diff: Difference[], done: Difference[]): boolean {
  const reversed = done.map((one) => ({
    ...one,
    change: REVERSE[one.change],
    fields: one.fields.map(({ pointer, from, to }) => ({ pointer, from: to, to: from })),
  }));
  return canonical(diff) === canonical(reversed);
}

/** Absent and undefined are the same, and the order plays no part. */
function canonical(diff: Difference[]): string {
  const written = diff.map(({ kind, name, change, fields }) =>
    JSON.stringify([
      kind,
      name,
      change,
      fields.map(({ pointer, from, to }) => JSON.stringify([pointer, from, to])).sort(),
    ]),
  );
  return written.sort().join();
}
