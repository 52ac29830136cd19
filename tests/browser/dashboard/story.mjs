// What every story of the dashboard is told with: a page in a real browser, a way to ask
// the test for what only it can do, and an eye on what no page may do.
//
//   import { story } from "./story.mjs";
//   await story(async ({ page, ask, visit, photograph }) => { ... });
//
// A story fails by throwing. It also fails when a page reports an error, breaks the
// content security policy, asks another host, scrolls sideways, or when axe-core finds
// something serious in what is photographed.

import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { connect } from "node:net";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { launch } from "../chromium.mjs";

const DEADLINE_MS = 20_000;
const WIDTHS = [
  [1280, 860],
  [360, 740],
];
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

// Tells it, and ends the process: with 0 when everything held.
export async function story(tell) {
  const config = JSON.parse(process.env.STORY);
  mkdirSync(config.screenshots, { recursive: true });
  const director = await Director.reach(config.director);
  const browser = await launch();
  const problems = [];
  const told = new Told(config, director, browser, problems);
  try {
    await told.begin();
    await tell(told);
    await told.settle();
  } catch (error) {
    problems.push(error.stack ?? String(error));
    // For whoever reads why.
    const path = join(config.screenshots, `failed-${basename(process.argv[1], ".mjs")}.png`);
    await told.page?.screenshot({ path, fullPage: true }).catch(() => {});
  } finally {
    await browser.close();
  }
  for (const problem of problems) console.error(problem);
  process.exit(problems.length === 0 ? 0 : 1);
}

// The test, which answers one question at a time.
class Director {
  static async reach({ host, port }) {
    const socket = connect(port, host);
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    return new Director(socket);
  }

  constructor(socket) {
    this.socket = socket;
    this.answers = createInterface({ input: socket })[Symbol.asyncIterator]();
  }

  async ask(what, rest) {
    this.socket.write(`${JSON.stringify({ ask: what, ...rest })}\n`);
    const { value, done } = await this.answers.next();
    if (done) throw new Error(`the test has no answer to ${what}`);
    return JSON.parse(value);
  }
}

class Told {
  constructor(config, director, browser, problems) {
    Object.assign(this, { config, director, browser, problems });
    // What the console may say in this story, as regular expressions: a refused write is
    // an error to the browser, and what some stories are about.
    this.expected = [];
    this.ask = (what, rest) => director.ask(what, rest);
    this.visit = (path) => this.page.goto(path, { waitUntil: "load" });
    this.photograph = (name, ready) => this.#photograph(name, ready);
  }

