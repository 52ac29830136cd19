import { MantineProvider } from "@mantine/core";
import { render, screen, within } from "@testing-library/react";
import { MemoryRouter } from "react-router";
import { describe, expect, it } from "vitest";
import type { Status, Topology } from "../../api/types";
import { FirstSteps } from "./first-steps";
import { FleetPicture } from "./fleet-picture";

const topology: Topology = {
  clients: { live: 41, accept_rate: 3, byte_rate: 1_200 },
  listeners: [
    {
      name: "edge",
      role: "balancer",
      bind: ":443",
      edge: true,
      pools: ["game"],
      agents: { serving: 1, behind: 0, failed: 0, offline: 1, silent: 0 },
      live: 41,
      clients_live: 9,
      accept_rate: 3,
      byte_rate: 1_200,
      handshake_rate: 0,
      resumed_rate: 0,
    },
  ],
  pools: [
    {
      name: "game",
      backends: 2,
      seen: { up: 0, down: 2, ejected: 0, drained: 0, stale: 0 },
      serving: { primary: 0, backup: 0, fail_open: 0, nobody: 1 },
      queued: 0,
      live: 0,
      connect_rate: 0,
    },
  ],
};

const fresh: Status = {
  cluster: "c",
  epoch: "e",
  version: "0.1.0",
  replica: "r",
  change: 1,
  revision: 0,
  replicas: [],
  agents: { total: 1, connected: 1, in_sync: 1, failed: 0, revoked: 0 },
  backends: { up: 0, down: 0, drained: 0 },
  connections: { live: 0, accept_rate: 0 },
  certificates: [],
};

function show(page: React.ReactNode) {
  render(
    <MantineProvider>
      <MemoryRouter>{page}</MemoryRouter>
    </MantineProvider>,
  );
}

describe("FleetPicture", () => {
  it("is read out from the clients on, with what is wrong first", () => {
    show(<FleetPicture topology={topology} />);
    expect(screen.getAllByRole("heading").map(({ textContent }) => textContent)).toEqual([
      "Clients",
      "Balancers",
      "App processes",
    ]);
    const [clients, edge, game] = screen.getAllByRole("listitem");
    expect(clients?.textContent).toContain("41live connections");
    expect(edge?.textContent).toContain("1 offline, 1 serving");
    expect(edge?.textContent).toContain("Leads to game.");
    expect(game?.textContent).toContain("2 down");
    expect(game?.textContent).toContain("nobody serves on 1 agent");
  });

  it("leads to the places it shows", () => {
    show(<FleetPicture topology={topology} />);
    expect(screen.getByRole("link", { name: "edge" }).getAttribute("href")).toBe("/listeners/edge");
    expect(screen.getByRole("link", { name: "game" }).getAttribute("href")).toBe("/pools/game");
  });
});

describe("FirstSteps", () => {
  it("says what is done, and what is next", () => {
    show(<FirstSteps status={fresh} hasListeners={false} />);
    const steps = screen.getAllByRole("listitem");
    expect(steps.map((step) => within(step).queryByRole("link")?.textContent)).toEqual([
      undefined,
      "Upload a certificate",
      "Write the document",
    ]);
    expect(steps[0]?.textContent).toContain("done");
  });
});
