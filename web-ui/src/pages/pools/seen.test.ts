import { describe, expect, it } from "vitest";
import type { Backend, BackendSeen } from "../../api/types";
import {
  leftWithNobody,
  live,
  stateCounts,
  stateOf,
  tellingCheck,
  weightNow,
  worstState,
} from "./seen";

function seen(agent: string, change: Partial<BackendSeen> = {}): BackendSeen {
  return {
    agent,
    address: "127.0.0.1:3000",
    up: true,
    ejected: false,
    admin: "ready",
    in_flight: 3,
    connects: 10,
    connects_failed: 0,
    connect_rate: 0.5,
    at: "2026-11-29T12:00:00Z",
    stale: false,
    ...change,
  };
}

function backend(name: string, agents: BackendSeen[]): Backend {
  return { name, pool: "p", address: name, discovered: false, admin: "ready", agents, weight: 1 };
}

describe("a backend as agents see it", () => {
  it.each([
    [seen("a"), "up"],
    [seen("a", { up: false }), "down"],
    [seen("a", { ejected: true }), "ejected"],
    [seen("a", { up: false, admin: "drain" }), "drain"],
    [seen("a", { admin: "maintenance" }), "maintenance"],
    [seen("a", { up: false, stale: true }), "stale"],
  ])("%o is %s", (one, state) => expect(stateOf(one)).toBe(state));

  it("is as bad as its worst, and unknown before a report", () => {
    const agents = [seen("a"), seen("b", { up: false }), seen("c")];
    expect(stateCounts(agents)).toEqual([
      ["down", 1],
      ["up", 2],
    ]);
    expect(worstState(backend("x", agents))).toBe("down");
    expect(worstState(backend("x", []))).toBe("unknown");
    expect(worstState({ ...backend("x", []), admin: "drain" })).toBe("drain");
  });

  it("counts nothing that says nothing about now", () => {
    expect(live(backend("x", [seen("a"), seen("b", { stale: true })]))).toBe(3);
  });

  it("tells the check that failed, and the newest of these", () => {
    const check = (passed: boolean, words: string, at: string) => ({
      last_check: { passed, words, at },
    });
    const told = tellingCheck(
      backend("x", [
        seen("a", check(true, "answered 200", "2026-11-29T12:00:09Z")),
        seen("b", check(false, "refused", "2026-11-29T12:00:01Z")),
        seen("c", check(false, "timed out", "2026-11-29T12:00:02Z")),
      ]),
    );
    expect(told?.words).toBe("timed out");
  });

  it("says a weight as a span where agents differ", () => {
    const agents = [seen("a", { weight: 0.1 }), seen("b", { weight: 2 })];
    expect(weightNow(backend("x", agents))).toBe("0.1–2");
    expect(weightNow(backend("x", [seen("a", { weight: 1 })]))).toBe("1");
    expect(weightNow(backend("x", [seen("a")]))).toBeUndefined();
  });
});

it("knows on which agents nobody would be left", () => {
  const pool = [
    backend("x", [seen("a"), seen("b")]),
    backend("y", [seen("a"), seen("b", { up: false })]),
  ];
  expect(leftWithNobody(pool, new Set(["x"]))).toBe(1);
  expect(leftWithNobody(pool, new Set(["y"]))).toBe(0);
  expect(leftWithNobody(pool, new Set(["x", "y"]))).toBe(2);
});
