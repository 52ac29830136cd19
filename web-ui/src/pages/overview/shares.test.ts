import { describe, expect, it } from "vitest";
import { placeOf } from "./places";
import { barWidths, resumedShare, type Share } from "./shares";
import { sharesInWords } from "./state-shares";

const shares: Share[] = [
  { state: "down", count: 1 },
  { state: "drain", count: 2, word: "drained" },
  { state: "up", count: 997 },
];

describe("shares", () => {
  it("are drawn so that the least is seen, and fill the bar", () => {
    const widths = barWidths(shares);
    expect(widths.reduce((sum, width) => sum + width, 0)).toBeCloseTo(100);
    expect(Math.min(...widths)).toBeGreaterThan(2.5);
    expect(barWidths([])).toEqual([]);
  });

  it("are said in words", () => {
    expect(sharesInWords(shares)).toBe("1 down, 2 drained, 997 up");
  });

  it("have no part of nothing", () => {
    expect(resumedShare(0, 0)).toBeUndefined();
    expect(resumedShare(10, 7)).toBeCloseTo(0.7);
    expect(resumedShare(10, 10.4)).toBe(1);
  });
});

describe("placeOf", () => {
  it("leads to the page of what needs attention", () => {
    expect(placeOf({ kind: "certificate", name: "play" })).toBe("/certificates/play");
    expect(placeOf({ kind: "backend", name: ":3000", pool: "game-node" })).toBe(
      "/pools/game-node?q=%3A3000",
    );
    expect(placeOf({ kind: "control_plane", name: "x" })).toBeUndefined();
  });
});
