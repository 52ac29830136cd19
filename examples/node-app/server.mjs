// A sample app to put behind Tidegate: plain HTTP and WebSocket, and a few
// routes that show what the app sees of its clients.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { WebSocketServer } from "ws";
import { requireProxyProtocol } from "./proxy-protocol.mjs";

const { values: args } = parseArgs({
  options: { port: { type: "string" }, host: { type: "string" }, name: { type: "string" } },
});
const settings = {
  port: Number(args.port ?? process.env.PORT ?? 3000),
  host: args.host ?? process.env.HOST ?? "127.0.0.1",
  name: args.name ?? process.env.NAME ?? `node-${process.pid}`,
  keepAliveMs: Number(process.env.KEEP_ALIVE_MS ?? 5000),
  proxyProtocol: process.env.PROXY_PROTOCOL === "1",
};

const MAX_BYTES = 4 * 1024 ** 3;
const MAX_SLOW_MS = 10 * 60 * 1000;
const MAX_MESSAGE_BYTES = 16 * 1024 ** 2;
// A client that sends faster than it reads waits, instead of filling memory.
const MAX_QUEUED_BYTES = 1024 ** 2;

const CSP = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'", // covers the WebSocket to this host
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const page = Object.fromEntries(
  [
    ["/", "page.html", "text/html; charset=utf-8"],
    ["/page.css", "page.css", "text/css; charset=utf-8"],
    ["/page.js", "page.js", "text/javascript; charset=utf-8"],
    ["/icon.svg", "icon.svg", "image/svg+xml"],
  ].map(([path, file, type]) => {
    const body = readFileSync(new URL(`public/${file}`, import.meta.url));
    return [path, { type, body }];
  }),
);

let healthy = true;
let connections = 0;

const server = createServer((req, res) => {
  route(req, res).catch((error) => {
    // The client went away in the middle of an answer: its right, not our error.
    if (res.destroyed || req.destroyed) return res.destroy();
    console.error(error);
    if (res.headersSent) return res.destroy();
    text(res, 500, "error\n");
  });
});
server.keepAliveTimeout = settings.keepAliveMs;
if (settings.proxyProtocol) requireProxyProtocol(server);
server.on("connection", (socket) => {
  connections += 1;
  socket.once("close", () => {
    connections -= 1;
  });
});

async function route(req, res) {
  const path = req.url.split("?", 1)[0];
  const [, name, argument] = path.split("/");
  if (path === "/echo") {
    if (req.method !== "POST") return text(res, 405, "POST something\n", { Allow: "POST" });
    if (req.headers["content-length"]) {
      res.setHeader("Content-Length", req.headers["content-length"]);
    }
    res.setHeader("Content-Type", req.headers["content-type"] ?? "application/octet-stream");
    return pipeline(req, res);
  }
  if (req.method !== "GET" && req.method !== "HEAD") {
    return text(res, 405, "method not allowed\n", { Allow: "GET, HEAD" });
  }
  if (Object.hasOwn(page, path)) return file(res, page[path]);
  if (path === "/health") return text(res, healthy ? 200 : 503, healthy ? "ok" : "unhealthy");
  if (path === "/whoami") return json(res, whoami(req));
  if (path === "/stats") return json(res, { connections, websockets: sockets.clients.size });
  if (name === "bytes") return bytes(req, res, count(argument, MAX_BYTES));
  if (name === "slow") return slow(res, count(argument, MAX_SLOW_MS));
  return text(res, 404, "not found\n");
}

function whoami(req) {
  return {
    name: settings.name,
    pid: process.pid,
    remote_address: req.socket.remoteAddress,
    client_ip: clientIp(req),
    method: req.method,
    url: req.url,
    http_version: req.httpVersion,
    headers: req.headers,
    raw_headers: req.rawHeaders,
  };
}

/**
 * The PROXY header's source, else the first of X-Forwarded-For, else the peer.
 * The first is right only because the terminator removes what clients forge,
 * and because nobody but the terminator reaches this port.
 */
function clientIp(req) {
  const forwarded = req.headers["x-forwarded-for"]?.split(",", 1)[0].trim();
  const address = req.socket.proxy?.source?.address || forwarded || req.socket.remoteAddress;
  return address?.replace(/^::ffff:(?=\d+\.)/, "");
}

function file(res, { type, body }) {
  res.writeHead(200, {
    "Content-Type": type,
    "Content-Length": body.length,
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
  });
  res.end(body);
}

function bytes(req, res, total) {
  if (total === undefined) return text(res, 400, `/bytes/N, N up to ${MAX_BYTES}\n`);
  res.writeHead(200, { "Content-Type": "application/octet-stream", "Content-Length": total });
  if (req.method === "HEAD") return res.end();
  return pipeline(Readable.from(chunks(total)), res);
}

function* chunks(total) {
  const chunk = Buffer.alloc(64 * 1024, "tidegate\n");
  for (let left = total; left > 0; left -= chunk.length) {
    yield left < chunk.length ? chunk.subarray(0, left) : chunk;
  }
}

async function slow(res, ms) {
  if (ms === undefined) return text(res, 400, `/slow/MS, MS up to ${MAX_SLOW_MS}\n`);
  const gone = new AbortController();
  res.once("close", () => gone.abort());
  await sleep(ms, undefined, { signal: gone.signal });
  text(res, 200, `after ${ms} ms\n`);
}

/** A whole number from 0 to `max`, or undefined. */
function count(argument, max) {
  if (!/^\d{1,12}$/.test(argument ?? "")) return undefined;
  const value = Number(argument);
  return value <= max ? value : undefined;
}

function text(res, status, body, headers = {}) {
  res.writeHead(status, {
    "Content-Type": "text/plain; charset=utf-8",
    "Content-Length": Buffer.byteLength(body),
    ...headers,
  });
  res.end(body);
}

function json(res, value) {
  const body = `${JSON.stringify(value)}\n`;
  res.writeHead(200, {
    "Content-Type": "application/json",
    "Content-Length": Buffer.byteLength(body),
  });
  res.end(body);
}

const sockets = new WebSocketServer({
  server,
  perMessageDeflate: false,
  maxPayload: MAX_MESSAGE_BYTES,
});
sockets.on("connection", (ws, req) => {
  // A client that breaks the protocol or the connection; ws closes it.
  ws.on("error", () => {});
  ws.send(JSON.stringify({ hello: settings.name, client_ip: clientIp(req), headers: req.headers }));
  ws.on("message", (data, binary) => {
    ws.send(data, { binary }, () => {
      if (ws.isPaused && ws.bufferedAmount < MAX_QUEUED_BYTES) ws.resume();
    });
    if (ws.bufferedAmount > MAX_QUEUED_BYTES) ws.pause();
  });
});

process.on("SIGUSR2", () => {
  healthy = !healthy;
});
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, stop);

function stop() {
  server.close();
  for (const ws of sockets.clients) ws.close(1001, "going away");
  // Long enough for the close frames to leave; nobody's answer is waited for.
  setTimeout(() => process.exit(0), 100);
}

// ws passes the server's errors on, and expects them to be handled there.
sockets.on("error", (error) => {
  console.error(`cannot listen on ${settings.host}:${settings.port}: ${error.message}`);
  process.exit(1);
});
server.listen(settings.port, settings.host, () => {
  const { address, port, family } = server.address();
  console.log(`listening ${family === "IPv6" ? `[${address}]` : address}:${port}`);
});
