// Fails when a first visit loads more than the limit: the entry's scripts and styles with
// all they import at once, and those of the overview, gzipped.
//
//   npm run build && npm run size

import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMIT_KB = 300;
const FIRST_PAGE = "src/pages/overview/overview-page.tsx";
const dist = new URL("../dist/", import.meta.url);
const manifest = JSON.parse(readFileSync(new URL(".vite/manifest.json", dist), "utf8"));

const files = new Set();
const seen = new Set();
follow("index.html");
follow(FIRST_PAGE);

let total = 0;
for (const file of [...files].sort()) {
  const size = gzipSync(readFileSync(new URL(file, dist)), { level: 9 }).length;
  total += size;
  console.log(`${(size / 1024).toFixed(1).padStart(8)} KB  ${file}`);
}
console.log(`${(total / 1024).toFixed(1).padStart(8)} KB  first load, of ${LIMIT_KB} KB`);
process.exit(total > LIMIT_KB * 1024 ? 1 : 0);

function follow(key) {
  if (seen.has(key)) return;
  seen.add(key);
  const chunk = manifest[key];
  if (!chunk) throw new Error(`${key} is not in the build's manifest`);
  files.add(chunk.file);
  for (const css of chunk.css ?? []) files.add(css);
  for (const imported of chunk.imports ?? []) follow(imported);
}
