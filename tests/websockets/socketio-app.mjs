// An app of socket.io: answers each event, and says one of its own.
// Usage: node socketio-app.mjs ADDRESS PORT

import { createServer } from "node:http";
import { Server } from "socket.io";

const [host, port] = process.argv.slice(2);
const name = `${host}:${port}`;
const server = createServer((_req, res) => res.end("ok"));
new Server(server).on("connection", (socket) => {
  socket.on("say", (text, answer) => {
    answer({ name, text, transport: socket.conn.transport.name });
    socket.emit("said", text);
  });
});
server.listen(Number(port), host, () => console.log(`listening ${name}`));
