// A series as uPlot takes it, and in words.

import type { Points, Series } from "../api/types";

/** The moments of all points, in seconds since 1970, as uPlot counts. */
export function chartTimes(series: Series): number[] {
  const length = Object.values(series.measures)[0]?.length ?? 0;
  if (!series.to) return [];
  const to = Date.parse(series.to) / 1000;
  const step = series.step_ms / 1000;
  return Array.from({ length }, (_, index) => to - (length - 1 - index) * step);
}

/** The newest value that is known, if there is any. */
export function latest(points: Points | undefined): number | undefined {
  return points?.findLast((value) => value !== null) ?? undefined;
}

/** One sentence for each line: now, least and most. */
export function chartSummary(
  series: Series,
  lines: { measure: string; label: string }[],
  format: (value: number) => string,
): string[] {
  return lines.map(({ measure, label }) => {
    const known = (series.measures[measure] ?? []).filter((value) => value !== null);
    const last = known.at(-1);
    if (last === undefined) return `${label}: nothing is known.`;
    const least = format(Math.min(...known));
    const most = format(Math.max(...known));
    return `${label}: now ${format(last)}, between ${least} and ${most} in what is shown.`;
  });
}

const COLORS = ["var(--tide)", "var(--data-2)", "var(--data-3)"];

/** Colours of states are for states: other lines have theirs by their place. */
export function lineColor(line: { color?: string }, place: number): string {
  return line.color ?? COLORS[place % COLORS.length] ?? "var(--tide)";
}
