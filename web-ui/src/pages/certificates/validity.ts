// How long a certificate is good for, and what another one would change. Pure.

import type { Certificate, Listener, UploadCommit } from "../../api/types";
import type { StateName } from "../../components/state-mark";
import { DAY } from "../../format/durations";
import { count } from "../../format/numbers";

/** As the control plane asks for attention. */
const SOON_DAYS = 14;
const FAR_DAYS = 2 * 365;

export function validityState(notAfter: string, now: number): StateName {
  const left = Date.parse(notAfter) - now;
  if (left <= 0) return "down";
  return left < SOON_DAYS * DAY ? "warning" : "up";
}

/** `ended`, `5 hours left`, `62 days left`, `12 years left`. */
export function leftWords(notAfter: string, now: number): string {
  const left = Date.parse(notAfter) - now;
  if (Number.isNaN(left)) return "not known";
  if (left <= 0) return "ended";
  const days = Math.floor(left / DAY);
  if (days === 0) return "less than a day left";
  if (days > FAR_DAYS) return `${count(Math.floor(days / 365))} years left`;
  return `${count(days)} ${days === 1 ? "day" : "days"} left`;
}

/** Server names that listeners route or check by, which a certificate has to cover. */
export function covers(names: string[], host: string): boolean {
  const wanted = host.toLowerCase();
  return names.some((name) => {
    if (name === wanted) return true;
    // A wildcard stands for one label (RFC 6125 section 6.4.3).
    return name.startsWith("*.") && wanted.slice(wanted.indexOf(".")) === name.slice(1);
  });
}

/** Names that are new, and names that are lost, with another certificate. */
export function namesChange(
  before: string[],
  after: string[],
): { gained: string[]; lost: string[] } {
  return {
    gained: after.filter((name) => !before.includes(name)),
    lost: before.filter((name) => !after.includes(name)),
  };
}

/** A name for what was pasted: its first DNS name, as names here are written. */
export function suggestedName(dnsNames: string[]): string {
  const [first = ""] = dnsNames;
  return first.replace(/^\*\./, "wildcard.").toLowerCase();
}

export interface UploadFact {
  mark: StateName;
  text: string;
}

/** What an upload comes to, in numbers. */
export function uploadFacts(
  commit: UploadCommit,
  before: Certificate | undefined,
  holders: number,
  now: number,
): UploadFact[] {
  const { dns_names, not_after } = commit.uploaded;
  const facts: UploadFact[] = [
    {
      mark: validityState(not_after, now),
      text: `For ${dns_names.join(", ") || "no name"}: ${leftWords(not_after, now)}${
        before ? `, instead of ${leftWords(before.not_after, now)}` : ""
      }.`,
    },
  ];
  if (before) {
    const { gained, lost } = namesChange(before.dns_names, dns_names);
    if (gained.length > 0) facts.push({ mark: "up", text: `Gained: ${gained.join(", ")}.` });
    if (lost.length > 0) facts.push({ mark: "warning", text: `Lost: ${lost.join(", ")}.` });
  }
  if (!commit.changed) facts.push({ mark: "unknown", text: "It is the one that is here already." });
  else facts.push(whoGetsIt(before?.used_by ?? [], holders));
  for (const warning of commit.warnings ?? []) facts.push({ mark: "warning", text: warning });
  return facts;
}

function whoGetsIt(usedBy: string[], holders: number): UploadFact {
  if (usedBy.length === 0)
    return { mark: "unknown", text: "No listener names it yet: no agent gets it." };
  const agents = holders === 1 ? "1 agent gets it" : `${count(holders)} agents get it`;
  return {
    mark: "up",
    text: `${agents}, for ${usedBy.join(", ")}. New handshakes use it; no connection is closed.`,
  };
}

/** The listeners that name a certificate, and what each does with it. */
export function usersOf(name: string, listeners: Listener[]): Listener[] {
  return listeners.filter((listener) => listener.tls?.certificates.includes(name));
}
