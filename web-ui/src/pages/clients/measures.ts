// What clients are ranked by: its words, and how its amounts are written.

import type { Measure, Window } from "../../api/types";
import { bytes } from "../../format/bytes";
import { count } from "../../format/numbers";

export const MEASURES = [
  { value: "live", label: "Live" },
  { value: "connections", label: "Connections" },
  { value: "bytes", label: "Bytes" },
  { value: "handshake_failures", label: "Failed handshakes" },
  { value: "refused", label: "Refused" },
] as const satisfies readonly { value: Measure; label: string }[];

export const WINDOWS = [
  { value: "1m", label: "1 minute" },
  { value: "1h", label: "1 hour" },
  { value: "24h", label: "24 hours" },
] as const satisfies readonly { value: Window; label: string }[];

/** Of an amount, as the head of its column. */
export const AMOUNTS: Record<Measure, string> = {
  live: "Live connections",
  connections: "New connections",
  bytes: "Bytes, both ways",
  handshake_failures: "Failed handshakes",
  refused: "Refused connections",
};

export function amountText(measure: Measure, value: number): string {
  return measure === "bytes" ? bytes(value) : count(value);
}

/** `1,204–1,210`; one number where both ends read alike. */
export function rangeText(measure: Measure, least: number, most: number): string {
  const [from, to] = [amountText(measure, Math.max(0, least)), amountText(measure, most)];
  return from === to ? from : `${from}–${to}`;
}

/** The address that leads to a client's page; an IPv6 /64 goes by its first address. */
export function clientPath(client: string): string {
  return `/clients/${encodeURIComponent(client.split("/")[0] ?? client)}`;
}
