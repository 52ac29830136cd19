import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { MemoryRouter } from "react-router";
import { beforeEach, expect, it, vi } from "vitest";
import { makeJoinToken } from "../../api/queries/agents";
import type { Agent } from "../../api/types";
import { AddInstance } from "./add-instance";

vi.mock("../../api/queries/agents", () => ({
  makeJoinToken: vi.fn(),
  joinTokensQuery: { queryKey: ["join-tokens"] },
}));

const make = vi.mocked(makeJoinToken);
const TOKEN = "tg1.id.secret.pin";
let client: QueryClient;

function page(agents: Agent[], opened = true) {
  return (
    <MantineProvider env="test">
      <QueryClientProvider client={client}>
        <MemoryRouter>
          <AddInstance opened={opened} begins="terminator" agents={agents} onClose={() => {}} />
        </MemoryRouter>
      </QueryClientProvider>
    </MantineProvider>
  );
}

beforeEach(() => {
  client = new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: 60_000 } } });
  client.setQueryData(
    ["listeners"],
    [{ name: "tls", role: "terminator", bind: ":1", agents: { app: "game" } }],
  );
  client.setQueryData(["status"], { replicas: [{ address: "0.0.0.0:17444" }] });
  make.mockReset();
  make.mockResolvedValue({
    token: TOKEN,
    id: "id",
    roles: ["terminator"],
    labels: { app: "game" },
    uses: 1,
    used: 0,
    expires_at: "2026-11-29T13:00:00Z",
    created_by: "ops",
    created_at: "2026-11-29T12:00:00Z",
  });
});

it("gives the line, sees the agent arrive, and forgets the token", async () => {
  const { rerender } = render(page([]));
  expect((screen.getByLabelText("Labels") as HTMLInputElement).value).toBe("app=game");
  await userEvent.click(screen.getByRole("button", { name: "Make the line to paste" }));
  const line = (await screen.findByTestId("join-line")).textContent ?? "";
  expect(line).toContain(`printf %s '${TOKEN}' |`);
  expect(line).toContain(":17444");
  expect(make).toHaveBeenCalledWith({
    roles: ["terminator"],
    labels: { app: "game" },
    uses: 1,
    expires_in: "1h",
  });
  expect(screen.queryByText(/It is here/)).toBeNull();

  const agent = {
    id: "a",
    address: "10.0.0.9",
    join_token: "id",
    connected: true,
    in_sync: true,
    state: "applied",
    mistakes: [],
    listeners: [{}],
  } as unknown as Agent;
  rerender(page([agent]));
  expect(await screen.findByText(/It is here/)).toBeTruthy();
  expect(screen.getByText("10.0.0.9, 1 of 1")).toBeTruthy();
  await userEvent.click(screen.getByRole("button", { name: "Done" }));
  rerender(page([agent], false));
  rerender(page([agent]));
  expect(document.body.innerHTML).not.toContain("secret");
});

it("makes no token of labels that are none", async () => {
  render(page([]));
  const labels = screen.getByLabelText("Labels");
  await userEvent.clear(labels);
  await userEvent.type(labels, "game");
  expect(screen.getByText("Write key=value, apart by commas.")).toBeTruthy();
  expect(screen.getByRole("button", { name: "Make the line to paste" })).toHaveProperty(
    "disabled",
    true,
  );
});
