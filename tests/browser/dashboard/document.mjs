// The document is edited as text: mistakes at their lines, a dry run, other people's work;
// applied, compared and rolled back, each seen in the traffic.

import { expect, story, until } from "./story.mjs";

await story(async (told) => {
  const { page, ask, visit, config } = told;
  const button = (name, within = page) => within.getByRole("button", { name, exact: true });
  const editor = page.getByRole("textbox", { name: "The document, as YAML" });
  const served = async () =>
    Object.keys(await ask("names", { count: 12 }))
      .sort()
      .join(" ");
  const text = () =>
    page.request
      .get("/api/v1/config", { headers: { Accept: "application/yaml" } })
      .then((answer) => answer.text());

  await told.logIn();
  await visit("/document");
  await editor.waitFor();
  const before = await text();

  // Wrong: the line, the words, and a way there.
  told.expected.push(/status of 422/);
  await told.write(editor, before.replace("pool: game-node", "pool: game-nodes"));
  await told.press(button("Show what changes"));
  const mistake = page.getByRole("button", { name: /line \d+.*game-nodes/ });
  await mistake.waitFor();
  await told.photograph(`document-mistake-${config.hand}`);
  await told.press(mistake);
  await until("the editor to be at the mistake", async () =>
    editor.evaluate((element) => element.contains(document.activeElement)),
  );

  // Right: less of it, shown before, then done.
  const lines = before.split("\n");
  const second = lines.findIndex((line) => line.includes(":3001"));
  // The address and, below it, the weight.
  const without = lines.toSpliced(second, 2).join("\n");
  expect("what is taken out", lines[second + 1]?.trim(), "weight: 1");
  await told.write(editor, without);
  await told.press(button("Show what changes"));
  await page.getByRole("heading", { name: "What changes" }).waitFor();

  // Somebody else is quicker, elsewhere in the document.
  await ask("rest", { method: "PUT", path: "/policies/other", body: { deny: ["192.0.2.0/24"] } });
  await page.getByRole("heading", { name: /Somebody has changed the document/ }).waitFor();
  await told.photograph(`document-stale-${config.hand}`);
  await told.press(button("Merge theirs into yours"));
  await told.press(button("Show what changes"));
  await page.getByText("/backends/:3001/address").waitFor();
  await told.press(button("Apply"));
  await page.getByRole("heading", { name: /^Revision \d+$/ }).waitFor();
  expect("who serves without :3001", await served(), "a0 b0");
  expect("their policy", (await text()).includes("192.0.2.0/24"), true);

  // Compared, and rolled back to where both were there.
  await visit("/changes/1?against=3");
  await page.getByRole("heading", { name: "Side by side" }).waitFor();
  await told.photograph(`changes-compared-${config.hand}`);
  await told.press(button("Roll back to this"));
  const dialog = told.dialog("Roll back to revision 1");
  await dialog.getByText("2 resources of the document change").waitFor();
  await told.press(button("Roll back", dialog));
  await page.getByRole("heading", { level: 1, name: "Revision 4" }).waitFor();
  await page.getByText("All 3 agents run it.").waitFor();
  await until("both again", async () => (await served()) === "a0 a1 b0 b1");
});
