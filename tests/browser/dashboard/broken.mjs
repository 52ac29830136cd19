// A fleet in trouble: a dead backend, an agent that is away, a revision that an agent
// refuses, a certificate about to end. Each page says what is wrong; the overview what to do.

import { expect, story, until } from "./story.mjs";

await story(async (told) => {
  const { page, ask, visit, config } = told;
  await told.logIn();
  await ask("rest", {
    method: "PUT",
    path: "/certificates/short",
    body: { chain: config.pem.short.chain, private_key: config.pem.short.key },
  });
  // An address that no machine here has: the balancer cannot bind it.
  await ask("rest", {
    method: "PUT",
    path: "/listeners/elsewhere",
    body: { role: "balancer", agents: { tier: "edge" }, bind: "192.0.2.1:9443", pool: "game-tls" },
  });
  const document = await (await page.request.get("/api/v1/config")).json();
  const tls = document.listeners.find(({ name }) => name === "game-tls");
  await ask("rest", {
    method: "PUT",
    path: "/listeners/game-tls",
    body: { ...tls, tls: { certificates: [...tls.tls.certificates, "short"] } },
  });
  await ask("app", { name: "a0", do: "kill" });
  await ask("agent", { at: config.agents.terminators[1], do: "kill" });
  const kinds = ["agent_failed", "agent_offline", "backend_down", "certificate_ends"];
  await until("all of it in the API", async () => {
    const { items } = await (await page.request.get("/api/v1/attention")).json();
    return kinds.every((kind) => items.some((item) => item.kind === kind));
  });
  const attention = page.getByRole("region", { name: "Needs attention" });
  for (const words of [
    `The agent at ${config.agents.terminators[1]} is not connected`,
    "/listeners/elsewhere/bind",
    ":3000 in game-node is down",
    "The certificate short ends within",
  ])
    await attention.getByText(words).first().waitFor();
  const [worst] = await attention.getByRole("listitem").allInnerTexts();
  expect("the worst first", worst.includes("short"), true);

  const agents = await (await page.request.get("/api/v1/agents")).json();
  const balancer = agents.items.find((agent) => agent.roles.includes("balancer"));
  for (const [path, name] of [
    ["/", "overview"],
    ["/listeners", "listeners"],
    ["/listeners/elsewhere", "listener"],
    ["/pools", "pools"],
    ["/pools/game-node", "pool"],
    ["/agents", "agents"],
    [`/agents/${balancer.id}`, "agent"],
    ["/certificates", "certificates"],
    ["/certificates/short", "certificate"],
    ["/clients", "clients"],
    ["/changes/3", "change"],
    ["/document", "document"],
  ]) {
    await visit(path);
    await page.getByRole("heading", { level: 1 }).waitFor();
    await told.quiet();
    await told.photograph(`${name}-broken`);
  }
});
