import { describe, expect, it } from "vitest";
import type { Backend, BackendSeen } from "../../api/types";
import { paceOf, type StateChange, stateFacts } from "./state-facts";

const at = "2026-11-29T12:00:00Z";

function seen(agent: string, change: Partial<BackendSeen> = {}): BackendSeen {
  return {
    agent,
    address: "",
    up: true,
    ejected: false,
    admin: "ready",
    in_flight: 0,
    connects: 0,
    connects_failed: 0,
    connect_rate: 0,
    at,
    stale: false,
    ...change,
  };
}

const backend = (name: string, agents: BackendSeen[]): Backend => ({
  name,
  pool: "p",
  address: name,
  discovered: false,
  admin: "ready",
  agents,
});

const two = [
  backend("x", [seen("a"), seen("b")]),
  backend("y", [seen("a"), seen("b", { up: false })]),
];
const row = (agent: string, connections: number) => ({ agent, connections, at, stale: false });

function facts(change: Partial<StateChange>): string[] {
  return stateFacts({
    state: "drain",
    names: ["y"],
    agent: "",
    pace: undefined,
    remaining: [{ connections: 41, agents: [row("a", 40), row("b", 1), row("c", 0)] }],
    backends: two,
    ...change,
  }).map(({ text }) => text);
}

describe("what a state comes to", () => {
  it("says that connections end by themselves, and who stays", () => {
    expect(facts({})).toEqual([
      "41 live connections on 2 agents end by themselves; none is closed.",
      "1 other backend of the pool stays up.",
    ]);
  });

  it("says how fast a pace closes them", () => {
    expect(facts({ pace: { within: "10m" } })[0]).toContain("spread over 10m");
    expect(facts({ pace: { per_second: 5 } })[0]).toContain("about 8 seconds");
  });

  it("counts on one agent alone", () => {
    const [live, others] = facts({ agent: "b" });
    expect(live).toContain("1 live connection on 1 agent");
    expect(others).toContain("1 other backend");
  });

  it("warns where nobody would be left", () => {
    expect(facts({ names: ["x"] })[1]).toContain("Nobody is left to serve on 1 agent");
  });

  it("tells of maintenance and of what comes back", () => {
    expect(facts({ state: "maintenance" }).at(-1)).toContain("not checked");
    const drained = [backend("y", [seen("a", { admin: "drain" }), seen("b")])];
    expect(facts({ state: "ready", backends: drained })[0]).toContain("on 1 agent now");
  });
});

describe("a pace", () => {
  it.each([
    [{ kind: "none", amount: "" }, {}],
    [{ kind: "within", amount: " 1h30m " }, { pace: { within: "1h30m" } }],
    [{ kind: "per_second", amount: "5" }, { pace: { per_second: 5 } }],
  ] as const)("%o", (choice, pace) => expect(paceOf(choice)).toEqual(pace));

  it.each([
    { kind: "within", amount: "soon" },
    { kind: "within", amount: "" },
    { kind: "per_second", amount: "0" },
    { kind: "per_second", amount: "1.5" },
  ] as const)("%o is none", (choice) => expect(paceOf(choice).wrong).toBeTruthy());
});
