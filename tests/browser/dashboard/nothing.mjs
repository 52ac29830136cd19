// A control plane on its first day: no agent, no document. Every page says what to do next.

import { story } from "./story.mjs";

const PAGES = [
  ["/", "overview", "Overview"],
  ["/listeners", "listeners", "Listeners"],
  ["/pools", "pools", "Pools"],
  ["/agents", "agents", "Agents"],
  ["/certificates", "certificates", "Certificates"],
  ["/clients", "clients", "Clients"],
  ["/changes", "changes", "Changes"],
  ["/document", "document", "Document"],
];

await story(async (told) => {
  await told.logIn();
  for (const [path, name, title] of PAGES) {
    await told.visit(path);
    await told.page.getByRole("heading", { level: 1, name: title }).waitFor();
    await told.quiet();
    await told.photograph(`${name}-nothing`);
  }
});
