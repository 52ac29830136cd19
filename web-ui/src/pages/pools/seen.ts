// What agents see of backends, put in words and numbers. Pure.

import type { Agent, Backend, BackendSeen } from "../../api/types";
import type { StateName } from "../../components/state-mark";
import { shortId } from "../../format/addresses";

/** A backend as one agent sees it. */
export interface Pair {
  backend: Backend;
  seen: BackendSeen;
}

/** Worst first: what a look at many should end at. */
const WORST: StateName[] = ["down", "ejected", "stale", "unknown", "maintenance", "drain", "up"];

/** What an agent's row says first. */
export function stateOf(seen: BackendSeen): StateName {
  if (seen.stale) return "stale";
  if (seen.admin === "maintenance") return "maintenance";
  if (seen.admin === "drain") return "drain";
  if (!seen.up) return "down";
  return seen.ejected ? "ejected" : "up";
}

/** How many agents see a backend in which state, worst first. */
export function stateCounts(seen: BackendSeen[]): [StateName, number][] {
  const counts = new Map<StateName, number>();
  for (const one of seen) {
    const state = stateOf(one);
    counts.set(state, (counts.get(state) ?? 0) + 1);
  }
  return WORST.flatMap((state) => {
    const count = counts.get(state);
    return count === undefined ? [] : [[state, count] as [StateName, number]];
  });
}

/** The worst that any agent sees; unknown before the first report. */
export function worstState(backend: Backend): StateName {
  const first = stateCounts(backend.agents)[0];
  if (first) return first[0];
  return backend.admin === "ready" ? "unknown" : backend.admin;
}

/** For sorting: the worse, the smaller. */
export function rank(state: StateName): number {
  const found = WORST.indexOf(state);
  return found < 0 ? WORST.length : found;
}

export function pairs(backends: Backend[]): Pair[] {
  return backends.flatMap((backend) => backend.agents.map((seen) => ({ backend, seen })));
}

const fresh = (backend: Backend) => backend.agents.filter((seen) => !seen.stale);

export function live(backend: Backend): number {
  return fresh(backend).reduce((sum, seen) => sum + seen.in_flight, 0);
}

export function connectRate(backend: Backend): number {
  return fresh(backend).reduce((sum, seen) => sum + seen.connect_rate, 0);
}

/** The check worth reading: one that failed, else the newest. */
export function tellingCheck(backend: Backend): BackendSeen["last_check"] {
  const checks = fresh(backend).flatMap((seen) => (seen.last_check ? [seen.last_check] : []));
  const failed = checks.filter((check) => !check.passed);
  const among = failed.length > 0 ? failed : checks;
  return among.toSorted((a, b) => b.at.localeCompare(a.at))[0];
}

/** What its share comes to now, where agents say that it is another one than written. */
export function weightNow(backend: Backend): string | undefined {
  const now = fresh(backend).flatMap((seen) => (seen.weight == null ? [] : [seen.weight]));
  if (now.length === 0) return undefined;
  const [low, high] = [Math.min(...now), Math.max(...now)];
  const number = (value: number) => String(Number(value.toFixed(2)));
  return low === high ? number(low) : `${number(low)}–${number(high)}`;
}

/**
 * On how many agents nobody would be left to serve without `taken`: there new connections
 * are refused or wait.
 */
export function leftWithNobody(backends: Backend[], taken: ReadonlySet<string>): number {
  const left = new Map<string, number>();
  for (const { backend, seen } of pairs(backends)) {
    const before = left.get(seen.agent) ?? 0;
    const serves = stateOf(seen) === "up" && !taken.has(backend.name);
    left.set(seen.agent, before + (serves ? 1 : 0));
  }
  return [...left.values()].filter((count) => count === 0).length;
}

/** An agent as people know it. */
export function agentName(agents: Agent[] | undefined, id: string): string {
  return agents?.find((agent) => agent.id === id)?.address ?? shortId(id);
}

/** A backend as people know it: a discovered one by where its agent is. */
export function backendName(backend: Backend): string {
  return backend.discovered ? backend.address : backend.name;
}
