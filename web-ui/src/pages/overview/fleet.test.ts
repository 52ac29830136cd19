import { describe, expect, it } from "vitest";
import type { Topology, TopologyListener, TopologyPool } from "../../api/types";
import { fleetGraph, listenerTone, poolTone } from "./fleet-graph";
import { HEAD_PX, layoutFleet, PART_PX } from "./fleet-layout";

function listener(name: string, more: Partial<TopologyListener> = {}): TopologyListener {
  return {
    name,
    role: "balancer",
    bind: ":443",
    edge: true,
    pools: [],
    agents: { serving: 1, behind: 0, failed: 0, offline: 0, silent: 0 },
    live: 0,
    clients_live: 0,
    accept_rate: 3,
    byte_rate: 0,
    handshake_rate: 0,
    resumed_rate: 0,
    ...more,
  };
}

function pool(name: string, more: Partial<TopologyPool> = {}): TopologyPool {
  return {
    name,
    backends: 1,
    seen: { up: 1, down: 0, ejected: 0, drained: 0, stale: 0 },
    serving: { primary: 1, backup: 0, fail_open: 0, nobody: 0 },
    queued: 0,
    live: 0,
    connect_rate: 2,
    ...more,
  };
}

const terminator = listener("game-tls", { role: "terminator", edge: false, pools: ["game-node"] });
const canonical: Topology = {
  clients: { live: 0, accept_rate: 3, byte_rate: 0 },
  listeners: [listener("edge", { pools: ["game-tls"] }), terminator],
  pools: [pool("game-tls", { discover: "game-tls" }), pool("game-node")],
};
const none = { serving: 0, behind: 0, failed: 0, offline: 0, silent: 0 };

describe("fleetGraph", () => {
  it("puts the canonical fleet into four columns", () => {
    const { nodes } = fleetGraph(canonical);
    expect(nodes.map(({ id, column }) => [column, id])).toEqual([
      ["clients", "clients"],
      ["balancers", "listener edge"],
      ["terminators", "listener game-tls"],
      ["apps", "pool game-node"],
    ]);
  });

  it("puts a pool onto the listener whose agents it discovers", () => {
    const { nodes, edges } = fleetGraph(canonical);
    expect(nodes[2]?.parts.map(({ kind }) => kind)).toEqual(["pool", "listener"]);
    expect(edges.map(({ id, to, rate }) => [id, to.part, rate])).toEqual([
      ["clients > listener edge", 0, 3],
      ["listener edge > pool game-tls", 0, 2],
      ["listener game-tls > pool game-node", 0, 2],
    ]);
    expect(edges[2]?.from).toEqual({ node: "listener game-tls", part: 1 });
  });

  it("lets clients in at a terminator that is at the edge", () => {
    const { edges } = fleetGraph({
      ...canonical,
      listeners: [{ ...terminator, edge: true }],
      pools: [pool("game-node")],
    });
    expect(edges.map(({ id }) => id)).toEqual([
      "clients > listener game-tls",
      "listener game-tls > pool game-node",
    ]);
  });

  it("tells what is served by nobody from what is served by others", () => {
    const serving = { primary: 0, backup: 0, fail_open: 0, nobody: 0 };
    expect(poolTone(pool("p"))).toBe("ok");
    expect(poolTone(pool("p", { serving: { ...serving, backup: 1 } }))).toBe("warn");
    expect(poolTone(pool("p", { serving: { ...serving, primary: 9, nobody: 1 } }))).toBe("warn");
    expect(poolTone(pool("p", { serving: { ...serving, nobody: 1 } }))).toBe("down");
    expect(listenerTone(listener("l", { agents: { ...none, behind: 1, offline: 4 } }))).toBe("ok");
    expect(listenerTone(listener("l", { agents: { ...none, offline: 4 } }))).toBe("down");
  });
});

describe("layoutFleet", () => {
  const layout = layoutFleet(fleetGraph(canonical), 1000);

  it("gives columns the whole width, from the clients on", () => {
    expect(layout.columns.map(({ column }) => column)).toEqual([
      "clients",
      "balancers",
      "terminators",
      "apps",
    ]);
    const last = layout.columns.at(-1);
    expect(layout.columns[0]?.left).toBe(0);
    expect((last?.left ?? 0) + (last?.width ?? 0)).toBeCloseTo(1000);
  });

  it("centres what is smaller than the tallest column", () => {
    const tall = layout.boxes.get("listener game-tls");
    const small = layout.boxes.get("listener edge");
    expect(layout.height).toBe(HEAD_PX + 2 * PART_PX.listener);
    expect(tall).toMatchObject({ top: HEAD_PX, height: 2 * PART_PX.listener });
    expect(small?.top).toBe(HEAD_PX + PART_PX.listener / 2);
  });

  it("draws an edge from the middle of its part to the middle of the other", () => {
    const box = layout.boxes.get("listener game-tls");
    const edge = layout.edges.find(({ id }) => id === "listener game-tls > pool game-node");
    const x = (box?.left ?? 0) + (box?.width ?? 0);
    expect(
      edge?.path.startsWith(`M${Math.round(x * 10) / 10} ${HEAD_PX + 1.5 * PART_PX.listener}C`),
    ).toBe(true);
  });

  it("leads what passes a column between its cards", () => {
    const passing: Topology = {
      ...canonical,
      listeners: [listener("edge", { pools: ["game-tls", "legacy"] }), terminator],
      pools: [...canonical.pools, pool("legacy")],
    };
    const { boxes, edges } = layoutFleet(fleetGraph(passing), 1000);
    const lane = boxes.get("lane 2 listener edge > pool legacy");
    const card = boxes.get("listener game-tls");
    if (!lane || !card) throw new Error("no lane");
    expect(lane.top >= card.top + card.height || lane.top + lane.height <= card.top).toBe(true);
    const path = edges.find(({ id }) => id === "listener edge > pool legacy")?.path ?? "";
    expect(path.match(/L/g)).toHaveLength(1);
  });

  it("says a rate once where several edges join", () => {
    const shared: Topology = {
      ...canonical,
      listeners: [listener("a", { pools: ["p"] }), listener("b", { pools: ["p"] })],
      pools: [pool("p")],
    };
    const { edges } = layoutFleet(fleetGraph(shared), 1000);
    expect(edges.filter(({ id, label }) => id.endsWith("pool p") && label)).toHaveLength(1);
  });

  it("leaves out columns that nothing stands in", () => {
    const direct: Topology = {
      ...canonical,
      listeners: [{ ...terminator, edge: true }],
      pools: [pool("game-node")],
    };
    expect(layoutFleet(fleetGraph(direct), 1000).columns).toHaveLength(3);
  });
});
