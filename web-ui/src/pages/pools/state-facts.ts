// What saying a state of backends comes to, in numbers. Pure.

import type { AdminState, Backend, BackendState } from "../../api/types";
import type { StateName } from "../../components/state-mark";
import { counted } from "../../format/numbers";
import { leftWithNobody, stateOf } from "./seen";

/** How live connections are closed, as chosen. */
export interface PaceChoice {
  kind: "none" | "within" | "per_second";
  amount: string;
}

type Pace = { within: string } | { per_second: number };

/** The pace that was chosen, or what is wrong with it. */
export function paceOf({ kind, amount }: PaceChoice): { pace?: Pace; wrong?: string } {
  const text = amount.trim();
  switch (kind) {
    case "none":
      return {};
    case "within":
      if (/^(\d+(ms|s|m|h|d))+$/.test(text)) return { pace: { within: text } };
      return { wrong: "Write a time: 30s, 10m, 1h30m." };
    case "per_second":
      if (/^[1-9]\d*$/.test(text)) return { pace: { per_second: Number(text) } };
      return { wrong: "Write a whole number from 1 on." };
  }
}

export interface StateChange {
  state: AdminState;
  names: string[];
  /** Empty = all. */
  agent: string;
  pace: Pace | undefined;
  remaining: BackendState["remaining"][];
  backends: Backend[];
}

export interface Fact {
  mark: StateName;
  text: string;
}

export function stateFacts(change: StateChange): Fact[] {
  if (change.state === "ready") return [readyFact(change)];
  return [liveFact(change), othersFact(change), ...checksFact(change)];
}

/** Connections now, and on how many agents. */
export function connectionsOf(
  remaining: BackendState["remaining"][],
  agent: string,
): { connections: number; agents: number } {
  const rows = rowsOf(remaining, agent);
  return {
    connections: rows.reduce((sum, row) => sum + row.connections, 0),
    agents: new Set(rows.map((row) => row.agent)).size,
  };
}

/** A backend's connections on one agent each, where there are any. */
function rowsOf(remaining: BackendState["remaining"][], agent: string) {
  return remaining
    .flatMap((one) => one.agents)
    .filter((row) => row.connections > 0 && (agent === "" || row.agent === agent));
}

function readyFact({ names, backends, agent }: StateChange): Fact {
  const pairs = backends
    .filter(({ name }) => names.includes(name))
    .flatMap((backend) => backend.agents.filter((seen) => agent === "" || seen.agent === agent));
  const out = pairs.filter((seen) => seen.admin !== "ready").length;
  const those = names.length === 1 ? "It gets" : "They get";
  return {
    mark: "up",
    text: `${those} new connections again once checks pass: out of use on ${counted(out, "agent")} now.`,
  };
}

function liveFact({ remaining, agent, pace }: StateChange): Fact {
  const { connections, agents } = connectionsOf(remaining, agent);
  if (connections === 0) return { mark: "drain", text: "No live connection has to end." };
  const live = `${counted(connections, "live connection")} on ${counted(agents, "agent")}`;
  if (pace === undefined)
    return { mark: "drain", text: `${live} end by themselves; none is closed.` };
  if ("within" in pace)
    return { mark: "drain", text: `${live} are closed, spread over ${pace.within} from now.` };
  // Each agent closes its own at that rate: the one that has most is the last to end.
  const most = Math.max(...rowsOf(remaining, agent).map((row) => row.connections));
  const seconds = Math.ceil(most / pace.per_second);
  return {
    mark: "drain",
    text: `${live} are closed, ${pace.per_second} a second on each: about ${counted(seconds, "second")}.`,
  };
}

function othersFact({ backends, names, agent }: StateChange): Fact {
  const seenThere = agent === "" ? backends : backends.map((one) => onAgent(one, agent));
  const taken = new Set(names);
  const others = seenThere.filter(
    (one) => !taken.has(one.name) && one.agents.some((seen) => stateOf(seen) === "up"),
  ).length;
  const nobody = leftWithNobody(seenThere, taken);
  if (nobody > 0)
    return {
      mark: "down",
      text: `Nobody is left to serve on ${counted(nobody, "agent")}: new connections there wait or are refused.`,
    };
  return {
    mark: "up",
    text: `${counted(others, "other backend")} of the pool ${others === 1 ? "stays" : "stay"} up.`,
  };
}

function onAgent(backend: Backend, agent: string): Backend {
  return { ...backend, agents: backend.agents.filter((seen) => seen.agent === agent) };
}

function checksFact({ state }: StateChange): Fact[] {
  if (state !== "maintenance") return [];
  return [{ mark: "maintenance", text: "It is not checked until it is set ready." }];
}
