// What a client meets: each listener, its policy, and what that says of the client. Pure.

import type { Client, Listener, Policy } from "../../api/types";
import { contains, type Network, overlaps, parseNetwork } from "../../format/networks";

export type Verdict =
  | { kind: "admitted" }
  /** A part of the client's network is refused. */
  | { kind: "partly"; by: string }
  | { kind: "denied"; by: string }
  | { kind: "not_allowed" };

export interface Meeting {
  listener: Listener;
  policy: Policy | undefined;
  verdict: Verdict;
  /** The client's connections there now, on how many agents. */
  live: number;
  agents: number;
}

export function meetings(client: Client, listeners: Listener[], policies: Policy[]): Meeting[] {
  const network = parseNetwork(client.client);
  return listeners.map((listener) => {
    const policy = policies.find(({ name }) => name === listener.policy);
    const there = client.live.filter((at) => at.listener === listener.name && at.live > 0);
    return {
      listener,
      policy,
      verdict: network ? verdictOf(network, policy) : { kind: "admitted" },
      live: there.reduce((sum, { live }) => sum + live, 0),
      agents: there.length,
    };
  });
}

/** Deny comes first; a list of allowed networks keeps everybody else out. */
export function verdictOf(client: Network, policy: Policy | undefined): Verdict {
  let partly: string | undefined;
  for (const text of policy?.deny ?? []) {
    const denied = parseNetwork(text);
    if (!denied || !overlaps(denied, client)) continue;
    if (contains(denied, client)) return { kind: "denied", by: text };
    partly = text;
  }
  const allowed = policy?.allow ?? [];
  if (allowed.length > 0 && !allowed.some((text) => covers(text, client)))
    return { kind: "not_allowed" };
  return partly === undefined ? { kind: "admitted" } : { kind: "partly", by: partly };
}

function covers(text: string, client: Network): boolean {
  const network = parseNetwork(text);
  return network !== undefined && contains(network, client);
}

/** The limits that hold for one client, in words. */
export function limitsInWords(policy: Policy | undefined): string | undefined {
  const { connections_per_client: live, new_per_client: fresh } = policy?.limits ?? {};
  const words = [
    live !== undefined && `${live.toLocaleString("en-US")} live`,
    fresh && `${fresh.per_second.toLocaleString("en-US")} new/s`,
  ].filter(Boolean);
  return words.length > 0 ? `${words.join(", ")} at most on each agent` : undefined;
}
