// Points as SVG paths. A gap in what is known is a gap in the line. The foot is zero, so
// that a line that trembles does not look like a mountain range.

import type { Points } from "../api/types";

const PAD = 1.5;

export interface SparkPaths {
  line: string;
  area: string;
}

export function sparkPaths(points: Points, width: number, height: number): SparkPaths {
  const top = points.reduce<number>((most, value) => Math.max(most, value ?? 0), 0) || 1;
  const step = points.length > 1 ? width / (points.length - 1) : 0;
  const x = (index: number) => round(index * step);
  const y = (value: number) => round(height - PAD - (value / top) * (height - 2 * PAD));
  let line = "";
  let area = "";
  for (const [first, run] of runs(points)) {
    const steps = run.map((value, index) => `${x(first + index)} ${y(value)}`);
    // One point alone is drawn as a dash, else nobody would see it.
    const path = steps.length > 1 ? steps.join("L") : `${steps[0]}h1`;
    line += `M${path}`;
    if (steps.length > 1) area += `M${path}V${height}H${x(first)}Z`;
  }
  return { line, area };
}

/** Unbroken runs of known values, each with the index of its first. */
export function runs(points: Points): [number, number[]][] {
  const found: [number, number[]][] = [];
  let run: number[] | undefined;
  points.forEach((value, index) => {
    if (value === null) run = undefined;
    else if (run) run.push(value);
    else {
      run = [value];
      found.push([index, run]);
    }
  });
  return found;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
