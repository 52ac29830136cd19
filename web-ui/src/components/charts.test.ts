import { describe, expect, it } from "vitest";
import type { Series } from "../api/types";
import { chartSummary, chartTimes, latest } from "./chart-data";
import { runs, sparkPaths } from "./spark-path";

const series: Series = {
  step_ms: 5_000,
  to: "1970-01-01T00:01:00Z",
  measures: { live: [1, null, 3] },
};

describe("chart data", () => {
  it("puts the last point at the series' end", () => {
    expect(chartTimes(series)).toEqual([50, 55, 60]);
    expect(chartTimes({ ...series, to: null })).toEqual([]);
  });

  it("knows the newest value that there is", () => {
    expect(latest([1, 2, null])).toBe(2);
    expect(latest([null])).toBeUndefined();
    expect(latest(undefined)).toBeUndefined();
    expect(latest([0])).toBe(0);
  });

  it("is told in words", () => {
    const lines = [
      { measure: "live", label: "Live" },
      { measure: "none", label: "None" },
    ];
    expect(chartSummary(series, lines, String)).toEqual([
      "Live: now 3, between 1 and 3 in what is shown.",
      "None: nothing is known.",
    ]);
  });
});

describe("sparkPaths", () => {
  it("leaves a gap where nothing is known", () => {
    expect(runs([null, 1, 2, null, 3])).toEqual([
      [1, [1, 2]],
      [4, [3]],
    ]);
    expect(sparkPaths([null, 1, 2, null, 3], 120, 28).line.match(/M/g)).toHaveLength(2);
  });

  it("stands on zero, and draws zeros at the foot", () => {
    expect(sparkPaths([0, 0], 100, 20).line).toBe("M0 18.5L100 18.5");
    expect(sparkPaths([10, 5], 100, 20).line).toBe("M0 1.5L100 10");
  });

  it("draws nothing of nothing", () => {
    expect(sparkPaths([], 100, 20)).toEqual({ line: "", area: "" });
  });
});
