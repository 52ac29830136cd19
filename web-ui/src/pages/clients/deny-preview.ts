// Reads what denying a network would do: a dry run of the write, and who is live in it.

import type { QueryClient } from "@tanstack/react-query";
import type { Read } from "../../api/client";
import { clientQuery, topClientsQuery } from "../../api/queries/clients";
import { applyConfig, configQuery } from "../../api/queries/config";
import { topologyQuery } from "../../api/queries/overview";
import { policyQuery, putPolicy } from "../../api/queries/policies";
import type { Client, Commit, FleetDocument, Policy } from "../../api/types";
import { contains, type Network, parseNetwork } from "../../format/networks";
import {
  denying,
  endings,
  type Hit,
  hitsOf,
  listenersOf,
  type Target,
  withNewPolicy,
} from "./deny-plan";

/** Of a wide network not every client is asked about. */
const CLIENTS_AT_MOST = 50;

/** The write itself, with the ETag it was planned from. */
type Write =
  | { kind: "policy"; policy: Policy; etag: string | undefined }
  | { kind: "config"; document: FleetDocument; etag: string | undefined };

export interface DenyPreview {
  commit: Commit;
  hits: Hit[];
  /** Connections that end, each counted once. */
  endings: number;
  /** There are more clients in the network than were asked about. */
  partial: boolean;
  listeners: string[];
  write: Write;
}

export async function readDeny(
  queries: QueryClient,
  client: string,
  network: Network,
  cidr: string,
  target: Target,
): Promise<DenyPreview> {
  const config = await queries.fetchQuery({ ...configQuery, staleTime: 0 });
  const listeners = listenersOf(config.value, target);
  const write = await plan(queries, config, cidr, target);
  const [commit, inside, topology] = await Promise.all([
    carryOut(write, { dryRun: true }),
    clientsIn(queries, client, network),
    queries.fetchQuery(topologyQuery).catch(() => undefined),
  ]);
  const hits = hitsOf(inside.clients, network, listeners);
  const edge = (topology?.listeners ?? []).filter((one) => one.edge).map(({ name }) => name);
  return { commit, hits, endings: endings(hits, edge), partial: inside.partial, listeners, write };
}

export function deny(write: Write): Promise<Commit> {
  return carryOut(write, { wait: true });
}

async function plan(
  queries: QueryClient,
  config: Read<FleetDocument>,
  cidr: string,
  target: Target,
): Promise<Write> {
  if (target.kind === "new") {
    const document = withNewPolicy(config.value, target.policy, cidr, target.listeners);
    return { kind: "config", document, etag: config.etag };
  }
  const { value, etag } = await queries.fetchQuery({ ...policyQuery(target.policy), staleTime: 0 });
  return { kind: "policy", policy: denying(value, cidr), etag };
}

function carryOut(write: Write, how: { dryRun?: boolean; wait?: boolean }): Promise<Commit> {
  const { etag } = write;
  return write.kind === "policy"
    ? putPolicy(write.policy, { ...how, etag })
    : applyConfig(write.document, { ...how, etag });
}

/** Those in the network who are live now, and the client whose page this is. */
async function clientsIn(
  queries: QueryClient,
  client: string,
  network: Network,
): Promise<{ clients: Client[]; partial: boolean }> {
  const top = await queries.fetchQuery({ ...topClientsQuery("live", "1m", 1000), staleTime: 0 });
  const inside = top.items.flatMap((item) => {
    const own = parseNetwork(item.client);
    return own && contains(network, own) && item.client !== client ? [item.client] : [];
  });
  const asked = [client, ...inside.slice(0, CLIENTS_AT_MOST - 1)];
  const clients = await Promise.all(
    asked.map((one) => queries.fetchQuery({ ...clientQuery(addressOf(one)), staleTime: 0 })),
  );
  return { clients, partial: inside.length >= CLIENTS_AT_MOST || top.items.length >= 1000 };
}

function addressOf(client: string): string {
  return client.split("/")[0] ?? client;
}
