import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { useState } from "react";
import { expect, it, vi } from "vitest";
import { ApiProblem } from "../api/problem";
import { ConfirmAction } from "./confirm-action";

interface Setting {
  act: (shown: number) => Promise<string>;
  read?: () => Promise<number>;
  onDone?: (result: string) => void;
}

function Page({ act, read = async () => 41, onDone = () => {} }: Setting) {
  const [opened, setOpened] = useState(false);
  return (
    <>
      <button type="button" onClick={() => setOpened(true)}>
        Drain game-node/:3000
      </button>
      <ConfirmAction
        opened={opened}
        onClose={() => setOpened(false)}
        title="Drain game-node/:3000"
        label="Drain"
        previewKey={[]}
        read={read}
        describe={(live) => <p>{live} live connections end by themselves.</p>}
        act={act}
        onDone={onDone}
      />
    </>
  );
}

async function open(setting: Setting) {
  render(
    <MantineProvider env="test">
      <QueryClientProvider client={new QueryClient()}>
        <Page {...setting} />
      </QueryClientProvider>
    </MantineProvider>,
  );
  await userEvent.click(screen.getByRole("button", { name: "Drain game-node/:3000" }));
}

const problem = (status: number) =>
  new ApiProblem({ type: "t", title: "Refused", status, detail: "why", request_id: "r-1" });

it("says what it will do before it can be done, then does it and closes", async () => {
  const act = vi.fn(async () => "done");
  const onDone = vi.fn();
  await open({ act, onDone });
  expect(await screen.findByText("41 live connections end by themselves.")).toBeTruthy();
  expect(act).not.toHaveBeenCalled();
  await userEvent.click(screen.getByRole("button", { name: "Drain" }));
  await waitFor(() => expect(onDone).toHaveBeenCalledWith("done", 41));
  expect(act).toHaveBeenCalledWith(41);
  await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
  const opener = screen.getByRole("button", { name: "Drain game-node/:3000" });
  await waitFor(() => expect(document.activeElement).toBe(opener));
});

it("stays open with the problem, and reads again what has changed", async () => {
  const read = vi.fn(async () => 41);
  await open({ act: () => Promise.reject(problem(412)), read });
  await screen.findByText(/41 live/);
  await userEvent.click(screen.getByRole("button", { name: "Drain" }));
  expect((await screen.findByRole("alert")).textContent).toContain("Somebody has changed this");
  await userEvent.click(screen.getByRole("button", { name: "Read again" }));
  await waitFor(() => expect(read).toHaveBeenCalledTimes(2));
  expect(screen.queryByRole("alert")).toBeNull();
});

it("cannot be done while nobody knows what it would do", async () => {
  await open({ act: async () => "done", read: () => Promise.reject(problem(503)) });
  expect((await screen.findByRole("alert")).textContent).toContain("r-1");
  expect(screen.getByRole("button", { name: "Drain" }).hasAttribute("disabled")).toBe(true);
});
