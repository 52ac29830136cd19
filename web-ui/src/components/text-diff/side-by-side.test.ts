import { describe, expect, it } from "vitest";
import { fold, lineCounts, type Row, sideBySide } from "./side-by-side";

const text = (...lines: string[]) => lines.map((line) => `${line}\n`).join("");
const kinds = (rows: Row[]) => rows.map(({ kind }) => kind).join(" ");

describe("two texts side by side", () => {
  it("stand line by line, with their own numbers", () => {
    const rows = sideBySide(text("a", "b", "d"), text("a", "c", "x", "d"));
    expect(kinds(rows)).toBe("same changed added same");
    expect(rows.map(({ left }) => left?.number)).toEqual([1, 2, undefined, 3]);
    expect(rows.map(({ right }) => right?.number)).toEqual([1, 2, 3, 4]);
  });

  it("show which words differ", () => {
    const [row] = sideBySide("weight: 1 # x\n", "weight: 20 # x\n");
    const marked = (parts: { text: string; changed: boolean }[] | undefined) =>
      parts?.filter(({ changed }) => changed).map((part) => part.text);
    expect(marked(row?.left?.parts)).toEqual(["1"]);
    expect(marked(row?.right?.parts)).toEqual(["20"]);
  });

  it("know a removal at the end, and a whole new text", () => {
    expect(kinds(sideBySide(text("a", "b"), text("a")))).toBe("same removed");
    expect(kinds(sideBySide("", text("a", "b")))).toBe("added added");
    expect(sideBySide("", "")).toEqual([]);
    expect(kinds(sideBySide("a", "a\n"))).toBe("same");
  });

  it("count what came and went", () => {
    expect(lineCounts(sideBySide(text("a", "b"), text("a", "c", "d")))).toEqual({
      added: 2,
      removed: 1,
    });
  });
});

describe("folding", () => {
  const lines = Array.from({ length: 20 }, (_, index) => `line ${index}`);
  const changed = lines.with(10, "other");
  const items = fold(sideBySide(text(...lines), text(...changed)), 2);

  it("keeps what is near a change", () => {
    expect(items.map(({ kind }) => kind)).toEqual([
      "folded",
      "same",
      "same",
      "changed",
      "same",
      "same",
      "folded",
    ]);
    expect(items[0]?.kind === "folded" && items[0].rows.length).toBe(8);
  });

  it("folds everything where nothing differs, and never a single line", () => {
    expect(fold(sideBySide(text("a", "b"), text("a", "b")))).toHaveLength(1);
    expect(fold(sideBySide(text("a"), text("a"))).map(({ kind }) => kind)).toEqual(["same"]);
  });
});
