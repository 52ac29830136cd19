// Certificates are uploaded, refused where they are wrong, replaced under live traffic, and
// deleted; a key is shown nowhere.

import { expect, story, until } from "./story.mjs";

await story(async (told) => {
  const { page, ask, visit, config } = told;
  const { pem } = config;
  const button = (name, within = page) => within.getByRole("button", { name, exact: true });
  const secret = pem.successor.key.split("\n")[1];

  await told.logIn();
  await ask("open", { count: 8 });
  told.expected.push(/status of 422/);

  // The key of another certificate: said at the key.
  await visit("/certificates");
  await told.press(button("Upload a certificate"));
  const upload = told.dialog("Upload a certificate");
  await told.write(upload.getByRole("textbox", { name: "Chain" }), pem.other.chain);
  await told.write(upload.getByRole("textbox", { name: "Private key" }), pem.successor.key);
  await upload.getByText("is at hand. It is not shown").waitFor();
  await told.press(button("Show what changes", upload));
  await upload.getByText("the key of another certificate").waitFor();
  await told.photograph(`upload-refused-${config.hand}`);

  // The right one: what is in it, then it is there, used by nobody.
  await told.press(button("Clear: Private key", upload));
  await told.write(upload.getByRole("textbox", { name: "Private key" }), pem.other.key);
  await told.press(button("Show what changes", upload));
  await upload.getByText("No listener names it yet").waitFor();
  expect("the suggested name", await upload.getByLabel("Name").inputValue(), "other.localhost");
  await told.press(button("Upload", upload));
  await page.getByRole("heading", { level: 1, name: "other.localhost" }).waitFor();

  // The one in use, by file: says what changes, and the next handshake sees it.
  await visit(`/certificates/${config.certificate}`);
  await told.press(button("Replace"));
  const replace = told.dialog(`Replace ${config.certificate}`);
  for (const [label, content] of [
    ["Chain", pem.successor.chain],
    ["Private key", pem.successor.key],
  ])
    await replace.getByTestId(`file-${label}`).setInputFiles({
      name: "from-the-authority.pem",
      mimeType: "application/x-pem-file",
      buffer: Buffer.from(content),
    });
  await told.press(button("Show what changes", replace));
  await replace.getByText("Gained: www.localhost.").waitFor();
  await replace.getByText("2 agents get it, for game-tls.").waitFor();
  await told.photograph(`replace-${config.hand}`);
  await told.press(button("Replace", replace));
  await replace.waitFor({ state: "detached" });
  await until("the new one in handshakes", async () =>
    (await ask("served")).some((name) => name.includes("www.localhost")),
  );
  expect("who was cut by it", (await ask("crowd")).ended, {});
  for (const path of ["/certificates", `/certificates/${config.certificate}`]) {
    await visit(path);
    await told.quiet();
    expect(`the key in ${path}`, (await page.content()).includes(secret), false);
  }

  // In use it cannot be deleted, and the page says by what; the other one can.
  await told.press(button("Delete"));
  const held = told.dialog(`Delete ${config.certificate}`);
  await held.getByText("Take it out of game-tls first.").waitFor();
  expect("deleting what is used", await button("Delete", held).isEnabled(), false);
  await page.keyboard.press("Escape");
  await held.waitFor({ state: "detached" });
  await visit("/certificates/other.localhost");
  await told.press(button("Delete"));
  const free = told.dialog("Delete other.localhost");
  await told.press(button("Delete", free));
  await page.waitForURL("**/certificates");
  await page.getByText("other.localhost").first().waitFor({ state: "detached" });
});
