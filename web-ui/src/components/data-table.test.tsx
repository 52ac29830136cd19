import { MantineProvider } from "@mantine/core";
import { render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { MemoryRouter } from "react-router";
import { expect, it } from "vitest";
import { type Column, DataTable } from "./data-table";

interface Row {
  name: string;
  live: number;
}

const columns: Column<Row>[] = [
  {
    id: "name",
    title: "Name",
    cell: ({ name }) => <a href="/x">{name}</a>,
    sort: ({ name }) => name,
  },
  { id: "live", title: "Live", cell: ({ live }) => live, sort: ({ live }) => live, numeric: true },
];

function show(rows: Row[], address = "/") {
  return render(
    <MantineProvider>
      <MemoryRouter initialEntries={[address]}>
        <DataTable
          label="Backends"
          columns={columns}
          rows={rows}
          rowKey={({ name }) => name}
          filterText={({ name }) => name}
        />
      </MemoryRouter>
    </MantineProvider>,
  );
}

function names(): (string | null)[] {
  return screen.getAllByRole("link").map(({ textContent }) => textContent);
}

const rows = [
  { name: "a", live: 1 },
  { name: "b", live: 3 },
  { name: "c", live: 2 },
];

it("is sorted by its heads, and says so", async () => {
  show(rows);
  expect(names()).toEqual(["a", "b", "c"]);
  await userEvent.click(screen.getByRole("button", { name: "Live" }));
  expect(names()).toEqual(["b", "c", "a"]);
  expect(screen.getByRole("columnheader", { name: "Live" }).getAttribute("aria-sort")).toBe(
    "descending",
  );
});

it("takes filter and order from the address", () => {
  show([...rows, { name: "ab", live: 9 }], "/?q=a&sort=-live");
  expect(names()).toEqual(["ab", "a"]);
  expect(screen.getByText("2 of 4")).toBeTruthy();
});

it("goes from row to row with arrow keys", async () => {
  show(rows);
  screen.getByRole("link", { name: "a" }).focus();
  await userEvent.keyboard("{ArrowDown}");
  await new Promise(requestAnimationFrame);
  expect(document.activeElement?.textContent).toBe("b");
});

it("draws a part of five thousand rows, and counts them all", () => {
  show(Array.from({ length: 5_000 }, (_, index) => ({ name: `n${index}`, live: index })));
  const table = screen.getByRole("table", { name: "Backends" });
  expect(table.getAttribute("aria-rowcount")).toBe("5001");
  expect(within(table).getAllByRole("row").length).toBeLessThan(200);
  expect(screen.getByRole("region", { name: "Backends" }).tabIndex).toBe(0);
});
