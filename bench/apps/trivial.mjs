// The least that an app can do: the files of DATA are in memory before the
// first request, and each answer is one write.

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { createServer, dataDirectory, listen } from "./serve.mjs";

const data = dataDirectory();
const bodies = new Map(
  readdirSync(data)
    .filter((name) => statSync(join(data, name)).isFile())
    .map((name) => [`/${name}`, readFileSync(join(data, name))]),
);

function answer(req, res) {
  const body = bodies.get(req.url);
  if (!body) return res.writeHead(404, { "Content-Length": 0 }).end();
  res.writeHead(200, {
    "Content-Type": "application/octet-stream",
    "Content-Length": body.length,
  });
  res.end(body);
}

listen(createServer(answer));
