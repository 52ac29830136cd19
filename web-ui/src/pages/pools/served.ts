// By whom a pool is served, in a word. Pure.

import type { TopologyPool } from "../../api/types";
import type { StateName } from "../../components/state-mark";

type Serving = TopologyPool["serving"];

export function poolState({ primary, backup, fail_open, nobody }: Serving): StateName {
  if (nobody > 0) return "down";
  if (fail_open > 0 || backup > 0) return "warning";
  return primary > 0 ? "serving" : "unknown";
}

/** The worst first: what most agents see is no comfort to the rest. */
export function servedWords(serving: Serving): string {
  const all = serving.primary + serving.backup + serving.fail_open + serving.nobody;
  if (all === 0) return "not reported";
  const of = (some: number, words: string) =>
    some === all ? words : `${words} on ${some} of ${all} agents`;
  if (serving.nobody > 0) return of(serving.nobody, "nobody");
  if (serving.fail_open > 0) return of(serving.fail_open, "anybody: all are down");
  if (serving.backup > 0) return of(serving.backup, "backups");
  return "its backends";
}
