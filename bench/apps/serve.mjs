// How each of these apps listens: where the environment says, and with the
// same timers, so that what is compared is the app. SIGTERM ends one at once
// because nobody handles it.

import { readFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer as createHttpsServer } from "node:https";

const { HOST = "127.0.0.1", PORT = "3000", TLS_CERT, TLS_KEY } = process.env;

// The kernel's own limit (somaxconn): thousands connect in one burst.
const BACKLOG = 4096;

const TIMERS = {
  // As long as nginx keeps one by default; Node.js closes after 5 s.
  keepAliveTimeout: 75_000,
  // Also counted from accept, for a connection that has asked nothing yet:
  // it must not go earlier than one that has.
  headersTimeout: 120_000,
  requestTimeout: 300_000,
};

/** An HTTP server, or HTTPS where TLS_CERT and TLS_KEY name PEM files. */
export function createServer(handler) {
  if (!TLS_CERT && !TLS_KEY) return createHttpServer(TIMERS, handler);
  if (!TLS_CERT || !TLS_KEY) fail("TLS_CERT and TLS_KEY: both or neither");
  const pem = { cert: readFileSync(TLS_CERT), key: readFileSync(TLS_KEY) };
  return createHttpsServer({ ...TIMERS, ...pem }, handler);
}

/** Listens on HOST and PORT (0: any), and says so in one line. */
export function listen(server) {
  server.once("error", (error) => fail(`cannot listen on ${HOST}:${PORT}: ${error.message}`));
  server.listen({ host: HOST, port: Number(PORT), backlog: BACKLOG }, () => {
    const { address, port, family } = server.address();
    console.log(`listening on ${family === "IPv6" ? `[${address}]` : address}:${port}`);
  });
}

/** The directory of the files to serve. */
export function dataDirectory() {
  return process.env.DATA || fail("DATA: the directory of the files to serve");
}

/** Ends the app before it serves: its environment is not right. */
export function fail(message) {
  console.error(message);
  process.exit(1);
}
