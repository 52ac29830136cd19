// 5,000 backends in a pool: few rows are drawn, scrolling and filtering stay fluid, and
// those at the end are reached by keyboard.

import { expect, story } from "./story.mjs";

const COUNT = 5000;
// A frame of a page that is drawn without a graphics card, on a machine with other work.
const FRAME_MS = 100;

await story(async (told) => {
  const { page, ask, visit } = told;
  const backends = Array.from({ length: COUNT }, (_, index) => ({
    name: `backend-${String(index).padStart(4, "0")}`,
    address: `127.0.0.1:${10_000 + index}`,
  }));
  // No listener leads there: nothing checks 5,000 addresses that nobody answers at.
  await ask("rest", { method: "PUT", path: "/pools/many", body: { backends } });
  await told.logIn();
  await visit("/pools/many");
  const table = page.getByRole("table", { name: "Backends", exact: true });
  await table.getByText("backend-0000").waitFor();
  expect("the rows it says it has", await table.getAttribute("aria-rowcount"), String(COUNT + 1));
  const drawn = await table.getByRole("row").count();
  if (drawn > 120) throw new Error(`${drawn} rows are drawn`);
  await told.photograph("many");

  // From the first row to the last by keyboard, and back.
  const act = (name) => page.getByRole("button", { name: `Act on ${name}`, exact: true });
  await act("backend-0000").focus();
  await page.keyboard.press("End");
  await act("backend-4999").waitFor();
  expect(
    "the focus",
    await act("backend-4999").evaluate((e) => e === document.activeElement),
    true,
  );
  await page.keyboard.press("Home");
  await act("backend-0000").waitFor();

  const region = page.getByRole("region", { name: "Backends", exact: true }).last();
  const frames = await region.evaluate(async (element) => {
    const times = [];
    let last = performance.now();
    for (let step = 0; step < 60; step += 1) {
      element.scrollTop += 1_900;
      await new Promise((done) => requestAnimationFrame(done));
      const now = performance.now();
      times.push(now - last);
      last = now;
    }
    return times.sort((a, b) => a - b);
  });
  const median = frames[frames.length >> 1];
  console.log(`frames: median ${median.toFixed(1)} ms, most ${frames.at(-1).toFixed(1)} ms`);
  if (median > FRAME_MS) throw new Error(`a frame takes ${median} ms`);

  const filter = page.getByRole("searchbox", { name: "Filter backends" });
  await filter.fill("backend-2500");
  await table.getByText("backend-2500").waitFor();
  await page.getByText("1 of 5,000").waitFor();
});
