// A listener is added, moved and removed, and a pool is edited; each is seen at the ports
// that the balancer accepts connections on.

import { expect, story, until } from "./story.mjs";

await story(async (told) => {
  const { page, ask, visit } = told;
  const button = (name, within = page) => within.getByRole("button", { name, exact: true });
  const accepts = (port) => ask("accepts", { port });

  await told.logIn();
  await ask("open", { count: 8 });
  await visit("/listeners");
  await told.press(button("Add a listener"));
  const add = told.dialog("Add a listener");
  await told.write(add.getByLabel("Name", { exact: true }), "second");
  await told.write(add.getByLabel("Address", { exact: true }), "443x");
  await told.pick(add.getByLabel("Pool", { exact: true }), "game-tls");
  await told.write(add.getByLabel("Agents", { exact: true }), "tier=edge");
  // A page that is open on what was just removed may ask for it once more.
  told.expected.push(/status of 422/, /status of 404 .*\/api\/v1\/(listeners|pools)\//);
  await told.press(button("Show what changes", add));
  await until("the mistake at the address", () =>
    told.isWrong(add.getByLabel("Address", { exact: true })),
  );
  await told.photograph(`listener-mistake-${told.config.hand}`);
  await told.write(add.getByLabel("Address", { exact: true }), ":9443");
  await told.press(button("Show what changes", add));
  await add.getByText("/bind").waitFor();
  await told.press(button("Apply", add));
  await page.getByRole("heading", { level: 1, name: "second" }).waitFor();
  expect("port 9443 accepts", await accepts(9443), true);

  await told.press(button("Edit"));
  const edit = told.dialog("Edit second");
  await told.write(edit.getByLabel("Address", { exact: true }), ":9444");
  await told.press(button("Show what changes", edit));
  await edit.getByText("/bind").waitFor();
  await told.press(button("Apply", edit));
  await edit.waitFor({ state: "detached" });
  expect("port 9444 accepts", await accepts(9444), true);
  await until("port 9443 to be let go", async () => !(await accepts(9443)));

  await told.press(button("Remove"));
  const remove = told.dialog("Remove second");
  await remove.getByText("0 live connections go on until they end.").waitFor();
  await told.press(button("Remove", remove));
  await page.waitForURL("**/listeners");
  await until("port 9444 to be let go", async () => !(await accepts(9444)));

  // A pool is edited by a field; one that is in use cannot go, and the API says why.
  await visit("/pools/game-node");
  await told.press(button("Edit"));
  const pool = told.dialog("Edit game-node");
  await told.pick(pool.getByLabel("Balance"), "round_robin");
  await told.press(button("Show what changes", pool));
  await pool.getByText("/balance").waitFor();
  await told.press(button("Apply", pool));
  await pool.waitFor({ state: "detached" });
  await page.getByText("round robin").first().waitFor();
  await told.press(button("Remove"));
  const used = told.dialog("Remove game-node");
  await used.getByRole("alert").waitFor();
  expect("removing what is in use", await button("Remove", used).isEnabled(), false);
  expect("who was cut by all this", (await ask("crowd")).ended, {});
});
