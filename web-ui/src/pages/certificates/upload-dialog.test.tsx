import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { useState } from "react";
import { beforeEach, expect, it, vi } from "vitest";
import { uploadCertificate } from "../../api/queries/certificates";
import { UploadDialog } from "./upload-dialog";

vi.mock("../../api/queries/certificates", () => ({
  uploadCertificate: vi.fn(),
  certificatesQuery: {
    queryKey: ["certificates"],
    queryFn: () => [
      {
        name: "old",
        used_by: ["tls"],
        held_by: ["a", "b"],
        dns_names: [],
        not_after: "2026-12-01T00:00:00Z",
      },
    ],
  },
}));

const upload = vi.mocked(uploadCertificate);
const KEY = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n";

function Page() {
  const [opened, setOpened] = useState(true);
  return (
    <>
      <button type="button" onClick={() => setOpened(true)}>
        open
      </button>
      <UploadDialog opened={opened} onClose={() => setOpened(false)} />
    </>
  );
}

beforeEach(() => {
  upload.mockReset();
  upload.mockResolvedValue({
    revision: 1,
    change: 2,
    changed: true,
    diff: [],
    uploaded: {
      dns_names: ["play.example.com"],
      not_before: "2026-11-01T00:00:00Z",
      not_after: "2027-11-01T00:00:00Z",
      links: [],
    },
  });
  render(
    <MantineProvider env="test">
      <QueryClientProvider client={new QueryClient()}>
        <Page />
      </QueryClientProvider>
    </MantineProvider>,
  );
});

async function paste() {
  await userEvent.click(screen.getByLabelText("Chain"));
  await userEvent.paste("chain");
  await userEvent.click(screen.getByLabelText("Private key"));
  await userEvent.paste(KEY);
}

const inPage = (text: string) =>
  document.body.innerHTML.includes(text) ||
  [...document.querySelectorAll("textarea, input")].some((field) =>
    (field as HTMLInputElement).value.includes(text),
  );

it("takes the key out of its field at once, and can be cleared of it", async () => {
  await paste();
  expect(inPage("secret")).toBe(false);
  expect(screen.getByDisplayValue(/is at hand. It is not shown/)).toBeTruthy();
  await userEvent.click(screen.getByRole("button", { name: "Clear: Private key" }));
  expect(screen.getByRole("button", { name: "Show what changes" })).toHaveProperty(
    "disabled",
    true,
  );
});

it("looks at what is in it first, suggests a name, then uploads", async () => {
  await paste();
  await userEvent.click(screen.getByRole("button", { name: "Show what changes" }));
  expect(await screen.findByDisplayValue("play.example.com")).toBeTruthy();
  const dryRun = { dryRun: true, etag: undefined };
  expect(upload.mock.calls).toEqual([
    ["new", "chain", KEY, dryRun],
    ["play.example.com", "chain", KEY, dryRun],
  ]);
  await userEvent.click(screen.getByRole("button", { name: "Upload" }));
  await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
  expect(upload).toHaveBeenLastCalledWith("play.example.com", "chain", KEY, {
    etag: undefined,
    wait: true,
  });
});

it("asks for another look under another name, and says whom that replaces", async () => {
  await paste();
  await userEvent.click(screen.getByRole("button", { name: "Show what changes" }));
  await screen.findByRole("button", { name: "Upload" });
  await userEvent.clear(screen.getByLabelText("Name"));
  await userEvent.type(screen.getByLabelText("Name"), "old");
  expect(screen.queryByRole("button", { name: "Upload" })).toBeNull();
  await userEvent.click(screen.getByRole("button", { name: "Show what changes" }));
  expect(await screen.findByText(/2 agents get it, for tls/)).toBeTruthy();
  expect(upload).toHaveBeenLastCalledWith("old", "chain", KEY, { dryRun: true, etag: undefined });
});

it("has forgotten the key when it is opened again", async () => {
  await paste();
  await userEvent.click(screen.getByRole("button", { name: "Cancel" }));
  await userEvent.click(screen.getByRole("button", { name: "open" }));
  expect((screen.getByLabelText("Private key") as HTMLTextAreaElement).value).toBe("");
  expect(inPage("at hand")).toBe(false);
});
