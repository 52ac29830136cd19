// The control plane dies while a page is open, and comes back: the page says so, keeps
// what it knew, and catches up without a reload.

import { expect, story } from "./story.mjs";

await story(async (told) => {
  const { page, ask, visit } = told;
  await told.logIn();
  await visit("/pools/game-node");
  const badge = page.getByRole("status").filter({ hasText: /^(Live|Reconnecting|Paused)/ });
  await badge.filter({ hasText: "Live" }).waitFor();
  await page.getByText(":3000").first().waitFor();
  // A reload would lose this.
  await page.evaluate(() => {
    globalThis.stayed = true;
  });

  told.expected.push(/ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE/);
  told.expected.push(/ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_SOCKET_NOT_CONNECTED/);
  await ask("control plane", { do: "kill" });
  await badge.filter({ hasText: "Reconnecting" }).waitFor();
  await page.getByText(":3000").first().waitFor();
  await told.photograph("outage");
  await ask("control plane", { do: "start" });
  await badge.filter({ hasText: "Live" }).waitFor();

  // What changed meanwhile, or just now, is there.
  const state = "/pools/game-node/backends/:3000/state";
  const outOfUse = page.getByRole("heading", { name: "Out of use" });
  await ask("rest", { method: "PUT", path: state, body: { state: "maintenance" } });
  await outOfUse.waitFor();
  expect("the page stayed", await page.evaluate(() => globalThis.stayed), true);

  // Paused, it does not change by itself; resumed, it catches up.
  await page.getByRole("button", { name: "Pause live updates" }).click();
  await badge.filter({ hasText: "Paused" }).waitFor();
  await ask("rest", { method: "PUT", path: state, body: { state: "ready" } });
  expect("a paused page has changed", await outOfUse.count(), 1);
  await page.getByRole("button", { name: "Resume live updates" }).click();
  await badge.filter({ hasText: "Live" }).waitFor();
  await outOfUse.waitFor({ state: "detached" });
});
