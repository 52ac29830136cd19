// An app that sends back what comes, by npm's ws: with compression, with subprotocols,
// and with a health check. Usage: node echo.mjs ADDRESS PORT

import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const [host, port] = process.argv.slice(2);
const server = createServer((_req, res) => res.end("ok"));
const sockets = new WebSocketServer({
  server,
  perMessageDeflate: { threshold: 0 },
  handleProtocols: (offered) => (offered.has("chat.v1") ? "chat.v1" : false),
  maxPayload: 32 * 1024 ** 2,
  // Cases of group 9 send 65536 of them.
  maxFragments: 0,
});
sockets.on("headers", (headers, req) => {
  headers.push(`X-Seen: ${req.url} ${req.headers["x-case"]}`);
});
sockets.on("connection", (ws) => {
  // A client that breaks the protocol; ws closes it.
  ws.on("error", () => {});
  ws.on("message", (data, binary) => ws.send(data, { binary }));
});
server.listen(Number(port), host, () => console.log(`listening ${host}:${port}`));
