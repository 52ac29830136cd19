// A client is denied from its page: the page says what it hits, it hits that and nothing
// else, and it is taken back.

import { expect, story, until } from "./story.mjs";

await story(async (told) => {
  const { page, ask, visit, config } = told;
  const button = (name, within = page) => within.getByRole("button", { name, exact: true });
  const [client] = config.clients;
  await told.logIn();
  await ask("open", { count: 4 });
  await visit("/clients?by=live");
  await told.press(page.getByRole("link", { name: client, exact: true }));
  await page.getByRole("heading", { level: 1 }).filter({ hasText: client }).waitFor();
  await told.quiet();
  await told.photograph(`client-${config.hand}`);
  await told.press(page.getByRole("button", { name: /^Deny/ }).first());
  const dialog = page.getByRole("dialog");
  await dialog
    .getByText(/1 live connection/)
    .first()
    .waitFor();
  await told.photograph(`deny-${config.hand}`);
  await told.press(button("Deny", dialog));
  await dialog.waitFor({ state: "detached" });
  await until("the end of its connection", async () => {
    const { ended } = await ask("crowd");
    return Object.values(ended).reduce((sum, count) => sum + count, 0) === 1;
  });
  expect("the policy", (await (await page.request.get("/api/v1/policies/clients")).json()).deny, [
    `${client}/32`,
  ]);

  // Taken back from where it was done, and let in again.
  await told.press(button("Undo"));
  const undo = told.dialog(/^Roll back to revision/);
  await undo.getByText("Only this is undone").waitFor();
  await told.press(button("Roll back", undo));
  await undo.waitFor({ state: "detached" });
  expect("who serves it again", Object.keys(await ask("names", { count: 1 })).length, 1);
});
