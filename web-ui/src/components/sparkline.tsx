// The last hour of one figure as a line without axes: decoration beside the number, which
// says what matters. `TimeChart` is for reading.

import { useId } from "react";
import type { Points } from "../api/types";
import { sparkPaths } from "./spark-path";
import classes from "./sparkline.module.css";

const WIDTH = 120;
const HEIGHT = 28;

export function Sparkline({ points }: { points: Points }) {
  const id = useId();
  const { line, area } = sparkPaths(points, WIDTH, HEIGHT);
  return (
    <svg
      className={classes.spark}
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      aria-hidden="true"
    >
      <linearGradient id={id} x1="0" y1="0" x2="0" y2="1">
        <stop offset="0" stopColor="currentColor" stopOpacity="0.22" />
        <stop offset="1" stopColor="currentColor" stopOpacity="0.02" />
      </linearGradient>
      <path d={area} fill={`url(#${id})`} />
      <path d={line} className={classes.line} />
    </svg>
  );
}
