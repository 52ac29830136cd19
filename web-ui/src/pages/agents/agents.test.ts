import { describe, expect, it } from "vitest";
import type { Agent, Listener, ListenerSeen } from "../../api/types";
import { placeOf, standOf } from "./agent-state";
import { arrival, joinLine, linkAddress, readLabels, suggestedLabels } from "./join";

function agent(change: Partial<Agent> = {}): Agent {
  return {
    id: "1",
    roles: ["balancer"],
    labels: {},
    address: "10.0.0.1",
    health_port: 7445,
    version: "0.1.0",
    connected: true,
    enrolled_at: "2026-11-29T12:00:00Z",
    join_token: "t",
    state: "applied",
    in_sync: true,
    mistakes: [],
    certificates_held: [],
    listeners: [],
    ...change,
  };
}

describe("an agent", () => {
  const stale = [{ stale: true }, { stale: true }] as ListenerSeen[];
  it.each([
    [agent(), "serving"],
    [agent({ listeners: stale }), "silent"],
    [agent({ in_sync: false, state: "applying" }), "behind"],
    [agent({ in_sync: false, state: "failed" }), "failed"],
    [agent({ connected: false, in_sync: false }), "offline"],
    [agent({ connected: false, revoked_at: "2026-11-29T12:00:00Z" }), "revoked"],
  ])("%# stands as %s", (one, stand) => expect(standOf(one)).toBe(stand));

  it.each([
    ["/listeners/edge/bind", "/listeners/edge"],
    ["/pools/a~1b", "/pools/a%2Fb"],
    ["/policies/open", undefined],
    ["", undefined],
  ])("its mistake at %j leads to %j", (pointer, to) => expect(placeOf(pointer)).toBe(to));
});

describe("the line that starts an agent", () => {
  it("gives the token to standard input, not as an argument", () => {
    const line = joinLine("tg1.a.b.c", "gate:7444", "/var/lib/tidegate-agent");
    expect(line).toBe(
      "printf %s 'tg1.a.b.c' | tidegate-agent run --control-plane gate:7444 " +
        "--state-dir /var/lib/tidegate-agent --join-token-file -",
    );
  });

  it.each([
    ["gate.example.com", "0.0.0.0:7444", "gate.example.com:7444"],
    ["::1", "[::]:17444", "[::1]:17444"],
    ["[::1]", undefined, "[::1]:7444"],
  ])("leads from %j and %j to %j", (host, replica, address) =>
    expect(linkAddress(host, replica)).toBe(address),
  );
});

it("follows an agent from nothing to what it sees", () => {
  const done = (one: Agent | undefined) => arrival(one, 1, one ? 1 : 0).map((step) => step.done);
  expect(done(undefined)).toEqual([false, false, false, false]);
  expect(done(agent({ connected: false, in_sync: false }))).toEqual([true, false, false, false]);
  expect(done(agent({ listeners: [{} as ListenerSeen] }))).toEqual([true, true, true, true]);
  const failed = agent({
    in_sync: false,
    state: "failed",
    mistakes: [{ pointer: "/listeners/edge/bind", message: "is taken" }],
  });
  expect(arrival(failed, 1, 1)[2]?.about).toContain("/listeners/edge/bind is taken");
});

describe("labels", () => {
  it("are suggested as listeners select them", () => {
    const listeners = [
      { name: "a", role: "balancer", bind: ":1", agents: { tier: "edge" } },
      { name: "b", role: "balancer", bind: ":2", agents: { tier: "edge" } },
      { name: "c", role: "terminator", bind: ":3", agents: { app: "game" } },
      { name: "d", role: "balancer", bind: ":4" },
    ] as Listener[];
    expect(suggestedLabels(listeners, "balancer")).toEqual(["tier=edge"]);
  });

  it.each([
    ["tier=edge, zone=a=b", { tier: "edge", zone: "a=b" }],
    ["", {}],
    ["tier", undefined],
    ["=x", undefined],
  ])("%j is read as %j", (text, labels) => expect(readLabels(text)).toEqual(labels));
});
