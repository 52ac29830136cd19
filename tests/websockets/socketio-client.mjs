// Clients of socket.io, each from an address of its own. Every request and every
// WebSocket is a new connection, to one balancer and the other in turn: what keeps a
// session of polling at one process is the balancers alone.
// Usage: node socketio-client.mjs CA.pem NAME FRONT,FRONT SOURCE,SOURCE,...
// Writes one line of JSON for each client: the process that answered.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Agent } from "node:https";
import { io } from "socket.io-client";

const EVENTS = 5;

const [authority, servername, fronts, sources] = process.argv.slice(2);
const balancers = fronts.split(",").map((front) => {
  const [host, port] = front.split(":");
  return { host, port: Number(port) };
});
const ca = readFileSync(authority);

/** Connects from `localAddress` to the balancers in turn. */
class Turns extends Agent {
  #turn = 0;

  constructor(localAddress) {
    super({ ca, servername, localAddress, keepAlive: false });
  }

  get turns() {
    return this.#turn;
  }

  createConnection(options, done) {
    const balancer = balancers[this.#turn++ % balancers.length];
    return super.createConnection({ ...options, ...balancer, servername, ca }, done);
  }
}

/** Says some things, each answered and repeated to us; the processes that answered. */
async function talk(socket, transport) {
  const names = new Set();
  for (let index = 0; index < EVENTS; index++) {
    const text = `${transport} ${index}`;
    const said = once(socket, "said");
    const answer = await socket.timeout(10_000).emitWithAck("say", text);
    assert.deepEqual(await said, [text]);
    assert.equal(answer.text, text);
    assert.equal(answer.transport, transport);
    names.add(answer.name);
  }
  return [...names];
}

async function connected(agent, transports) {
  const socket = io(`https://${servername}`, {
    agent,
    transports,
    forceNew: true,
    reconnection: false,
  });
  await new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("connect_error", reject);
  });
  socket.once("disconnect", (reason, details) => {
    if (reason !== "io client disconnect") fail(new Error(`${reason}: ${details?.description}`));
  });
  return socket;
}

async function client(source) {
  const agent = new Turns(source);
  const polling = await connected(agent, ["polling"]);
  const names = await talk(polling, "polling");
  polling.disconnect();
  assert.ok(agent.turns > EVENTS, "each request has a connection of its own");

  const upgrading = await connected(agent, ["polling", "websocket"]);
  const { engine } = upgrading.io;
  if (engine.transport.name !== "websocket") await once(engine, "upgrade");
  names.push(...(await talk(upgrading, "websocket")));
  upgrading.disconnect();
  assert.equal(new Set(names).size, 1, `one process for ${source}: ${names}`);
  return names[0];
}

function fail(error) {
  console.log(
    `failed ${error.message} ${error.description ?? ""} ${error.context?.responseText ?? ""}`,
  );
  process.exit(1);
}

const names = await Promise.all(sources.split(",").map(client)).catch(fail);
console.log(`done ${names.join(" ")}`);
process.exit(0);
