// A chart over time, to be read: axes, values at the pointer, and a table of its figures for
// who does not see it. uPlot is loaded when the first one is shown.

import { lazy, Suspense } from "react";
import type { Series } from "../api/types";
import { ChartBoundary } from "./chart-boundary";
import { chartSummary, lineColor } from "./chart-data";
import classes from "./time-chart.module.css";

const Canvas = lazy(() => import("./time-chart-canvas"));

export interface Line {
  /** A measure of the series. */
  measure: string;
  label: string;
  /** A CSS colour, where the line is a state; else by its place, see `lineColor`. */
  color?: string;
}

export interface TimeChartProps {
  title: string;
  series: Series;
  lines: Line[];
  /** A value as text: `rate`, `byteRate`, `count`. */
  format: (value: number) => string;
  height?: number;
}

export function TimeChart(props: TimeChartProps) {
  const { title, series, lines, format, height = 160 } = props;
  const summaries = chartSummary(series, lines, format);
  return (
    <figure className={classes.chart}>
      <figcaption className={classes.caption}>
        <span>{title}</span>
        <span className={classes.legend} aria-hidden="true">
          {lines.length > 1 &&
            lines.map((line, place) => (
              <span
                key={line.measure}
                style={{ "--line-color": lineColor(line, place) } as React.CSSProperties}
              >
                {line.label}
              </span>
            ))}
        </span>
      </figcaption>
      <ul className="hidden">
        {summaries.map((words) => (
          <li key={words}>{words}</li>
        ))}
      </ul>
      <div aria-hidden="true" style={{ height }}>
        {!series.to ? (
          <p className={classes.nothing}>
            No figures yet. The first come within seconds of a report.
          </p>
        ) : (
          <ChartBoundary>
            <Suspense fallback={null}>
              <Canvas {...props} height={height} />
            </Suspense>
          </ChartBoundary>
        )}
      </div>
    </figure>
  );
}
