import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { fireEvent, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { MemoryRouter } from "react-router";
import { beforeEach, expect, it, vi } from "vitest";
import { ApiProblem } from "../../api/problem";
import { applyText } from "../../api/queries/config";
import { sessionKey } from "../../api/session";
import type { Commit } from "../../api/types";
import { keptDraft } from "./draft";
import type { EditorProps } from "./editor";
import { Workbench } from "./workbench";

vi.mock("./editor", () => ({
  default: ({ value, onChange }: EditorProps) => (
    <textarea
      aria-label="text"
      value={value}
      onChange={(event) => onChange(event.currentTarget.value)}
    />
  ),
}));
vi.mock("../../api/queries/config", () => ({ applyText: vi.fn() }));

const apply = vi.mocked(applyText);
const BASE = "pools:\n- name: a\n  weight: 1\npolicies:\n- name: p\n- name: q\n- name: r\n";
const commit: Commit = { revision: 2, change: 3, changed: true, diff: [] };
const readAgain = vi.fn(async () => ({}));

function page(read: { value: string; etag: string }) {
  return (
    <MantineProvider env="test">
      <QueryClientProvider client={client}>
        <MemoryRouter>
          <Workbench read={read} readAgain={readAgain} />
        </MemoryRouter>
      </QueryClientProvider>
    </MantineProvider>
  );
}

let client: QueryClient;

beforeEach(() => {
  sessionStorage.clear();
  apply.mockReset();
  apply.mockResolvedValue(commit);
  client = new QueryClient({
    defaultOptions: { queries: { retry: false, staleTime: Number.POSITIVE_INFINITY } },
  });
  client.setQueryData(sessionKey, { role: "admin", label: "ops", author: "a", expires_at: "" });
  client.setQueryData(["certificates"], []);
  client.setQueryData(["agents"], []);
});

const type = async (text: string) =>
  fireEvent.change(await screen.findByLabelText("text"), { target: { value: text } });
const press = (name: string) => userEvent.click(screen.getByRole("button", { name }));

it("tries exactly what is applied", async () => {
  render(page({ value: BASE, etag: "1" }));
  await type(BASE.replace("1", "7"));
  await press("Show what changes");
  await screen.findByRole("button", { name: "Apply" });
  await type(BASE.replace("1", "8"));
  expect(screen.queryByRole("button", { name: "Apply" })).toBeNull();
  await press("Show what changes");
  await userEvent.click(await screen.findByRole("button", { name: "Apply" }));
  await waitFor(() =>
    expect(apply).toHaveBeenLastCalledWith(BASE.replace("1", "8"), { etag: "1", wait: true }),
  );
});

it("shows mistakes with their lines", async () => {
  apply.mockRejectedValue(
    new ApiProblem({
      type: "t",
      title: "t",
      status: 422,
      detail: "1 mistake",
      request_id: "r",
      errors: [{ pointer: "/pools/0/weight", detail: "256 at most" }],
    }),
  );
  render(page({ value: BASE, etag: "1" }));
  await type(BASE.replace("1", "999"));
  await press("Show what changes");
  expect(await screen.findByRole("button", { name: /line 3.*256 at most/ })).toBeTruthy();
});

it("merges what others applied meanwhile, and tries it anew", async () => {
  const { rerender } = render(page({ value: BASE, etag: "1" }));
  await type(BASE.replace("weight: 1", "weight: 7"));
  rerender(page({ value: BASE.replace("name: r", "name: s"), etag: "2" }));
  expect(await screen.findByText(/Somebody has changed the document/)).toBeTruthy();
  expect(screen.getByRole("button", { name: "Show what changes" })).toHaveProperty(
    "disabled",
    true,
  );
  await press("Merge theirs into yours");
  const text = (await screen.findByLabelText("text")) as HTMLTextAreaElement;
  expect(text.value).toContain("weight: 7");
  expect(text.value).toContain("name: s");
  await press("Show what changes");
  expect(apply).toHaveBeenLastCalledWith(text.value, { dryRun: true, etag: "2" });
});

it("keeps what is typed for a reload, and follows others where nothing is", async () => {
  const { rerender, unmount } = render(page({ value: BASE, etag: "1" }));
  rerender(page({ value: "pools: []\n", etag: "2" }));
  await waitFor(async () =>
    expect(((await screen.findByLabelText("text")) as HTMLTextAreaElement).value).toBe(
      "pools: []\n",
    ),
  );
  await type("pools: [] # mine\n");
  expect(keptDraft()?.text).toBe("pools: [] # mine\n");
  unmount();
  render(page({ value: "pools: []\n", etag: "2" }));
  expect(((await screen.findByLabelText("text")) as HTMLTextAreaElement).value).toBe(
    "pools: [] # mine\n",
  );
  await press("Drop what was typed");
  expect(keptDraft()).toBeUndefined();
});

it("begins a document where there is none", async () => {
  render(page({ value: "{}\n", etag: "0" }));
  await press("Begin with an example");
  const text = (await screen.findByLabelText("text")) as HTMLTextAreaElement;
  expect(text.value).toContain("discover: { listener: game-tls }");
});
