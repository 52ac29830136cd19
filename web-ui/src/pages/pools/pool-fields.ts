// The common places of a pool and of a backend, as fields. All others are in the JSON.

import type { Field } from "../../components/resource-form/fields";

export function poolFields(listeners: string[]): Field[] {
  return [
    { pointer: "/name", label: "Name", kind: "text", required: true, fixed: true },
    {
      pointer: "/balance",
      label: "Balance",
      kind: "choice",
      choices: ["round_robin", "least_connections", "random_two", "source_hash"],
      placeholder: "least_connections",
    },
    {
      pointer: "/discover/listener",
      label: "Discover",
      kind: "choice",
      choices: listeners,
      placeholder: "nobody",
      help: "Every agent that serves this listener is a backend.",
    },
    {
      pointer: "/proxy_protocol",
      label: "PROXY protocol",
      kind: "choice",
      choices: ["none", "v1", "v2"],
      placeholder: "none",
    },
    {
      pointer: "/health_check/http/path",
      label: "HTTP check: path",
      kind: "text",
      placeholder: "/health",
    },
    { pointer: "/health_check/interval", label: "Check interval", kind: "text", placeholder: "2s" },
    { pointer: "/health_check/timeout", label: "Check timeout", kind: "text", placeholder: "1s" },
    { pointer: "/health_check/rise", label: "Rise", kind: "number", placeholder: "2" },
    { pointer: "/health_check/fall", label: "Fall", kind: "number", placeholder: "3" },
    {
      pointer: "/all_down",
      label: "When all are down",
      kind: "choice",
      choices: ["backup", "fail_open", "refuse"],
      placeholder: "refuse",
    },
    { pointer: "/slow_start", label: "Slow start", kind: "text", placeholder: "none" },
    { pointer: "/retries", label: "Retries", kind: "number" },
  ];
}

export const backendFields: Field[] = [
  {
    pointer: "/address",
    label: "Address",
    kind: "text",
    required: true,
    placeholder: "10.0.0.7:3000 or :3000",
    help: "`:3000` is on each agent's own machine.",
  },
  {
    pointer: "/name",
    label: "Name",
    kind: "text",
    fixed: true,
    placeholder: "the address",
    help: "Health and counts hang on it.",
  },
  { pointer: "/weight", label: "Weight", kind: "number", placeholder: "1" },
  {
    pointer: "/max_connections",
    label: "Most connections",
    kind: "number",
    placeholder: "no bound",
    help: "On each agent; more wait in the pool's queue.",
  },
  {
    pointer: "/backup",
    label: "Backup",
    kind: "switch",
    help: "Serves only when the others are down.",
  },
];
