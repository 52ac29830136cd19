import { describe, expect, it } from "vitest";
import { filterRows, nextSorting, parseSorting, sortingText, sortRows } from "./table-rows";
import { nextIndex } from "./use-row-keys";

interface Row {
  name: string;
  live?: number;
}

const rows: Row[] = [
  { name: "node-10", live: 4 },
  { name: "node-2" },
  { name: "node-1", live: 12 },
];
const names = (found: readonly Row[]) => found.map(({ name }) => name);

describe("sorting", () => {
  it("is written in the address and read from it", () => {
    expect(parseSorting("")).toBeUndefined();
    expect(parseSorting("-live")).toEqual({ column: "live", descending: true });
    expect(sortingText({ column: "live", descending: true })).toBe("-live");
  });

  it("turns around when the same head is pressed", () => {
    const first = nextSorting(undefined, "live", true);
    expect(first).toEqual({ column: "live", descending: true });
    expect(nextSorting(first, "live", true).descending).toBe(false);
    expect(nextSorting(first, "name", false)).toEqual({ column: "name", descending: false });
  });

  it("knows that node-2 comes before node-10", () => {
    expect(names(sortRows(rows, ({ name }) => name, false))).toEqual([
      "node-1",
      "node-2",
      "node-10",
    ]);
  });

  it("puts what is not known last, both ways", () => {
    expect(names(sortRows(rows, ({ live }) => live, false))).toEqual([
      "node-10",
      "node-1",
      "node-2",
    ]);
    expect(names(sortRows(rows, ({ live }) => live, true))).toEqual([
      "node-1",
      "node-10",
      "node-2",
    ]);
  });
});

describe("filterRows", () => {
  it("wants every word, in any case", () => {
    expect(names(filterRows(rows, ({ name }) => `${name} Berlin`, "NODE berlin 10"))).toEqual([
      "node-10",
    ]);
    expect(filterRows(rows, ({ name }) => name, "  ")).toBe(rows);
  });
});

describe("nextIndex", () => {
  it("stays inside the table", () => {
    expect(nextIndex("ArrowDown", 0, 2)).toBe(1);
    expect(nextIndex("ArrowDown", 1, 2)).toBeUndefined();
    expect(nextIndex("ArrowUp", 0, 2)).toBeUndefined();
    expect(nextIndex("End", 0, 5_000)).toBe(4_999);
    expect(nextIndex("x", 0, 2)).toBeUndefined();
  });
});
