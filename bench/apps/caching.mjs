// A file server that reads each file of DATA once, at its first request, and
// answers from memory ever after: 200 with an ETag, 304 to who has it already.
// HTTPS where TLS_CERT and TLS_KEY are given.

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createServer, dataDirectory, listen } from "./serve.mjs";

const data = dataDirectory();

// A bare name, so that no path leaves DATA: no slash, no escape, no leading dot.
const FILE = /^\/([\w-][\w.-]*)(?:\?|$)/;

const cached = new Map();
// Who asks for a file while it is read waits for the same reading.
const readings = new Map();

function answer(req, res) {
  if (req.method !== "GET" && req.method !== "HEAD") {
    return empty(res, 405, { Allow: "GET, HEAD" });
  }
  const name = FILE.exec(req.url)?.[1];
  if (!name) return empty(res, 404);
  const file = cached.get(name);
  if (file) return send(req, res, file);
  reading(name).then(
    (file) => send(req, res, file),
    () => empty(res, 404),
  );
}

function reading(name) {
  if (!readings.has(name)) {
    readings.set(
      name,
      read(name).finally(() => readings.delete(name)),
    );
  }
  return readings.get(name);
}

async function read(name) {
  const body = await readFile(join(data, name));
  const etag = `"${createHash("sha256").update(body).digest("base64url")}"`;
  const file = { body, etag };
  cached.set(name, file);
  return file;
}

function send(req, res, { body, etag }) {
  if (matches(req.headers["if-none-match"], etag)) {
    return res.writeHead(304, { ETag: etag }).end();
  }
  res.writeHead(200, {
    "Content-Type": "application/octet-stream",
    "Content-Length": body.length,
    ETag: etag,
  });
  res.end(body);
}

/** If-None-Match compares weakly: RFC 9110, 13.1.2. No tag of ours has a comma. */
function matches(ifNoneMatch, etag) {
  if (!ifNoneMatch) return false;
  return ifNoneMatch
    .split(",")
    .map((tag) => tag.trim().replace(/^W\//, ""))
    .some((tag) => tag === "*" || tag === etag);
}

function empty(res, status, headers = {}) {
  res.writeHead(status, { ...headers, "Content-Length": 0 }).end();
}

listen(createServer(answer));
