import type { TopologyListener } from "../../api/types";
import { StateMark, type StateName } from "../../components/state-mark";
import { count } from "../../format/numbers";
import classes from "./listeners.module.css";

type Agents = TopologyListener["agents"];

const SHOWN: [keyof Agents, StateName, string][] = [
  ["failed", "failed", "failed"],
  ["offline", "offline", "offline"],
  ["silent", "stale", "silent"],
  ["behind", "behind", "behind"],
  ["serving", "serving", "serving"],
];

/** Agents of a listener by how they stand, the worst first. */
export function AgentCounts({ agents }: { agents: Agents }) {
  const shown = SHOWN.filter(([key]) => agents[key] > 0);
  if (shown.length === 0) return <StateMark state="warning" word="none" />;
  return (
    <span className={classes.counts}>
      {shown.map(([key, state, word]) => (
        <StateMark key={key} state={state} word={`${count(agents[key])} ${word}`} />
      ))}
    </span>
  );
}
