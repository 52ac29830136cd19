// The line that starts an agent, and how far one that was started has come. Pure.

import type { Agent, Listener, Role } from "../../api/types";

export interface LinkAddress {
  host: string;
  port: string;
}

/**
 * Where agents reach this control plane: the host that the page came from, which is
 * reached from outside, with the port of the link.
 */
export function linkAddress(hostname: string, replica: string | undefined): string {
  const host = hostname.includes(":") && !hostname.startsWith("[") ? `[${hostname}]` : hostname;
  const port = replica?.match(/:(\d+)$/)?.[1] ?? "7444";
  return `${host}:${port}`;
}

/**
 * One line for any POSIX shell. `printf` is a builtin, so the token is in no process's
 * arguments; it goes in by standard input.
 */
export function joinLine(token: string, controlPlane: string, stateDir: string): string {
  return (
    `printf %s '${token}' | tidegate-agent run --control-plane ${controlPlane} ` +
    `--state-dir ${stateDir} --join-token-file -`
  );
}

export interface Step {
  title: string;
  done: boolean;
  /** What stands in its way, or what it came to. */
  about?: string;
}

/** How far an agent has come; the first is before there is one. */
export function arrival(agent: Agent | undefined, uses: number, joined: number): Step[] {
  return [
    {
      title: "Joined",
      done: joined > 0,
      about: agent
        ? `${agent.address}, ${joined} of ${uses}`
        : "waiting for the line to be run on the machine",
    },
    { title: "Connected", done: agent?.connected ?? false },
    {
      title: "Runs what is wanted",
      done: agent?.in_sync ?? false,
      ...(agent?.state === "failed" && {
        about: agent.mistakes.map(({ pointer, message }) => `${pointer} ${message}`).join("; "),
      }),
      ...(agent?.applied && { about: `revision ${agent.applied.revision}` }),
    },
    {
      title: "Reports what it sees",
      done: (agent?.listeners.length ?? 0) > 0,
      ...(agent?.in_sync &&
        agent.listeners.length === 0 && {
          about: "it serves no listener yet: none selects its role and labels",
        }),
    },
  ];
}

/** Labels that listeners of a role select: what a new agent is of use with. */
export function suggestedLabels(listeners: Listener[], role: Role): string[] {
  const written = listeners
    .filter((listener) => listener.role === role)
    .map((listener) =>
      Object.entries(listener.agents ?? {})
        .map(([key, value]) => `${key}=${value}`)
        .join(", "),
    )
    .filter((labels) => labels !== "");
  return [...new Set(written)];
}

/** Labels as typed; `undefined` where a part is none. */
export function readLabels(text: string): Record<string, string> | undefined {
  const labels: Record<string, string> = {};
  for (const part of text.split(",").map((one) => one.trim())) {
    if (part === "") continue;
    const [key, ...rest] = part.split("=");
    const value = rest.join("=").trim();
    if (!key?.trim() || value === "") return undefined;
    labels[key.trim()] = value;
  }
  return labels;
}
