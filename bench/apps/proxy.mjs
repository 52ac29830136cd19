// A Node.js proxy for HTTP and WebSockets to TARGET (http://HOST:PORT):
// http-proxy with its defaults, hence a new connection to TARGET per request,
// as in the "balancerbattle" comparison of 2013. HTTPS in front where TLS_CERT
// and TLS_KEY are given.

import httpProxy from "http-proxy";
import { createServer, fail, listen } from "./serve.mjs";

// http-proxy 1.18 uses what newer Node.js versions warn about.
process.noDeprecation = true;

const target = process.env.TARGET || fail("TARGET: where to, as in http://127.0.0.1:3000");
const proxy = httpProxy.createProxyServer({ target, ws: true });

// `to` is the answer of a request, or the client's socket of an upgrade.
proxy.on("error", (_error, _req, to) => {
  if (!to.writeHead || to.headersSent) return to.destroy();
  to.writeHead(502, { "Content-Length": 0 }).end();
});

// An answer that breaks off: http-proxy would leave the client waiting for the rest.
proxy.on("proxyRes", (proxyRes, _req, res) => proxyRes.on("error", () => res.destroy()));

const server = createServer((req, res) => proxy.web(req, res));
server.on("upgrade", (req, socket, head) => {
  // http-proxy listens only once TARGET has agreed: until then a reset would be thrown.
  socket.on("error", () => socket.destroy());
  proxy.ws(req, socket, head);
});

listen(server);
