// Which rows a table shows, and in which order. Pure.

/** What a row is sorted by; rows without come last, whatever the direction. */
export type SortKey = number | string | undefined;

export interface Sorting {
  column: string;
  descending: boolean;
}

/** As it stands in the address: `name`, `-live`. */
export function parseSorting(text: string): Sorting | undefined {
  if (text === "") return undefined;
  const descending = text.startsWith("-");
  return { column: descending ? text.slice(1) : text, descending };
}

export function sortingText({ column, descending }: Sorting): string {
  return descending ? `-${column}` : column;
}

/** The next sorting when a head is pressed: numbers begin with the greatest. */
export function nextSorting(
  now: Sorting | undefined,
  column: string,
  beginDescending: boolean,
): Sorting {
  if (now?.column !== column) return { column, descending: beginDescending };
  return { column, descending: !now.descending };
}

export function filterRows<Row>(
  rows: readonly Row[],
  textOf: ((row: Row) => string) | undefined,
  wanted: string,
): readonly Row[] {
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  if (!textOf || words.length === 0) return rows;
  return rows.filter((row) => {
    const text = textOf(row).toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

export function sortRows<Row>(
  rows: readonly Row[],
  keyOf: ((row: Row) => SortKey) | undefined,
  descending: boolean,
): readonly Row[] {
  if (!keyOf) return rows;
  const sign = descending ? -1 : 1;
  return rows
    .map((row) => ({ row, key: keyOf(row) }))
    .sort((a, b) => {
      if (a.key === undefined || b.key === undefined)
        return Number(a.key === undefined) - Number(b.key === undefined);
      return sign * compare(a.key, b.key);
    })
    .map(({ row }) => row);
}

/** Made once: comparing by it is tens of times faster than `localeCompare`. */
const names = new Intl.Collator("en", { numeric: true });

function compare(a: number | string, b: number | string): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return names.compare(String(a), String(b));
}
