// From a place in the document (JSON pointer) to its line in the text, and back from what
// others changed to what was typed. Pure; reading and patching are the libraries'.

import { applyPatch, createPatch } from "diff";
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from "yaml";
import { pointerPath } from "../../api/problem";

export interface Mark {
  /** From 1. */
  line: number;
  pointer: string;
  message: string;
}

/** The line of each place; the nearest that is there, where the place itself is not. */
export function marksOf(text: string, places: { pointer: string; detail: string }[]): Mark[] {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const lineOf = (offset: number) => lines.linePos(offset).line;
  return places
    .map(({ pointer, detail }) => ({
      line: document.contents
        ? lineOf(offsetOf(document.contents as Node, pointerPath(pointer)))
        : 1,
      pointer,
      message: detail,
    }))
    .toSorted((a, b) => a.line - b.line);
}

/** Where a place begins: its key, where it has one. */
function offsetOf(root: Node, path: string[]): number {
  let node: Node = root;
  let offset = node.range?.[0] ?? 0;
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === step);
      if (!pair) return offset;
      offset = (pair.key as Node).range?.[0] ?? offset;
      if (!pair.value) return offset;
      node = pair.value as Node;
    } else if (isSeq(node)) {
      const item = node.items[Number(step)] ?? node.items.find((one) => nameOf(one) === step);
      if (!item) return offset;
      node = item as Node;
      offset = node.range?.[0] ?? offset;
    } else return offset;
  }
  return offset;
}

/** Resources are named, too: agents point at them by name. */
function nameOf(item: unknown): unknown {
  return isMap(item) ? item.get("name") : undefined;
}

/** What keeps a text from being YAML at all, with its line. */
export function syntaxMistakes(text: string): Mark[] {
  const { errors } = parseDocument(text);
  return errors.map((error) => ({
    line: error.linePos?.[0]?.line ?? 1,
    pointer: "",
    message: error.message.split("\n")[0] ?? error.message,
  }));
}

/**
 * What was typed, on top of what others wrote meanwhile; nothing where both touch the same
 * lines.
 */
export function merged(base: string, mine: string, theirs: string): string | undefined {
  // One line around a change tells where it belongs; more would only refuse neighbours.
  const patch = createPatch("document", base, mine, undefined, undefined, { context: 1 });
  const patched = applyPatch(theirs, patch);
  return patched === false ? undefined : patched;
}

/** A document to begin with: the canonical four resources, with a certificate that exists. */
export function example(certificates: string[]): string {
  const [certificate = "play"] = certificates;
  return `listeners:
  - name: edge              # on the balancers
    role: balancer
    agents: { tier: edge }  # labels; every balancer without this line
    bind: ":443"
    pool: game-tls
  - name: game-tls          # beside every app
    role: terminator
    agents: { app: game }
    bind: ":8443"
    tls: { certificates: [${certificate}] }
    mode: http              # WebSockets included
    client_ip: forwarded
    pool: game-node
pools:
  - name: game-tls
    balance: least_connections
    proxy_protocol: v2
    discover: { listener: game-tls }
  - name: game-node
    balance: least_connections
    backends: [{ address: ":3000" }, { address: ":3001" }]
    health_check: { http: { path: /health }, interval: 1s }
`;
}
