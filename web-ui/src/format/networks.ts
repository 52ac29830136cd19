// Networks as policies have them: ADDRESS/LENGTH, or one address. An IPv4-mapped one means
// the IPv4 one, as the control plane has it.

export interface Network {
  family: 4 | 6;
  /** The address as a number of 32 or 128 bits. */
  bits: bigint;
  length: number;
}

const WIDTH = { 4: 32, 6: 128 } as const;
const MAPPED = 0xffffn << 32n;

/** What is written, or nothing when it is no network. */
export function parseNetwork(text: string): Network | undefined {
  const [address = "", lengthText, ...more] = text.trim().split("/");
  if (more.length > 0) return undefined;
  const family = address.includes(":") ? 6 : 4;
  const bits = family === 6 ? parseV6(address) : parseV4(address);
  if (bits === undefined) return undefined;
  const length = lengthText === undefined ? WIDTH[family] : parseLength(lengthText, WIDTH[family]);
  if (length === undefined) return undefined;
  if (family === 6 && bits >> 32n === MAPPED >> 32n && length >= 96)
    return { family: 4, bits: bits & 0xffffffffn, length: length - 96 };
  return { family, bits, length };
}

/** Why a network that can be read is refused all the same. */
export function networkFault(network: Network): string | undefined {
  const host = BigInt(WIDTH[network.family] - network.length);
  if ((network.bits & ((1n << host) - 1n)) === 0n) return undefined;
  const clean = formatNetwork({ ...network, bits: (network.bits >> host) << host });
  return `There are bits after the length. The network is ${clean}.`;
}

/** Whether all of `inner` lies in `outer`. */
export function contains(outer: Network, inner: Network): boolean {
  if (outer.family !== inner.family || outer.length > inner.length) return false;
  const host = BigInt(WIDTH[outer.family] - outer.length);
  return outer.bits >> host === inner.bits >> host;
}

export function overlaps(a: Network, b: Network): boolean {
  return contains(a, b) || contains(b, a);
}

export function formatNetwork({ family, bits, length }: Network): string {
  return `${family === 4 ? formatV4(bits) : formatV6(bits)}/${length}`;
}

function parseLength(text: string, most: number): number | undefined {
  if (!/^\d{1,3}$/.test(text)) return undefined;
  const length = Number(text);
  return length <= most ? length : undefined;
}

function parseV4(text: string): bigint | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  let bits = 0n;
  for (const part of parts) {
    // A leading zero might be meant as octal: nobody takes it.
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    bits = (bits << 8n) | BigInt(part);
  }
  return bits;
}

function parseV6(text: string): bigint | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map(groupsOf);
  if (head === undefined || (halves.length === 2 && tail === undefined)) return undefined;
  const missing = 8 - head.length - (tail?.length ?? 0);
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  const groups = [...head, ...Array<number>(missing).fill(0), ...(tail ?? [])];
  return groups.reduce((bits, group) => (bits << 16n) | BigInt(group), 0n);
}

/** Groups of 16 bits; the last may be an IPv4 address. */
function groupsOf(text: string): number[] | undefined {
  if (text === "") return [];
  const groups: number[] = [];
  const parts = text.split(":");
  for (const [index, part] of parts.entries()) {
    if (part.includes(".") && index === parts.length - 1) {
      const v4 = parseV4(part);
      if (v4 === undefined) return undefined;
      groups.push(Number(v4 >> 16n), Number(v4 & 0xffffn));
    } else if (/^[0-9a-f]{1,4}$/i.test(part)) groups.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return groups;
}

function formatV4(bits: bigint): string {
  return [24n, 16n, 8n, 0n].map((shift) => String((bits >> shift) & 0xffn)).join(".");
}

/** RFC 5952: the longest run of zeros is left out. */
function formatV6(bits: bigint): string {
  const groups = Array.from({ length: 8 }, (_, index) =>
    Number((bits >> BigInt(112 - 16 * index)) & 0xffffn).toString(16),
  ).join(":");
  const runs = groups.match(/\b0(:0)+\b/g) ?? [];
  const longest = runs.reduce((best, run) => (run.length > best.length ? run : best), "");
  if (longest === "") return groups;
  const at = groups.indexOf(longest);
  const before = groups.slice(0, at).replace(/:$/, "");
  const after = groups.slice(at + longest.length).replace(/^:/, "");
  return `${before}::${after}`;
}
