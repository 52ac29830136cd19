import { describe, expect, it } from "vitest";
import type { Client, Difference, Listener, Policy } from "../../api/types";
import { parseNetwork } from "../../format/networks";
import {
  denying,
  endings,
  freeName,
  hitsOf,
  isReverse,
  listenersOf,
  withNewPolicy,
} from "./deny-plan";
import { clientPath, rangeText } from "./measures";
import { limitsInWords, meetings, verdictOf } from "./meets";

function network(text: string) {
  const parsed = parseNetwork(text);
  if (!parsed) throw new Error(`${text} is no network`);
  return parsed;
}

const edge: Listener = { name: "edge", role: "balancer", bind: ":443", policy: "everybody" };
const inner: Listener = { name: "game-tls", role: "terminator", bind: ":8443" };
const everybody: Policy = { name: "everybody", deny: ["203.0.113.0/24"] };

function client(address: string, live: Client["live"] = []): Client {
  return { client: address, live, windows: {} };
}

const one = client("192.0.2.7", [
  { listener: "edge", agent: "b1", live: 3 },
  { listener: "game-tls", agent: "t1", live: 2 },
  { listener: "game-tls", agent: "t2", live: 1 },
]);

describe("rangeText", () => {
  it("shows how wrong an amount may be, and only where it shows", () => {
    expect(rangeText("connections", 1_204, 1_210)).toBe("1,204–1,210");
    expect(rangeText("connections", 7, 7)).toBe("7");
    expect(rangeText("bytes", 1_000_000, 1_000_001)).toBe("1 MB");
    expect(rangeText("connections", -2, 5)).toBe("0–5");
  });
});

describe("clientPath", () => {
  it("goes by the first address of a /64", () => {
    expect(clientPath("2001:db8::/64")).toBe("/clients/2001%3Adb8%3A%3A");
    expect(clientPath("192.0.2.7")).toBe("/clients/192.0.2.7");
  });
});

describe("what a client meets", () => {
  it("is denied, partly denied, not allowed, or admitted", () => {
    const at = (policy: Policy | undefined, address: string) => verdictOf(network(address), policy);
    expect(at(everybody, "203.0.113.9")).toEqual({ kind: "denied", by: "203.0.113.0/24" });
    expect(at(everybody, "192.0.2.7")).toEqual({ kind: "admitted" });
    expect(at(undefined, "192.0.2.7")).toEqual({ kind: "admitted" });
    expect(at({ name: "p", allow: ["10.0.0.0/8"] }, "192.0.2.7")).toEqual({ kind: "not_allowed" });
    expect(at({ name: "p", allow: ["10.0.0.0/8"], deny: ["10.9.0.0/16"] }, "10.9.1.1")).toEqual({
      kind: "denied",
      by: "10.9.0.0/16",
    });
    expect(at({ name: "p", deny: ["2001:db8::1/128"] }, "2001:db8::/64")).toEqual({
      kind: "partly",
      by: "2001:db8::1/128",
    });
  });

  it("is said for each listener, with what is live there", () => {
    const found = meetings(one, [edge, inner], [everybody]);
    expect(found.map(({ policy, live, agents }) => [policy?.name, live, agents])).toEqual([
      ["everybody", 3, 1],
      [undefined, 3, 2],
    ]);
  });

  it("has limits in words", () => {
    expect(limitsInWords(undefined)).toBeUndefined();
    expect(limitsInWords(everybody)).toBeUndefined();
    const limits = { connections_per_client: 10_000, new_per_client: { per_second: 5 } };
    expect(limitsInWords({ name: "p", limits })).toBe("10,000 live, 5 new/s at most on each agent");
  });
});

describe("denying", () => {
  it("adds the network once, and keeps all else", () => {
    expect(denying(everybody, "192.0.2.7/32").deny).toEqual(["203.0.113.0/24", "192.0.2.7/32"]);
    expect(denying(everybody, "203.0.113.0/24")).toBe(everybody);
  });

  it("puts a new policy on the listeners chosen alone", () => {
    const made = withNewPolicy({ listeners: [edge, inner] }, "denied", "192.0.2.7/32", [
      "game-tls",
    ]);
    expect(made.policies).toEqual([{ name: "denied", deny: ["192.0.2.7/32"] }]);
    expect(made.listeners?.map(({ policy }) => policy)).toEqual(["everybody", "denied"]);
  });

  it("holds on the listeners that have the policy", () => {
    const document = { listeners: [edge, inner] };
    expect(listenersOf(document, { kind: "existing", policy: "everybody" })).toEqual(["edge"]);
    expect(listenersOf(document, { kind: "new", policy: "p", listeners: ["game-tls"] })).toEqual([
      "game-tls",
    ]);
  });

  it("counts the live connections of those in the network, on those listeners", () => {
    const other = client("198.51.100.1", [{ listener: "edge", agent: "b1", live: 9 }]);
    const hits = hitsOf([one, other], network("192.0.2.0/24"), ["edge", "game-tls"]);
    expect(hits).toEqual([
      { listener: "edge", connections: 3, agents: ["b1"], clients: 1 },
      { listener: "game-tls", connections: 3, agents: ["t1", "t2"], clients: 1 },
    ]);
    expect(hitsOf([one], network("192.0.2.7"), ["edge"])).toHaveLength(1);
  });

  it("counts a connection once, where it enters", () => {
    const hits = hitsOf([one], network("192.0.2.7"), ["edge", "game-tls"]);
    expect(endings(hits, ["edge"])).toBe(3);
    expect(
      endings(
        hits.filter(({ listener }) => listener !== "edge"),
        ["edge"],
      ),
    ).toBe(3);
    expect(endings([], ["edge"])).toBe(0);
  });

  it("finds a name that is free", () => {
    expect(freeName([everybody])).toBe("denied");
    expect(freeName([{ name: "denied" }, { name: "denied-2" }])).toBe("denied-3");
  });
});

describe("isReverse", () => {
  const done: Difference[] = [
    {
      kind: "policies",
      name: "everybody",
      change: "changed",
      fields: [{ pointer: "/deny", to: ["192.0.2.7/32"] }],
    },
  ];
  const back: Difference[] = [
    {
      kind: "policies",
      name: "everybody",
      change: "changed",
      fields: [{ pointer: "/deny", from: ["192.0.2.7/32"] }],
    },
  ];

  it("tells an undo from one that takes more back", () => {
    expect(isReverse(back, done)).toBe(true);
    expect(
      isReverse([...back, { kind: "pools", name: "p", change: "added", fields: [] }], done),
    ).toBe(false);
    expect(isReverse(done, done)).toBe(false);
  });
});
