// The PROXY protocol (v1 and v2) in front of node:http, which does not speak it.
//
// Every connection must start with a header: whoever can connect decides which
// client address the app believes, so listen only where the proxy alone can
// reach. Format: https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt

import { isIP } from "node:net";

const V2_SIGNATURE = Buffer.from("0d0a0d0a000d0a515549540a", "hex");
const V2_FIXED_BYTES = 16;
// Addresses take at most 216 bytes; the rest is room for TLVs.
const V2_MAX_BYTES = V2_FIXED_BYTES + 4096;
// The longest v1 line, CR LF included, by the specification.
const V1_MAX_BYTES = 107;
const V1_START = Buffer.from("PROXY ");
const DEADLINE_MS = 5000;

/**
 * Makes an http.Server require a PROXY header on every connection. What it says
 * is then `req.socket.proxy`: `{ source: { address, port } }`, or `{}` where the
 * proxy speaks for itself (a health check: v2 LOCAL, v1 UNKNOWN).
 */
export function requireProxyProtocol(server) {
  // node:http starts parsing in its 'connection' listener: hold that back until
  // the header is off the stream.
  const startHttp = server.listeners("connection");
  server.removeAllListeners("connection");
  server.on("connection", (socket) => {
    readHeader(socket, (header) => {
      socket.proxy = header;
      for (const listener of startHttp) listener.call(server, socket);
      socket.resume();
    });
  });
}

function readHeader(socket, done) {
  let seen = Buffer.alloc(0);
  const refuse = () => socket.destroy();
  const deadline = setTimeout(refuse, DEADLINE_MS);
  const stop = () => {
    clearTimeout(deadline);
    socket.off("data", read).off("end", refuse).off("error", refuse).off("close", stop);
  };
  const read = (chunk) => {
    // A header may come in any number of segments, and bytes of HTTP after it.
    seen = Buffer.concat([seen, chunk]);
    const header = parseHeader(seen);
    if (header === null) return;
    stop();
    if (header === undefined) return refuse();
    socket.pause();
    const rest = seen.subarray(header.length);
    if (rest.length > 0) socket.unshift(rest);
    done(header.source ? { source: header.source } : {});
  };
  socket.on("data", read).on("end", refuse).on("error", refuse).on("close", stop);
}

/**
 * `{ length, source? }` of the header at the start of `bytes`, `null` while more
 * bytes are needed, `undefined` when this can never become a header.
 */
export function parseHeader(bytes) {
  if (startsAlike(bytes, V2_SIGNATURE)) return parseV2(bytes);
  if (startsAlike(bytes, V1_START)) return parseV1(bytes);
  return undefined;
}

/** Whether `bytes` starts with `prefix`, as far as both go. */
function startsAlike(bytes, prefix) {
  const both = Math.min(bytes.length, prefix.length);
  return bytes.subarray(0, both).equals(prefix.subarray(0, both));
}

function parseV2(bytes) {
  if (bytes.length < V2_FIXED_BYTES) return null;
  const [versionAndCommand, family] = bytes.subarray(12);
  const length = V2_FIXED_BYTES + bytes.readUInt16BE(14);
  const local = versionAndCommand === 0x20;
  if ((!local && versionAndCommand !== 0x21) || length > V2_MAX_BYTES) return undefined;
  if (bytes.length < length) return null;
  const body = bytes.subarray(V2_FIXED_BYTES, length);
  // AF_INET and AF_INET6 over a stream; with anything else the header says nothing.
  if (local || (family !== 0x11 && family !== 0x21)) return { length };
  const size = family === 0x11 ? 4 : 16;
  if (body.length < 2 * size + 4) return undefined;
  const address = size === 4 ? body.subarray(0, 4).join(".") : formatV6(body.subarray(0, 16));
  return { length, source: { address, port: body.readUInt16BE(2 * size) } };
}

function formatV6(bytes) {
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(2 * i).toString(16));
  // The URL parser writes the short form of RFC 5952.
  return new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1);
}

function parseV1(bytes) {
  const end = bytes.subarray(0, V1_MAX_BYTES).indexOf("\r\n");
  if (end < 0) return bytes.length < V1_MAX_BYTES ? null : undefined;
  const length = end + 2;
  const line = bytes.toString("latin1", 0, end);
  if (/^PROXY UNKNOWN( |$)/.test(line)) return { length };
  const fields = /^PROXY (TCP4|TCP6) (\S+) (\S+) (\d{1,5}) (\d{1,5})$/.exec(line);
  if (!fields) return undefined;
  const [, protocol, source, destination, sourcePort, destinationPort] = fields;
  const family = protocol === "TCP4" ? 4 : 6;
  if (isIP(source) !== family || isIP(destination) !== family) return undefined;
  if (Number(sourcePort) > 65535 || Number(destinationPort) > 65535) return undefined;
  return { length, source: { address: source, port: Number(sourcePort) } };
}
