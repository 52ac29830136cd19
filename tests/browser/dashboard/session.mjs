// Nobody sees anything who has not logged in; a token in hand is shown once and kept by
// no page; a viewer sees everything and changes nothing.

import { expect, story, until } from "./story.mjs";

await story(async (told) => {
  const { page, context, visit, ask, config } = told;
  await visit("/pools?q=game");
  await page.waitForURL("**/login?next=*");
  await told.photograph("login");

  // Refused, and the token is not shown again.
  told.expected.push(/status of 401/);
  await page.getByLabel("API token").fill(`tga1.${"0".repeat(16)}.${"0".repeat(64)}`);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByText("No such token").waitFor();
  await told.photograph("login-refused");

  // By keyboard alone, back to where the link led.
  await page.getByLabel("API token").fill(config.token);
  await page.keyboard.press("Enter");
  await page.waitForURL("**/pools?q=game");
  const kept = await page.evaluate(() => JSON.stringify([localStorage, sessionStorage]));
  const secret = config.token.split(".")[2];
  expect("the token in the page's storage", kept.includes(secret), false);
  expect("a cookie that scripts can read", await page.evaluate(() => document.cookie), "");
  const [cookie] = await context.cookies();
  expect(
    "the cookie",
    [cookie.name, cookie.httpOnly, cookie.secure, cookie.sameSite],
    ["__Host-tidegate", true, true, "Strict"],
  );

  // Logged out, the old cookie is worth nothing.
  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForURL("**/login*");
  await context.addCookies([cookie]);
  await visit("/");
  await page.waitForURL("**/login*");

  const viewer = await ask("rest", {
    method: "POST",
    path: "/api-tokens",
    body: { role: "viewer", label: "wall" },
  });
  await told.logIn(viewer.token);
  await visit("/pools/game-node");
  await page.getByRole("checkbox", { name: "Choose :3000" }).check();
  const drain = page.getByRole("button", { name: /^Drain/ }).first();
  await drain.waitFor();
  expect("a viewer's drain is enabled", await drain.isEnabled(), false);

  // A token that is taken away ends what it began, also on pages that are open.
  await ask("rest", { method: "DELETE", path: `/api-tokens/${viewer.id}` });
  await until("the login page", async () => page.url().includes("/login"));
});
