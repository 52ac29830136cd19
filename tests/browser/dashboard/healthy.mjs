// A fleet with traffic, page by page.

import { story, until } from "./story.mjs";

await story(async (told) => {
  const { page, ask, visit } = told;
  await ask("open", { count: 24 });
  await told.logIn();
  await until("the figures of 24 connections", async () => {
    const { clients } = await (await page.request.get("/api/v1/topology")).json();
    return clients.live === 24;
  });
  const agents = await (await page.request.get("/api/v1/agents")).json();
  const balancer = agents.items.find((agent) => agent.roles.includes("balancer"));
  const pages = [
    ["/", "overview"],
    ["/listeners", "listeners"],
    ["/listeners/edge", "listener"],
    ["/pools", "pools"],
    ["/pools/game-node", "pool"],
    ["/pools/game-tls", "pool-discovered"],
    ["/agents", "agents"],
    [`/agents/${balancer.id}`, "agent"],
    ["/certificates", "certificates"],
    [`/certificates/${told.config.certificate}`, "certificate"],
    ["/clients?by=live", "clients"],
    ["/changes", "changes"],
    ["/changes/1", "change"],
    ["/document", "document"],
  ];
  for (const [path, name] of pages) {
    await visit(path);
    await page.getByRole("heading", { level: 1 }).waitFor();
    await told.quiet();
    await told.photograph(`${name}-healthy`);
  }
});
