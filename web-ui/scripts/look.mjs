// Photographs pages in light and dark, at 1280 and 360 px, and asks axe-core about them.
//
//   npm run dev                       (or npm run preview, which has the real CSP)
//   npm run look -- [--url http://localhost:5173] [--out target/look] /pools '/clients?by=bytes'
//
// Exits with 1 when axe-core finds something serious, a page scrolls sideways, or the
// console shows an error.

import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: "string", default: "http://localhost:5173" },
    out: { type: "string", default: "target/look" },
    wait: { type: "string", default: "1200" },
  },
});
const paths = positionals.length > 0 ? positionals : ["/"];
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
mkdirSync(values.out, { recursive: true });

let failed = false;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: FLAGS,
});
try {
  for (const path of paths) for (const scheme of ["light", "dark"]) await look(path, scheme);
} finally {
  await browser.close();
}
process.exit(failed ? 1 : 0);

async function look(path, colorScheme) {
  // axe-core is put into the page by hand, which the CSP would forbid.
  const context = await browser.newContext({ colorScheme, bypassCSP: true });
  const page = await context.newPage();
  page.on("pageerror", (error) => complain(path, `error: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of (401|404)/.test(message.text()))
      complain(path, `console: ${message.text()}`);
  });
  for (const width of [1280, 360]) {
    await page.setViewportSize({ width, height: width > 400 ? 860 : 740 });
    // The stream of events never ends, so that the network is never idle.
    await page.goto(values.url + path, { waitUntil: "load" });
    await page.waitForTimeout(Number(values.wait));
    const name = path.replace(/[^a-z0-9]+/gi, "-").replace(/^-|-$/g, "") || "overview";
    const file = join(values.out, `${name}-${colorScheme}-${width}.png`);
    await page.screenshot({ path: file, fullPage: true });
    console.log(file);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (wide > 0) complain(path, `scrolls sideways by ${wide} px at ${width} px`);
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    for (const found of violations) {
      if (!["serious", "critical"].includes(found.impact)) continue;
      for (const node of found.nodes) complain(path, `${found.id} ${node.target} ${node.html}`);
    }
  }
  await context.close();
}

function complain(path, what) {
  failed = true;
  console.error(`${path}: ${what}`);
}
