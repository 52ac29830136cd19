// Everything that is done to backends, and what it does to the traffic.

import { expect, story, until } from "./story.mjs";

await story(async (told) => {
  const { page, ask, visit } = told;
  const button = (name, within = page) => within.getByRole("button", { name, exact: true });
  const rows = page.getByRole("table", { name: "Backends", exact: true }).getByRole("row");
  const row = (name) => rows.filter({ hasText: name });
  const act = (name) => button(`Act on ${name}`);
  const served = async () =>
    Object.keys(await ask("names", { count: 12 }))
      .sort()
      .join(" ");

  await told.logIn();
  const { opened } = await ask("open", { count: 24 });
  const at3000 = opened.a0 + opened.b0;
  await visit("/pools/game-node");
  await until("the live connections", async () =>
    (await row(":3000").innerText()).includes(String(at3000)),
  );

  // Drain: in numbers first; nobody is cut, nobody new comes.
  await told.tick(page.getByRole("checkbox", { name: "Choose :3000" }));
  await told.press(button("Drain"));
  const drain = told.dialog("Drain: :3000");
  await drain.getByText(`${at3000} live connections on 2 agents end by themselves`).waitFor();
  await drain.getByText("1 other backend of the pool stays up.").waitFor();
  await told.photograph(`drain-${told.config.hand}`);
  await told.press(button("Drain", drain));
  await drain.waitFor({ state: "detached" });
  await page.getByRole("heading", { name: "Out of use" }).waitFor();
  expect("who serves while :3000 drains", await served(), "a1 b1");
  expect("who was cut by a drain", (await ask("crowd")).ended, {});

  // Kill: says how many, and closes these and no others.
  await told.choose(act(":3000"), "Close connections");
  const kill = told.dialog("Close connections: :3000");
  await kill.getByText(`${at3000} live connections on 2 agents are closed at once`).waitFor();
  await told.press(button("Close connections", kill));
  await kill.waitFor({ state: "detached" });
  await until("the end of these", async () => {
    const { ended } = await ask("crowd");
    return ended.a0 === opened.a0 && ended.b0 === opened.b0;
  });
  expect("who else was cut", Object.keys((await ask("crowd")).ended).sort(), ["a0", "b0"]);

  // Ready again.
  await told.press(button("Set :3000 ready"));
  await page.getByRole("heading", { name: "Out of use" }).waitFor({ state: "detached" });
  await until("traffic for :3000", async () => (await served()).includes("a0"));

  // Maintenance of the other one, on both agents; nobody else may be left.
  await told.choose(act(":3001"), "Maintenance");
  const maintenance = told.dialog("Put in maintenance: :3001");
  await maintenance.getByText("It is not checked until it is set ready.").waitFor();
  await told.press(button("Put in maintenance", maintenance));
  await maintenance.waitFor({ state: "detached" });
  expect("who serves while :3001 is maintained", await served(), "a0 b0");
  await told.choose(act(":3000"), "Drain");
  const last = told.dialog("Drain: :3000");
  await last.getByText("Nobody is left to serve on 2 agents").waitFor();
  await page.keyboard.press("Escape");
  await last.waitFor({ state: "detached" });
  await told.press(button("Set :3001 ready"));
  await page.getByRole("heading", { name: "Out of use" }).waitFor({ state: "detached" });

  // A weight: what is wrong stands at its field; 0 takes nothing new.
  await told.choose(act(":3001"), "Edit weight and address");
  const edit = told.dialog("Edit :3001");
  told.expected.push(/status of 422/);
  await told.write(edit.getByLabel("Weight"), "many");
  await told.press(button("Show what changes", edit));
  await until("the mistake at the weight", () => told.isWrong(edit.getByLabel("Weight")));
  await told.write(edit.getByLabel("Weight"), "0");
  await told.press(button("Show what changes", edit));
  await edit.getByText("/backends/:3001/weight").waitFor();
  await told.press(button("Apply", edit));
  await edit.waitFor({ state: "detached" });
  await until("nothing for :3001", async () => (await served()) === "a0 b0");

  // Another one, which nobody answers at; and out with it.
  await told.press(button("Add a backend"));
  const add = told.dialog("Add a backend to game-node");
  await told.write(add.getByLabel("Address"), ":3999");
  await told.press(button("Show what changes", add));
  await add.getByText("/backends/:3999/address").waitFor();
  await told.press(button("Apply", add));
  await add.waitFor({ state: "detached" });
  await row(":3999").getByText("down", { exact: true }).last().waitFor();
  await told.choose(act(":3999"), "Remove");
  const remove = told.dialog("Remove :3999");
  await remove.getByText("0 live connections of it go on").waitFor();
  await told.press(button("Remove", remove));
  await row(":3999").waitFor({ state: "detached" });
  expect("who serves in the end", await served(), "a0 b0");
});
