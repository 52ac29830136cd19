// The uPlot half of TimeChart: its own chunk.

import "uplot/dist/uPlot.min.css";
import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useRef } from "react";
import uPlot from "uplot";
import { clock } from "../format/durations";
import { chartTimes, lineColor } from "./chart-data";
import type { TimeChartProps } from "./time-chart";
import classes from "./time-chart.module.css";

/** What is shown at least. */
const SHORTEST_S = 15 * 60;
const AXIS_FONT = "11px system-ui, sans-serif";

export default function TimeChartCanvas(props: TimeChartProps & { height: number }) {
  const { series, lines, format, height } = props;
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const scheme = useComputedColorScheme();
  const shape = lines.map(({ measure, color }) => `${measure} ${color}`).join();
  const latestProps = useRef(props);
  latestProps.current = props;

  // Made again when its lines or colours change, since uPlot reads both once.
  // biome-ignore lint/correctness/useExhaustiveDependencies: `shape` and `scheme` stand for them
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const made = new uPlot(
      options(element, lines, format, height),
      dataOf(latestProps.current),
      element,
    );
    plot.current = made;
    const sizes = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    sizes.observe(element);
    return () => {
      sizes.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, [shape, scheme, height, format]);

  useEffect(() => {
    plot.current?.setData(dataOf({ series, lines }));
  }, [series, lines]);

  return <div ref={box} className={classes.canvas} />;
}

function dataOf({ series, lines }: Pick<TimeChartProps, "series" | "lines">): uPlot.AlignedData {
  const times = chartTimes(series);
  return [times, ...lines.map(({ measure }) => series.measures[measure] ?? times.map(() => null))];
}

function options(
  element: HTMLElement,
  lines: TimeChartProps["lines"],
  format: TimeChartProps["format"],
  height: number,
): uPlot.Options {
  const style = getComputedStyle(element);
  const color = (name: string) => resolve(style, name);
  const axis: uPlot.Axis = {
    stroke: color("var(--dim)"),
    font: AXIS_FONT,
    grid: { stroke: color("var(--line)"), width: 1 },
    ticks: { show: false },
  };
  return {
    width: element.clientWidth,
    height,
    legend: { show: false },
    padding: [8, 20, 0, 0],
    cursor: { y: false, drag: { setScale: false }, points: { size: 6 } },
    scales: {
      // The first minutes are not the whole width: that would look like an hour.
      x: { range: (plot) => timeRange(plot.data[0]) },
      y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] },
    },
    axes: [
      {
        ...axis,
        size: 24,
        space: 70,
        values: (_, times) => times.map((time) => clock(time * 1000).slice(0, 5)),
      },
      { ...axis, size: 64, values: (_, values) => values.map(format) },
    ],
    series: [
      {},
      ...lines.map((line, index) => ({
        label: line.label,
        stroke: color(lineColor(line, index)),
        width: 1.5,
        points: { show: false },
        // Areas over each other would say nothing.
        ...(lines.length === 1 && index === 0 && { fill: translucent(color("var(--tide)")) }),
      })),
    ],
    plugins: [tip(format)],
  };
}

/** Of one point the library knows no range. */
function timeRange(times: ArrayLike<number>): [number, number] {
  const to = times[times.length - 1] ?? Date.now() / 1000;
  return [Math.min(times[0] ?? to, to - SHORTEST_S), to];
}

/** A canvas knows no CSS variables. */
function resolve(style: CSSStyleDeclaration, value: string): string {
  const name = /^var\((--[a-z0-9-]+)\)$/.exec(value)?.[1];
  return name === undefined ? value : style.getPropertyValue(name).trim();
}

function translucent(hex: string): string {
  return `${hex}22`;
}

/** Time and values at the pointer. */
function tip(format: (value: number) => string): uPlot.Plugin {
  const element = document.createElement("div");
  element.className = classes.tip ?? "";
  return {
    hooks: {
      init: (plot) => plot.over.append(element),
      setCursor: (plot) => {
        const { idx, left = -1 } = plot.cursor;
        const time = idx == null || left < 0 ? undefined : plot.data[0][idx];
        element.style.display = time === undefined ? "none" : "block";
        if (time === undefined || idx == null) return;
        const values = plot.series.slice(1).map((line, index) => {
          const value = plot.data[index + 1]?.[idx];
          return `${line.label} ${value == null ? "not known" : format(value)}`;
        });
        element.textContent = [clock(time * 1000), ...values].join("  ·  ");
        const room = plot.over.clientWidth - element.clientWidth;
        element.style.left = `${Math.max(0, Math.min(left + 12, room))}px`;
      },
    },
  };
}
