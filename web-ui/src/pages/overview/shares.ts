// Parts of a whole, as they are drawn and said. Pure.

import type { TopologyListener, TopologyPool } from "../../api/types";
import type { StateName } from "../../components/state-mark";

export interface Share {
  state: StateName;
  count: number;
  /** Its word, where it is not the state's own. */
  word?: string;
}

// Worst first: where words are cut off, good news are.

/** Up to this many, each has a mark of its own. */
export const MARKS_AT_MOST = 24;

export function agentShares({ agents }: TopologyListener): Share[] {
  return present([
    { state: "failed", count: agents.failed },
    { state: "offline", count: agents.offline },
    { state: "stale", count: agents.silent, word: "silent" },
    { state: "behind", count: agents.behind },
    { state: "serving", count: agents.serving },
  ]);
}

export function backendShares({ seen }: TopologyPool): Share[] {
  return present([
    { state: "down", count: seen.down },
    { state: "ejected", count: seen.ejected },
    { state: "stale", count: seen.stale },
    { state: "drain", count: seen.drained, word: "drained" },
    { state: "up", count: seen.up },
  ]);
}

function present(shares: Share[]): Share[] {
  return shares.filter(({ count }) => count > 0);
}

export function total(shares: Share[]): number {
  return shares.reduce((sum, { count }) => sum + count, 0);
}

/** Widths in percent that a bar is drawn with: the least part is still seen. */
export function barWidths(shares: Share[], least = 3): number[] {
  const all = total(shares);
  if (all === 0) return [];
  const raised = shares.map(({ count }) => Math.max(least, (100 * count) / all));
  const sum = raised.reduce((one, other) => one + other, 0);
  return raised.map((width) => (100 * width) / sum);
}

/** Which part of the handshakes resumed a session; nothing while there are none. */
export function resumedShare(handshakes: number, resumed: number): number | undefined {
  return handshakes > 0 ? Math.min(1, Math.max(0, resumed / handshakes)) : undefined;
}
