// Where the cards of the fleet's picture stand, and the way of each edge between them. Pure:
// a card's height follows from its parts, so that nothing has to be measured.

import {
  COLUMNS,
  type Column,
  type End,
  type FleetEdge,
  type FleetGraph,
  type FleetNode,
} from "./fleet-graph";

export const HEAD_PX = 28;
export const PART_PX = { clients: 116, listener: 88, pool: 88 } as const;
const CLIENTS_PX = 132;
const CARD_MAX_PX = 300;
/** Room for a rate beside an edge. */
const GAP_MIN_PX = 76;
const ROW_GAP_PX = 16;
/** What passes a column goes between its cards. */
const LANE_PX = 20;
/** Below this the picture is a sequence instead. */
export const PICTURE_FROM_PX = 820;

export interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

export interface PlacedEdge {
  id: string;
  path: string;
  rate: number;
  tone: FleetEdge["tone"];
  /** Where the rate stands: only at the last edge into a place, which all join. */
  label: { x: number; y: number } | undefined;
}

export interface FleetLayout {
  height: number;
  columns: { column: Column; left: number; width: number }[];
  boxes: Map<string, Box>;
  edges: PlacedEdge[];
}

/** A card, or the lane of an edge that passes the column. */
interface Slot {
  id: string;
  height: number;
}

export function layoutFleet(graph: FleetGraph, width: number): FleetLayout {
  const used = COLUMNS.filter((column) => graph.nodes.some((node) => node.column === column));
  const columns = placeColumns(used, width);
  const slots = orderSlots(graph, used);
  const heights = slots.map(columnHeight);
  const height = HEAD_PX + Math.max(...heights, 0);

  const boxes = new Map<string, Box>();
  slots.forEach((column, index) => {
    const place = columns[index];
    if (!place) return;
    // Columns are centred: what fans out fans out to both sides.
    let top = HEAD_PX + (height - HEAD_PX - (heights[index] ?? 0)) / 2;
    for (const slot of column) {
      boxes.set(slot.id, { left: place.left, top, width: place.width, height: slot.height });
      top += slot.height + ROW_GAP_PX;
    }
  });
  return { height, columns, boxes, edges: placeEdges(graph, used, boxes) };
}

function placeColumns(used: Column[], width: number): FleetLayout["columns"] {
  const gaps = used.length - 1;
  const cards = used.filter((column) => column !== "clients").length;
  const clients = used.includes("clients") ? CLIENTS_PX : 0;
  const card = Math.min(CARD_MAX_PX, (width - clients - gaps * GAP_MIN_PX) / Math.max(1, cards));
  const gap = gaps > 0 ? (width - clients - cards * card) / gaps : 0;
  let left = 0;
  return used.map((column) => {
    const place = { column, left, width: column === "clients" ? CLIENTS_PX : card };
    left += place.width + gap;
    return place;
  });
}

/** What stands in each column, from top to bottom: near what leads there. */
function orderSlots(graph: FleetGraph, used: Column[]): Slot[][] {
  const rank = new Map<string, number>();
  return used.map((column, index) => {
    const slots: { slot: Slot; wish: number }[] = [];
    for (const node of graph.nodes)
      if (node.column === column)
        slots.push({
          slot: { id: node.id, height: nodeHeight(node) },
          wish: wishOf(node, graph, rank),
        });
    for (const edge of graph.edges)
      if (passes(edge, index, graph, used))
        slots.push({
          slot: { id: laneId(edge, index), height: LANE_PX },
          wish: rank.get(edge.from.node) ?? 0,
        });
    // Sorting is stable: the document's order decides among equals.
    slots.sort((a, b) => a.wish - b.wish);
    slots.forEach(({ slot }, place) => {
      rank.set(slot.id, slots.length > 1 ? place / (slots.length - 1) : 0.5);
    });
    return slots.map(({ slot }) => slot);
  });
}

/** The mean place of what leads to a node; what nothing leads to goes last. */
function wishOf(node: FleetNode, graph: FleetGraph, rank: Map<string, number>): number {
  const from = graph.edges.filter((edge) => edge.to.node === node.id).map((edge) => edge.from.node);
  if (from.length === 0) return 2;
  return from.reduce((sum, id) => sum + (rank.get(id) ?? 0), 0) / from.length;
}

function placeEdges(graph: FleetGraph, used: Column[], boxes: Map<string, Box>): PlacedEdge[] {
  const nodes = new Map(graph.nodes.map((node) => [node.id, node]));
  const labelled = new Map(graph.edges.map((edge) => [`${edge.to.node} ${edge.to.part}`, edge.id]));
  const placed: PlacedEdge[] = [];
  for (const edge of graph.edges) {
    const begin = portOf(edge.from, nodes, boxes, "right");
    const end = portOf(edge.to, nodes, boxes, "left");
    if (!begin || !end) continue;
    const lanes = used.flatMap((_, index) => {
      const box = passes(edge, index, graph, used) ? boxes.get(laneId(edge, index)) : undefined;
      return box ? [box] : [];
    });
    placed.push({
      id: edge.id,
      path: way(begin, lanes, end),
      rate: edge.rate,
      tone: edge.tone,
      label:
        labelled.get(`${edge.to.node} ${edge.to.part}`) === edge.id
          ? { x: end.x - 8, y: end.y - 7 }
          : undefined,
    });
  }
  return placed;
}

interface Point {
  x: number;
  y: number;
}

function portOf(
  { node: id, part }: End,
  nodes: Map<string, FleetNode>,
  boxes: Map<string, Box>,
  side: "left" | "right",
): Point | undefined {
  const [node, box] = [nodes.get(id), boxes.get(id)];
  const own = node?.parts[part];
  if (!node || !box || !own) return undefined;
  const above = node.parts.slice(0, part).reduce((sum, { kind }) => sum + PART_PX[kind], 0);
  return {
    x: side === "left" ? box.left : box.left + box.width,
    y: box.top + above + PART_PX[own.kind] / 2,
  };
}

/** Curves between columns, straight where it passes one. */
function way(begin: Point, lanes: Box[], end: Point): string {
  let path = `M${point(begin)}`;
  let from = begin;
  for (const lane of lanes) {
    const enter = { x: lane.left, y: lane.top + lane.height / 2 };
    path += curve(from, enter);
    from = { x: lane.left + lane.width, y: enter.y };
    path += `L${point(from)}`;
  }
  return path + curve(from, end);
}

function curve(from: Point, to: Point): string {
  const bend = (to.x - from.x) / 2;
  return `C${point({ x: from.x + bend, y: from.y })} ${point({ x: to.x - bend, y: to.y })} ${point(to)}`;
}

function point({ x, y }: Point): string {
  return `${round(x)} ${round(y)}`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

/** Whether an edge passes the column at `index` without ending there. */
function passes(edge: FleetEdge, index: number, graph: FleetGraph, used: Column[]): boolean {
  const columnOf = (id: string) => {
    const node = graph.nodes.find((one) => one.id === id);
    return node ? used.indexOf(node.column) : -1;
  };
  return columnOf(edge.from.node) < index && index < columnOf(edge.to.node);
}

function laneId(edge: FleetEdge, index: number): string {
  return `lane ${index} ${edge.id}`;
}

function nodeHeight(node: FleetNode): number {
  // Hairlines between parts are inside them.
  return node.parts.reduce((sum, { kind }) => sum + PART_PX[kind], 0);
}

function columnHeight(slots: Slot[]): number {
  return (
    slots.reduce((sum, { height }) => sum + height, 0) + ROW_GAP_PX * Math.max(0, slots.length - 1)
  );
}
