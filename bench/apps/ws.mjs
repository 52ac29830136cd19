// WebSocket echo: each message goes back as it came, text or binary. Plain GET
// answers 200, for health checks. WSS where TLS_CERT and TLS_KEY are given.

import { WebSocketServer } from "ws";
import { createServer, listen } from "./serve.mjs";

const server = createServer((_req, res) => {
  res.writeHead(200, { "Content-Type": "text/plain", "Content-Length": 3 });
  res.end("ok\n");
});

const sockets = new WebSocketServer({
  noServer: true,
  perMessageDeflate: false,
  clientTracking: false,
});

server.on("upgrade", (req, socket, head) => sockets.handleUpgrade(req, socket, head, echo));

function echo(ws) {
  // A client that breaks the protocol or the connection; ws closes it.
  ws.on("error", () => {});
  ws.on("message", (data, binary) => ws.send(data, { binary }));
}

listen(server);