  async begin() {
    this.context = await this.browser.newContext({
      // The fleet's own authority is known to nobody.
      ignoreHTTPSErrors: true,
      baseURL: this.config.url,
      colorScheme: "light",
      reducedMotion: "reduce",
      viewport: { width: 1280, height: 860 },
    });
    this.context.setDefaultTimeout(DEADLINE_MS);
    await this.context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        console.error(`content security policy: ${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    this.page = await this.context.newPage();
    this.#watch(this.page);
  }

  // Logs in as a person does, and lands on the overview.
  async logIn(token = this.config.token) {
    await this.visit("/login");
    await this.page.getByLabel("API token").fill(token);
    await this.page.keyboard.press("Enter");
    await this.page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  }

  // A live page never stops asking; what it was told so far is what counts.
  async settle() {
    await this.page.evaluate(() => new Promise((done) => requestAnimationFrame(() => done())));
  }

  // Presses a control: with the mouse, or by walking to it with Tab and pressing Enter.
  async press(control) {
    await control.waitFor();
    if (this.config.hand === "mouse") return control.click();
    await this.walkTo(control);
    await this.page.keyboard.press("Enter");
  }

  // Ticks a box, likewise.
  async tick(box) {
    await box.waitFor();
    if (this.config.hand === "mouse") return box.check();
    await this.walkTo(box);
    await this.page.keyboard.press("Space");
    expect("the box", await box.isChecked(), true);
  }

  // Writes into a field in place of what is there.
  async write(field, text) {
    await field.waitFor();
    if (this.config.hand === "mouse") await field.click();
    else await this.walkTo(field);
    await this.page.keyboard.press("ControlOrMeta+A");
    await this.page.keyboard.insertText(text);
  }

  // Chooses in a list: by keyboard as browsers have it, by the first letters.
  async pick(list, value) {
    await list.waitFor();
    if (this.config.hand === "mouse") return list.selectOption(value);
    await this.walkTo(list);
    await this.page.keyboard.type(value);
    expect("what is chosen", await list.inputValue(), value);
  }

  // Whether a field says that what is in it is wrong.
  isWrong(field) {
    return field.evaluate((element) => element.getAttribute("aria-invalid") === "true");
  }

  // An entry of a menu that `control` opens.
  async choose(control, entry) {
    await this.press(control);
    const item = this.page.getByRole("menuitem", { name: entry });
    await item.waitFor();
    if (this.config.hand === "mouse") return item.click();
    for (let step = 0; step < 12; step += 1) {
      if (await focused(item)) return this.page.keyboard.press("Enter");
      await this.page.keyboard.press("ArrowDown");
    }
    throw new Error(`the arrows do not reach ${entry}`);
  }

  // Tab, as often as it takes: what cannot be reached by it is not there for everybody.
  async walkTo(control) {
    for (let step = 0; step < 150; step += 1) {
      if (await focused(control)) return;
      await this.page.keyboard.press("Tab");
    }
    throw new Error(`Tab does not reach ${control}`);
  }

  dialog(name) {
    return this.page.getByRole("dialog", { name });
  }

  // Until the page has what it asked for: the stream of events never ends.
  async quiet() {
    await until("answers to what the page asked", async () => {
      await this.settle();
      return this.asking === 0;
    });
  }

  #watch(page) {
    this.asking = 0;
    const counts = (request) => !request.url().endsWith("/api/v1/events");
    page.on("request", (request) => {
      if (counts(request)) this.asking += 1;
    });
    for (const end of ["requestfinished", "requestfailed"])
      page.on(end, (request) => {
        if (counts(request)) this.asking -= 1;
      });

    const { host } = new URL(this.config.url);
    page.on("request", (request) => {
      const asked = new URL(request.url());
      if (!["data:", "blob:"].includes(asked.protocol) && asked.host !== host)
        this.problems.push(`a request to ${asked}`);
    });
    page.on("console", (message) => {
      const text = `${message.text()} (${message.location().url})`;
      if (!["error", "warning"].includes(message.type())) return;
      if (this.expected.some((pattern) => pattern.test(text))) return;
      this.problems.push(`console: ${text}`);
    });
    page.on("pageerror", (error) => this.problems.push(`the page: ${error.stack}`));
  }

  // A page in light and dark, wide and narrow, as PNG for people to look at.
  async #photograph(name, ready = async () => {}) {
    const { page } = this;
    for (const [width, height] of WIDTHS) {
      await page.setViewportSize({ width, height });
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
        await ready();
        await this.charts();
        await this.settle();
        const path = join(this.config.screenshots, `${name}-${colorScheme}-${width}.png`);
        await page.screenshot({ path, fullPage: true });
        await this.#examine(`${name} (${colorScheme}, ${width} px)`);
      }
    }
    await page.setViewportSize({ width: 1280, height: 860 });
    await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
  }

  // The first chart of a visit brings its own code.
  charts() {
    return this.page.waitForFunction(() =>
      [...document.querySelectorAll("figure > div[aria-hidden=true]")].every((box) =>
        box.querySelector(".uplot, p"),
      ),
    );
  }

  async #examine(what) {
    const { page } = this;
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (wide > 0) this.problems.push(`${what} scrolls sideways by ${wide} px`);
    const headings = await page.getByRole("heading", { level: 1 }).count();
    if (headings !== 1) this.problems.push(`${what} has ${headings} headings of level 1`);
    // Evaluated by the debugger, which no policy of the page's forbids.
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    for (const { id, impact, nodes } of violations) {
      if (!["serious", "critical"].includes(impact)) continue;
      for (const node of nodes) this.problems.push(`${what}: ${id} ${node.target} ${node.html}`);
    }
  }
}

function focused(control) {
  return control.evaluate((element) => element === document.activeElement);
}

export function expect(what, found, wanted) {
  const [a, b] = [found, wanted].map((value) => JSON.stringify(value));
  if (a !== b) throw new Error(`${what} is ${a}, not ${b}`);
}

// Until something holds, for what no event of the page tells.
export async function until(what, holds) {
  const end = Date.now() + DEADLINE_MS;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
