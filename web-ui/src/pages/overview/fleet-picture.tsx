// The fleet as a picture: columns from the clients to the app processes, and the edges
// between them with what flows there now. Where there is no room it is a sequence. In both
// the same cards in the same order, which is also how it is read out.

import { useElementSize } from "@mantine/hooks";
import { type CSSProperties, useMemo } from "react";
import { useLive } from "../../api/events";
import type { Topology } from "../../api/types";
import { rate } from "../../format/numbers";
import { COLUMNS, type Column, type FleetGraph, fleetGraph, partId } from "./fleet-graph";
import { type FleetLayout, layoutFleet, PICTURE_FROM_PX, type PlacedEdge } from "./fleet-layout";
import { FleetPart } from "./fleet-part";
import classes from "./fleet-picture.module.css";

const TITLES: Record<Column, string> = {
  clients: "Clients",
  balancers: "Balancers",
  terminators: "Terminators",
  apps: "App processes",
};

export function FleetPicture({ topology }: { topology: Topology }) {
  const { ref, width } = useElementSize();
  const graph = useMemo(() => fleetGraph(topology), [topology]);
  const layout = useMemo(
    () => (width >= PICTURE_FROM_PX ? layoutFleet(graph, width) : undefined),
    [graph, width],
  );
  return (
    <div
      ref={ref}
      className={classes.fleet}
      data-sequence={layout === undefined}
      style={layout && { height: layout.height }}
    >
      {layout && <Edges layout={layout} width={width} />}
      {COLUMNS.map((column) => (
        <FleetColumn key={column} column={column} graph={graph} layout={layout} />
      ))}
    </div>
  );
}

interface ColumnProps {
  column: Column;
  graph: FleetGraph;
  layout: FleetLayout | undefined;
}

function FleetColumn({ column, graph, layout }: ColumnProps) {
  const nodes = graph.nodes.filter((node) => node.column === column);
  if (nodes.length === 0) return null;
  const place = layout?.columns.find((one) => one.column === column);
  return (
    <div className={classes.column}>
      <h3 className={classes.title} style={place && { left: place.left, width: place.width }}>
        {TITLES[column]}
      </h3>
      <ul className={classes.cards}>
        {nodes.map((node) => (
          <li
            key={node.id}
            className={classes.card}
            {...(layout && { style: boxStyle(layout, node.id) })}
          >
            {node.parts.map((part) => (
              <FleetPart key={partId(part)} part={part} />
            ))}
          </li>
        ))}
      </ul>
    </div>
  );
}

function boxStyle(layout: FleetLayout, id: string): CSSProperties {
  const box = layout.boxes.get(id);
  return box ? { left: box.left, top: box.top, width: box.width, height: box.height } : {};
}

function Edges({ layout, width }: { layout: FleetLayout; width: number }) {
  const { phase } = useLive();
  return (
    <svg
      className={classes.edges}
      width={width}
      height={layout.height}
      data-still={phase !== "live"}
      aria-hidden="true"
    >
      {layout.edges.map((edge) => (
        <Edge key={edge.id} edge={edge} />
      ))}
    </svg>
  );
}

function Edge({ edge: { path, rate: flowing, tone, label } }: { edge: PlacedEdge }) {
  return (
    <g data-tone={tone}>
      <path d={path} className={classes.line} strokeWidth={lineWidth(flowing)} />
      {flowing > 0 && tone !== "down" && (
        <path
          d={path}
          className={classes.flow}
          style={{ animationDuration: `${pace(flowing)}s` }}
        />
      )}
      {label && (
        <text x={label.x} y={label.y} className={classes.rate}>
          {rate(flowing)}
        </text>
      )}
    </g>
  );
}

/** Ten times as much is a bit wider, and a bit faster. */
function lineWidth(flowing: number): number {
  return 1.5 + Math.min(2, Math.log10(1 + flowing) * 0.5);
}

function pace(flowing: number): number {
  return Math.round(10 * Math.max(0.5, 2.4 - Math.log10(1 + flowing) * 0.5)) / 10;
}
