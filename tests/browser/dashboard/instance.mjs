// An instance is added by the line that the page gives, is seen to arrive, gets traffic, and
// is taken out again.

import { expect, story, until } from "./story.mjs";

await story(async (told) => {
  const { page, ask, visit, config } = told;
  const button = (name, within = page) => within.getByRole("button", { name, exact: true });
  const served = async () => Object.keys(await ask("names", { count: 18 })).sort();

  await told.logIn();
  await visit("/agents?add=terminator");
  const dialog = told.dialog("Add an instance");
  await dialog.getByLabel("Labels").waitFor();
  await until(
    "the labels that a listener selects",
    async () => (await dialog.getByLabel("Labels").inputValue()) === "app=game",
  );
  await told.photograph(`add-instance-${config.hand}`);
  await told.press(button("Make the line to paste", dialog));
  const line = await dialog.getByTestId("join-line").innerText();
  const [, token] = line.match(/printf %s '(tg1\.[^']+)' \| tidegate-agent run /) ?? [];
  if (!token) throw new Error(`that is no line to paste: ${line}`);
  expect("the token among the program's arguments", line.split("|")[1].includes(token), false);

  await ask("paste", { line });
  await dialog.getByText("It is here.").waitFor();
  await dialog.getByText(config.agents.next).waitFor();
  await told.photograph(`instance-arrived-${config.hand}`);
  await told.press(button("Done", dialog));
  await dialog.waitFor({ state: "detached" });
  const html = await page.content();
  expect("the token in the page", html.includes(token), false);
  await until("traffic there", async () => (await served()).some((name) => name.startsWith("c")));

  // Revoked: its address has to be typed, and no new connection goes there.
  const row = page.getByRole("table", { name: "Agents" }).getByRole("row");
  await told.press(row.getByRole("link", { name: config.agents.next, exact: true }));
  await told.press(button("Revoke"));
  const revoke = told.dialog(`Revoke ${config.agents.next}`);
  await revoke.getByText("game-tls loses a backend.").waitFor();
  await revoke.getByText(`keys of ${config.certificate}`).waitFor();
  expect("revoking untyped", await button("Revoke", revoke).isEnabled(), false);
  await told.write(revoke.getByLabel("Address of the agent"), config.agents.next);
  await told.press(button("Revoke", revoke));
  await revoke.waitFor({ state: "detached" });
  await page.getByText("revoked", { exact: true }).first().waitFor();
  await until(
    "no traffic there",
    async () => !(await served()).some((name) => name.startsWith("c")),
  );
});
