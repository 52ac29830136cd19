// HTTP/2 as Node.js speaks it, without a library: requests beside each other, a large
// body both ways, and a WebSocket by extended CONNECT (RFC 8441).
// Usage: node h2.mjs https://ADDRESS:PORT NAME

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:http2";

const [origin, name] = process.argv.slice(2);
const session = connect(origin, { servername: name, rejectUnauthorized: false });
const base = { ":authority": name, ":scheme": "https" };
await once(session, "remoteSettings");
assert.equal(session.remoteSettings.enableConnectProtocol, true);

async function ask(headers, body) {
  const stream = session.request({ ...base, ...headers }, { endStream: !body });
  if (body) stream.end(body);
  const [answer] = await once(stream, "response");
  const hash = createHash("sha256");
  let size = 0;
  let text = "";
  for await (const chunk of stream) {
    size += chunk.length;
    hash.update(chunk);
    if (size < 65536) text += chunk;
  }
  return { answer, size, text, hash: hash.digest("hex") };
}

const seen = await Promise.all(Array.from({ length: 20 }, () => ask({ ":path": "/whoami" })));
for (const { answer, text } of seen) {
  assert.equal(answer[":status"], 200);
  assert.equal(JSON.parse(text).headers.host, name);
}

const head = await ask({ ":method": "HEAD", ":path": "/whoami" });
assert.equal(head.answer[":status"], 200);
assert.equal(head.size, 0);

const body = Buffer.alloc(8 << 20, "tidegate");
const echo = await ask({ ":method": "POST", ":path": "/echo" }, body);
assert.equal(echo.size, body.length);
assert.equal(echo.hash, createHash("sha256").update(body).digest("hex"));

const ws = session.request(
  { ...base, ":method": "CONNECT", ":protocol": "websocket", ":path": "/ws", "sec-websocket-version": "13" },
  { endStream: false },
);
const [accepted] = await once(ws, "response");
assert.equal(accepted[":status"], 200);
await once(ws, "data");
const message = Buffer.alloc(1000, "x");
// A masked text frame of 1000 bytes, with zeros for a mask (RFC 6455 section 5.2).
ws.write(Buffer.concat([Buffer.from([0x81, 0xfe, 0x03, 0xe8, 0, 0, 0, 0]), message]));
let received = Buffer.alloc(0);
while (!received.includes(message)) {
  const [chunk] = await once(ws, "data");
  received = Buffer.concat([received, chunk]);
}
ws.close();

console.log(`done ${seen.length + 3}`);
session.destroy();
