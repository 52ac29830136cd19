// The sample app's page in a real Chromium: opens its WebSocket, echoes what is
// typed, asks nobody else for anything.
//
//   node page.mjs URL SCREENSHOT.png [CLIENT_IP]
//
// Prints one JSON line; exits with 0 when everything held, else with 1 and why.
// Beside the screenshot: SCREENSHOT-dark.png and SCREENSHOT-360.png.

import { launch } from "./chromium.mjs";

const DEADLINE_MS = 15_000;
const MESSAGE = "hello through the gate";

const [url, screenshot, clientIp] = process.argv.slice(2);
if (!url || !screenshot?.endsWith(".png")) {
  console.error("usage: node page.mjs URL SCREENSHOT.png [CLIENT_IP]");
  process.exit(2);
}

const problems = [];
const result = { url };
const browser = await launch();
try {
  // The demo's certificate authority is known to nobody.
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    colorScheme: "light",
    viewport: { width: 1024, height: 860 },
  });
  context.setDefaultTimeout(DEADLINE_MS);
  const page = await context.newPage();
  watch(page);
  await visit(page);
  await photograph(page);
} catch (error) {
  problems.push(error.message);
} finally {
  await browser.close();
}
console.log(JSON.stringify({ ok: problems.length === 0, ...result, problems }));
process.exit(problems.length === 0 ? 0 : 1);

function watch(page) {
  const { host } = new URL(url);
  const sameHost = (asked) => {
    const other = new URL(asked);
    if (other.protocol !== "data:" && other.host !== host) problems.push(`request to ${asked}`);
  };
  page.on("request", (request) => sameHost(request.url()));
  page.on("websocket", (socket) => sameHost(socket.url()));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => problems.push(`page: ${error.message}`));
}

async function visit(page) {
  const response = await page.goto(url);
  result.status = response.status();
  expect("status", result.status, 200);
  await page.locator('body[data-state="open"]').waitFor();
  result.name = await page.locator("#name").textContent();
  result.client_ip = await page.locator("#client-ip").textContent();
  if (clientIp) expect("client address", result.client_ip, clientIp);

  // By keyboard alone: whoever cannot use a mouse gets there too.
  await page.locator("#message").focus();
  await page.keyboard.type(MESSAGE);
  await page.keyboard.press("Enter");
  await page.locator("#log .received .text", { hasText: MESSAGE }).waitFor();
  await page.locator(".bar").nth(7).waitFor();
  result.round_trip = await page.locator("#rtt-median").textContent();
}

async function photograph(page) {
  result.screenshots = [screenshot, beside("dark"), beside("360")];
  await page.screenshot({ path: screenshot, fullPage: true });
  await page.emulateMedia({ colorScheme: "dark" });
  await page.screenshot({ path: beside("dark"), fullPage: true });
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 360, height: 740 });
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  expect("width of the page at 360 px", width, 360);
  await page.screenshot({ path: beside("360"), fullPage: true });
}

function beside(suffix) {
  return screenshot.replace(/\.png$/, `-${suffix}.png`);
}

function expect(what, found, wanted) {
  if (found !== wanted) problems.push(`${what} is ${found}, not ${wanted}`);
}
