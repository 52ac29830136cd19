// How far a revision has come: which agents run it. Pure.

import type { Agent } from "../../api/types";

export interface Spread {
  /** Run it. */
  applied: number;
  /** Should run it. */
  desired: number;
  failed: number;
  offline: number;
}

export function spreadOf(number: number, agents: Agent[]): Spread {
  const members = agents.filter((agent) => agent.revoked_at == null);
  const wanted = members.filter((agent) => agent.desired?.revision === number);
  return {
    applied: members.filter((agent) => agent.applied?.revision === number).length,
    desired: wanted.length,
    failed: wanted.filter((agent) => agent.state === "failed" && !agent.in_sync).length,
    offline: wanted.filter((agent) => !agent.connected && !agent.in_sync).length,
  };
}

/**
 * An agent whose content stays the same keeps its row: it is asked for an older revision,
 * whatever the document's number, and runs what is wanted all the same.
 */
export function inSyncCount(agents: Agent[]): { inSync: number; of: number } {
  const members = agents.filter((agent) => agent.revoked_at == null);
  return { inSync: members.filter((agent) => agent.in_sync).length, of: members.length };
}

/** `against` as typed: a revision before this one, or 0. */
export function readAgainst(text: string, number: number): number {
  const read = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  return Number.isNaN(read) ? Math.max(0, number - 1) : read;
}

/** Where what was done is to be seen: `pools/game`, `agents/<uuid>`. */
export function placeOfSubject(subject: string): string | undefined {
  const [kind, name] = subject.split(/[/ ]/);
  if (subject.startsWith("config")) return "/document";
  if (!name) return undefined;
  if (kind === "revisions") return `/changes/${name}`;
  const known = ["pools", "listeners", "agents", "certificates"].includes(kind ?? "");
  return known ? `/${kind}/${encodeURIComponent(name)}` : undefined;
}
