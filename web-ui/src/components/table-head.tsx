import type { Column } from "./data-table";
import classes from "./data-table.module.css";
import { Icon } from "./icons";
import { nextSorting, type Sorting, sortingText } from "./table-rows";

interface Props<Row> {
  columns: Column<Row>[];
  sorting: Sorting | undefined;
  onSort: (sorting: string) => void;
  /** There is no row of heads then: a list to choose from stands for it. */
  cards: boolean;
}

/** The heads; each that can be sorted by is a button. */
export function TableHead<Row>({ columns, sorting, onSort, cards }: Props<Row>) {
  const press = (column: Column<Row>) =>
    onSort(sortingText(nextSorting(sorting, column.id, column.numeric ?? false)));
  return (
    <thead
      {...ROLES.rowgroup}
      className={cards ? classes.cardsHead : classes.head}
      data-sortable={columns.some(({ sort }) => sort !== undefined)}
    >
      <tr {...ROLES.row} aria-rowindex={1}>
        {columns.map((column) => {
          const sorted = sorting?.column === column.id;
          return (
            <th
              key={column.id}
              {...ROLES.columnheader}
              scope="col"
              data-numeric={column.numeric}
              data-sortable={column.sort !== undefined}
              {...(sorted && { "aria-sort": sorting.descending ? "descending" : "ascending" })}
            >
              {column.sort ? (
                <button type="button" onClick={() => press(column)}>
                  {column.title}
                  <span className={classes.arrow} data-sorted={sorted}>
                    <Icon name={sorted && !sorting.descending ? "up" : "down"} size={12} />
                  </span>
                </button>
              ) : (
                column.title
              )}
            </th>
          );
        })}
      </tr>
    </thead>
  );
}

const ROLES = {
  rowgroup: { role: "rowgroup" },
  row: { role: "row" },
  columnheader: { role: "columnheader" },
};
