// Two texts side by side: which line stands beside which, what in it differs, and what of
// the rest is folded away. Pure; the comparing is the library's.

import { diffLines, diffWordsWithSpace } from "diff";

export interface Part {
  text: string;
  changed: boolean;
}

export interface Line {
  /** From 1. */
  number: number;
  parts: Part[];
}

export interface Row {
  kind: "same" | "changed" | "added" | "removed";
  left?: Line;
  right?: Line;
}

export type Item = Row | { kind: "folded"; rows: Row[] };

export function sideBySide(before: string, after: string): Row[] {
  const rows: Row[] = [];
  let [left, right] = [0, 0];
  let removed: string[] = [];
  const flush = (added: string[]) => {
    for (let index = 0; index < Math.max(removed.length, added.length); index += 1) {
      const [from, to] = [removed[index], added[index]];
      if (from !== undefined) left += 1;
      if (to !== undefined) right += 1;
      rows.push(changedRow(from, left, to, right));
    }
    removed = [];
  };
  for (const change of diffLines(ended(before), ended(after))) {
    const lines = linesOf(change.value);
    if (change.removed) removed = lines;
    else if (change.added) flush(lines);
    else {
      flush([]);
      for (const text of lines) {
        left += 1;
        right += 1;
        const parts = [{ text, changed: false }];
        rows.push({
          kind: "same",
          left: { number: left, parts },
          right: { number: right, parts },
        });
      }
    }
  }
  flush([]);
  return rows;
}

function changedRow(
  from: string | undefined,
  left: number,
  to: string | undefined,
  right: number,
): Row {
  const whole = (text: string) => [{ text, changed: false }];
  if (from === undefined)
    return { kind: "added", right: { number: right, parts: whole(to ?? "") } };
  if (to === undefined) return { kind: "removed", left: { number: left, parts: whole(from) } };
  const words = diffWordsWithSpace(from, to);
  const side = (skip: "added" | "removed", mark: "added" | "removed") =>
    words
      .filter((word) => !word[skip])
      .map((word) => ({ text: word.value, changed: word[mark] === true }));
  return {
    kind: "changed",
    left: { number: left, parts: side("added", "removed") },
    right: { number: right, parts: side("removed", "added") },
  };
}

/** A last line without an end is no other line than one with it. */
function ended(text: string): string {
  return text === "" || text.endsWith("\n") ? text : `${text}\n`;
}

function linesOf(text: string): string[] {
  return text.replace(/\n$/, "").split("\n");
}

/** Same lines that are further from a change than `around` are folded. */
export function fold(rows: Row[], around = 3): Item[] {
  const near = new Array<boolean>(rows.length).fill(false);
  rows.forEach((row, index) => {
    if (row.kind === "same") return;
    for (let at = index - around; at <= index + around; at += 1)
      if (at >= 0 && at < rows.length) near[at] = true;
  });
  const items: Item[] = [];
  let folded: Row[] = [];
  const flush = () => {
    // A fold of one line would take as much room as the line.
    if (folded.length === 1) items.push(...folded);
    else if (folded.length > 1) items.push({ kind: "folded", rows: folded });
    folded = [];
  };
  rows.forEach((row, index) => {
    if (near[index]) {
      flush();
      items.push(row);
    } else folded.push(row);
  });
  flush();
  return items;
}

/** How many lines came and went. */
export function lineCounts(rows: Row[]): { added: number; removed: number } {
  const count = (kinds: Row["kind"][]) => rows.filter(({ kind }) => kinds.includes(kind)).length;
  return { added: count(["added", "changed"]), removed: count(["removed", "changed"]) };
}
