// The common places of a listener, as fields. All others are in the JSON.

import type { Field } from "../../components/resource-form/fields";

interface Names {
  pools: string[];
  policies: string[];
  certificates: string[];
}

export function listenerFields({ pools, policies, certificates }: Names): Field[] {
  return [
    { pointer: "/name", label: "Name", kind: "text", required: true, fixed: true },
    {
      pointer: "/role",
      label: "Role",
      kind: "choice",
      choices: ["balancer", "terminator"],
      required: true,
    },
    {
      pointer: "/bind",
      label: "Address",
      kind: "text",
      required: true,
      placeholder: ":443",
      help: "`:443` is on the agent's own address.",
    },
    {
      pointer: "/agents",
      label: "Agents",
      kind: "labels",
      placeholder: "all of the role",
      help: "Labels: tier=edge, zone=a",
    },
    { pointer: "/pool", label: "Pool", kind: "choice", choices: pools },
    {
      pointer: "/policy",
      label: "Policy",
      kind: "choice",
      choices: policies,
      placeholder: "everybody",
    },
    {
      pointer: "/tls/certificates",
      label: "Certificates",
      kind: "list",
      placeholder: certificates.join(", ") || "none uploaded yet",
      help: "Of a terminator.",
    },
    {
      pointer: "/mode",
      label: "Mode",
      kind: "choice",
      choices: ["http", "tcp"],
      help: "Of a terminator.",
    },
    {
      pointer: "/client_ip",
      label: "Client's address",
      kind: "choice",
      choices: ["forwarded", "proxy_v1", "proxy_v2", "transparent", "none"],
      help: "How the app learns it.",
    },
  ];
}
