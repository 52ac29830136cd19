import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, it, vi } from "vitest";
import { ApiProblem } from "../../api/problem";
import type { Commit } from "../../api/types";
import { appliedWords, ResourceForm } from "./resource-form";

interface Thing {
  name: string;
  weight?: number;
}

const commit = (change: Partial<Commit> = {}): Commit => ({
  revision: 4,
  change: 9,
  changed: true,
  diff: [{ kind: "pools", name: "p", change: "changed", fields: [{ pointer: "/weight", to: 7 }] }],
  ...change,
});

type Put = (thing: Thing, how: { dryRun?: boolean; etag?: string | undefined }) => Promise<Commit>;

function open(put: Put, onReadAgain = () => {}) {
  const onDone = vi.fn();
  const onClose = vi.fn();
  render(
    <MantineProvider env="test">
      <QueryClientProvider client={new QueryClient()}>
        <ResourceForm<Thing>
          opened
          onClose={onClose}
          title="Edit p"
          fields={[{ pointer: "/weight", label: "Weight", kind: "number" }]}
          initial={{ name: "p" }}
          etag='"tag"'
          put={put}
          onReadAgain={onReadAgain}
          onDone={onDone}
        />
      </QueryClientProvider>
    </MantineProvider>,
  );
  return { onDone, onClose };
}

const show = () => userEvent.click(screen.getByRole("button", { name: "Show what changes" }));

it("shows what changes before it can be applied, and applies what was shown", async () => {
  const put = vi.fn(async () => commit());
  const { onDone, onClose } = open(put);
  expect(screen.queryByRole("button", { name: "Apply" })).toBeNull();
  await userEvent.type(screen.getByLabelText("Weight"), "7");
  await show();
  expect(await screen.findByText("/weight")).toBeTruthy();
  expect(put).toHaveBeenLastCalledWith({ name: "p", weight: 7 }, { dryRun: true, etag: '"tag"' });
  await userEvent.click(screen.getByRole("button", { name: "Apply" }));
  await waitFor(() => expect(onDone).toHaveBeenCalled());
  expect(put).toHaveBeenLastCalledWith({ name: "p", weight: 7 }, { etag: '"tag"', wait: true });
  expect(onClose).toHaveBeenCalled();
});

it("asks for another look when something is changed after it was shown", async () => {
  open(async () => commit());
  await show();
  await screen.findByRole("button", { name: "Apply" });
  await userEvent.type(screen.getByLabelText("Weight"), "8");
  expect(screen.queryByRole("button", { name: "Apply" })).toBeNull();
});

it("puts a mistake at its field, and the rest above", async () => {
  const errors = [
    { pointer: "/weight", detail: "256 at most" },
    { pointer: "/backends", detail: "at least one" },
  ];
  open(async () => {
    throw new ApiProblem({
      type: "t",
      title: "What was sent has mistakes",
      status: 422,
      detail: "2 mistakes",
      request_id: "r",
      errors,
    });
  });
  await show();
  expect(await screen.findByText("256 at most")).toBeTruthy();
  expect(screen.getByLabelText("Weight").getAttribute("aria-invalid")).toBe("true");
  const alert = screen.getByRole("alert");
  expect(alert.textContent).toContain("at least one");
  expect(alert.textContent).not.toContain("256 at most");
});

it("offers to read again what somebody else has changed", async () => {
  const onReadAgain = vi.fn();
  open(async () => {
    throw new ApiProblem({ type: "t", title: "Stale", status: 412, detail: "d", request_id: "r" });
  }, onReadAgain);
  await show();
  await userEvent.click(await screen.findByRole("button", { name: "Read again" }));
  expect(onReadAgain).toHaveBeenCalled();
});

it("shows the same value as fields and as JSON", async () => {
  open(async () => commit());
  const json = screen.getByLabelText("All of it, as JSON");
  await userEvent.type(screen.getByLabelText("Weight"), "5");
  expect(JSON.parse((json as HTMLTextAreaElement).value)).toEqual({ name: "p", weight: 5 });
  await userEvent.clear(json);
  await userEvent.paste('{ "name": "p", "weight": 6 }');
  expect((screen.getByLabelText("Weight") as HTMLInputElement).value).toBe("6");
  await userEvent.paste("{");
  expect(screen.getByRole("button", { name: "Show what changes" })).toHaveProperty(
    "disabled",
    true,
  );
});

it("says in a sentence who runs it", () => {
  const applied = { applied: ["a", "b"], failed: [], pending: ["c"], offline: [] };
  expect(appliedWords(commit({ applied }))).toBe(
    "Revision 4 runs on 2 agents; 1 agent has not answered.",
  );
  expect(appliedWords(commit({ changed: false }))).toBe("Nothing has changed.");
});
