// The table of every page: sorted and filtered by the address, virtualised where there are
// many rows, cards where there is no room for columns.
//
// A real <table>, laid out as grids: rows that are not drawn leave their height as padding,
// and ARIA says how many there are.

import { useElementSize } from "@mantine/hooks";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type CSSProperties, type ReactNode, useMemo, useRef } from "react";
import { count } from "../format/numbers";
import classes from "./data-table.module.css";
import { TableFilter } from "./table-filter";
import { TableHead } from "./table-head";
import { filterRows, parseSorting, type SortKey, sortRows } from "./table-rows";
import { useQueryState } from "./use-query-state";
import { useRowKeys } from "./use-row-keys";

export interface Column<Row> {
  id: string;
  title: string;
  cell: (row: Row) => ReactNode;
  /** What it is sorted by; cannot be sorted without. */
  sort?: (row: Row) => SortKey;
  /** Numbers stand at the end, in figures of one width. */
  numeric?: boolean;
  /** A grid track: `minmax(0, 1fr)` unless given. */
  width?: string;
  /** Where rows are cards: as the card's title, without its label; or not at all. */
  inCard?: "title" | "none";
}

interface Props<Row> {
  /** The table's name for screen readers. */
  label: string;
  columns: Column<Row>[];
  rows: readonly Row[];
  rowKey: (row: Row) => string;
  /** The text that the filter looks in; no filter without. */
  filterText?: (row: Row) => string;
  /** A column's id, or `-` and it; the rows' own order unless given. */
  initialSort?: string;
  /** Before the names of its parameters in the address, where a page has several tables. */
  prefix?: string;
  /** What stands here when there are no rows at all. */
  empty?: ReactNode;
  /** More controls beside the filter. */
  controls?: ReactNode;
}

/** Above this many rows a table scrolls in itself and draws what is seen. */
const VIRTUAL_ABOVE = 80;
const ROW_PX = 37;
/** With less for each column, rows are cards. */
const COLUMN_PX = 115;
/** That much is enough for any number of columns. */
const WIDE_PX = 620;

export function DataTable<Row>(props: Props<Row>) {
  const { label, columns, rows, rowKey, filterText, prefix = "", controls } = props;
  const [filter, setFilter] = useQueryState<string>(`${prefix}q`, "");
  const [sortText, setSort] = useQueryState<string>(`${prefix}sort`, props.initialSort ?? "");
  const { ref: sizeRef, width } = useElementSize();
  const scroller = useRef<HTMLDivElement>(null);

  const sorting = parseSorting(sortText);
  const shown = useMemo(() => {
    const parsed = parseSorting(sortText);
    const keyOf = columns.find(({ id }) => id === parsed?.column)?.sort;
    return sortRows(filterRows(rows, filterText, filter), keyOf, parsed?.descending ?? false);
  }, [rows, columns, filterText, filter, sortText]);

  const cards = width > 0 && width < Math.min(WIDE_PX, COLUMN_PX * columns.length);
  const virtual = shown.length > VIRTUAL_ABOVE;
  const virtualizer = useVirtualizer({
    count: virtual ? shown.length : 0,
    getScrollElement: () => scroller.current,
    estimateSize: () => (cards ? ROW_PX + 24 * columns.length : ROW_PX),
    getItemKey: (index) => {
      const row = shown[index];
      return row === undefined ? index : rowKey(row);
    },
    overscan: 12,
  });
  useRowKeys(scroller, shown.length, virtual ? virtualizer.scrollToIndex : undefined);

  if (rows.length === 0 && props.empty) return props.empty;
  const items = virtual ? virtualizer.getVirtualItems() : undefined;
  const drawn = items?.map(({ index }) => index) ?? shown.map((_, index) => index);
  const padding = items && {
    paddingTop: items[0]?.start ?? 0,
    paddingBottom: virtualizer.getTotalSize() - (items.at(-1)?.end ?? 0),
  };
  const tracks = columns.map((column) => column.width ?? "minmax(0, 1fr)").join(" ");
  return (
    <div ref={sizeRef} className={classes.whole}>
      {(filterText || controls) && (
        <div className={classes.controls}>
          {filterText && (
            <TableFilter
              label={`Filter ${label.toLowerCase()}`}
              value={filter}
              onChange={setFilter}
              found={shown.length}
              of={rows.length}
            />
          )}
          {controls}
        </div>
      )}
      <div
        ref={scroller}
        className={classes.scroller}
        // A region that scrolls has to be reached by keyboard.
        {...(virtual && { role: "region", "aria-label": label, tabIndex: 0 })}
        data-virtual={virtual}
      >
        <table
          {...ROLES.table}
          aria-label={label}
          aria-rowcount={shown.length + 1}
          className={classes.table}
          data-cards={cards}
          style={{ "--tracks": tracks } as CSSProperties}
        >
          <TableHead columns={columns} sorting={sorting} onSort={setSort} cards={cards} />
          <tbody {...ROLES.rowgroup} style={padding}>
            {drawn.map((index) => {
              const row = shown[index];
              if (row === undefined) return null;
              return (
                <tr
                  key={rowKey(row)}
                  {...ROLES.row}
                  aria-rowindex={index + 2}
                  data-index={index}
                  {...(virtual && { ref: virtualizer.measureElement })}
                >
                  {columns.map((column) => (
                    <td
                      key={column.id}
                      {...ROLES.cell}
                      data-numeric={column.numeric}
                      {...(cards && { "data-card": column.inCard ?? "fact" })}
                    >
                      {cards && <span className={classes.cardLabel}>{column.title}</span>}
                      {/* One box for all of a cell, so that a card has two columns. */}
                      <div className={classes.value}>{column.cell(row)}</div>
                    </td>
                  ))}
                </tr>
              );
            })}
          </tbody>
        </table>
        {shown.length === 0 && (
          <p className={classes.none}>
            {rows.length === 0
              ? "Nothing here."
              : `None of ${count(rows.length)} matches the filter.`}
          </p>
        )}
      </div>
    </div>
  );
}

/** Some browsers forget what a table is once CSS lays it out in another way. */
const ROLES = {
  table: { role: "table" },
  rowgroup: { role: "rowgroup" },
  row: { role: "row" },
  cell: { role: "cell" },
};
