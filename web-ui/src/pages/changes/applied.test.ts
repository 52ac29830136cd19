import { describe, expect, it } from "vitest";
import type { Agent } from "../../api/types";
import { inSyncCount, placeOfSubject, readAgainst, spreadOf } from "./applied";

const run = (revision: number) => ({ revision, change: 1, hash: "h", epoch: "e" });

function agent(change: Partial<Agent>): Agent {
  return {
    connected: true,
    in_sync: true,
    state: "applied",
    desired: run(3),
    applied: run(3),
    ...change,
  } as Agent;
}

const agents = [
  agent({}),
  agent({ applied: run(2), in_sync: false, state: "failed" }),
  agent({ applied: run(2), in_sync: false, connected: false }),
  agent({ revoked_at: "2026-11-29T12:00:00Z", desired: null }),
  agent({ desired: run(1), applied: run(1) }),
];

it("tells how far a revision has come", () => {
  expect(spreadOf(3, agents)).toEqual({ applied: 1, desired: 3, failed: 1, offline: 1 });
  expect(spreadOf(2, agents)).toMatchObject({ applied: 2, desired: 0 });
  expect(inSyncCount(agents)).toEqual({ inSync: 2, of: 4 });
});

describe("what a revision is compared with", () => {
  it.each([
    ["", 5, 4],
    ["2", 5, 2],
    ["0", 1, 0],
    ["x", 1, 0],
  ])("%j of %d is %d", (text, number, against) => expect(readAgainst(text, number)).toBe(against));
});

it.each([
  ["pools/game/backends/:3000", "/pools/game"],
  ["agents/01a2 on", "/agents/01a2"],
  ["config", "/document"],
  ["revisions/7", "/changes/7"],
  ["api-tokens/x", undefined],
])("%s is seen at %s", (subject, place) => expect(placeOfSubject(subject)).toBe(place));
