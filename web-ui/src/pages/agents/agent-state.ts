// How an agent stands, and what its mistakes point at. Pure.

import { pointerPath } from "../../api/problem";
import type { Agent } from "../../api/types";
import type { StateName } from "../../components/state-mark";

export type AgentStand = "revoked" | "offline" | "failed" | "behind" | "silent" | "serving";

/** What there is to say first of it. */
export function standOf(agent: Agent): AgentStand {
  if (agent.revoked_at != null) return "revoked";
  if (!agent.connected) return "offline";
  if (!agent.in_sync) return agent.state === "failed" ? "failed" : "behind";
  const reports = agent.listeners.length > 0;
  return reports && agent.listeners.every(({ stale }) => stale) ? "silent" : "serving";
}

const MARKS: Record<AgentStand, StateName> = {
  revoked: "offline",
  offline: "offline",
  failed: "failed",
  behind: "behind",
  silent: "stale",
  serving: "in_sync",
};

export function standMark(stand: AgentStand): StateName {
  return MARKS[stand];
}

const WORDS: Record<AgentStand, string> = {
  revoked: "revoked",
  offline: "offline",
  failed: "failed",
  behind: "behind",
  silent: "silent",
  serving: "in sync",
};

export function standWord(stand: AgentStand): string {
  return WORDS[stand];
}

/** For sorting: who needs somebody first. */
export function standRank(stand: AgentStand): number {
  return ["failed", "offline", "silent", "behind", "serving", "revoked"].indexOf(stand);
}

export function liveOn(agent: Agent): number {
  return agent.listeners.reduce((sum, one) => sum + (one.stale ? 0 : one.live), 0);
}

export function labelWords(labels: Agent["labels"]): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(", ");
}

/** The page of the resource that `/listeners/edge/bind` points at. */
export function placeOf(pointer: string): string | undefined {
  const [kind, name] = pointerPath(pointer);
  if (name === undefined || name === "") return undefined;
  const known = kind === "listeners" || kind === "pools" || kind === "certificates";
  return known ? `/${kind}/${encodeURIComponent(name)}` : undefined;
}
