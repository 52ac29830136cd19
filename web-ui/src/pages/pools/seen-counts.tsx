import type { TopologyPool } from "../../api/types";
import { StateMark, type StateName } from "../../components/state-mark";
import { count } from "../../format/numbers";
import classes from "./pools.module.css";

type Seen = TopologyPool["seen"];

const SHOWN: [keyof Seen, StateName, string][] = [
  ["down", "down", "down"],
  ["ejected", "ejected", "ejected"],
  ["stale", "stale", "stale"],
  ["drained", "drain", "out of use"],
  ["up", "up", "up"],
];

/** Pairs of an agent and a backend by state, the worst first. */
export function SeenCounts({ seen, backends }: { seen: Seen; backends: number }) {
  const shown = SHOWN.filter(([key]) => seen[key] > 0);
  if (backends === 0) return <span className="dim">none</span>;
  if (shown.length === 0) return <StateMark state="unknown" word="not reported" />;
  return (
    <span className={classes.counts}>
      {shown.map(([key, state, word]) => (
        <StateMark key={key} state={state} word={`${count(seen[key])} ${word}`} />
      ))}
    </span>
  );
}
