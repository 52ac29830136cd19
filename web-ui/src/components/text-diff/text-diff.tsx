// Two texts side by side, one below the other where there is no room.

import { useElementSize } from "@mantine/hooks";
import { useMemo, useState } from "react";
import { counted } from "../../format/numbers";
import { fold, type Item, type Line, type Row, sideBySide } from "./side-by-side";
import classes from "./text-diff.module.css";

interface Props {
  before: string;
  after: string;
  /** What the two are, for the heads. */
  names: [before: string, after: string];
}

const UNIFIED_BELOW_PX = 700;

export function TextDiff({ before, after, names }: Props) {
  const { ref, width } = useElementSize();
  const rows = useMemo(() => sideBySide(before, after), [before, after]);
  const items = useMemo(() => fold(rows), [rows]);
  const unified = width > 0 && width < UNIFIED_BELOW_PX;
  if (rows.every(({ kind }) => kind === "same"))
    return <p className={classes.same}>The two texts are the same.</p>;
  const Body = unified ? Unified : Split;
  return (
    <section
      ref={ref}
      className={classes.diff}
      aria-label={`${names[0]} beside ${names[1]}`}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls is reached by keyboard
      tabIndex={0}
    >
      <table>
        <caption className="hidden">
          {names[0]} beside {names[1]}
        </caption>
        <colgroup>
          <col className={classes.number} />
          {!unified && <col />}
          <col className={classes.number} />
          <col />
        </colgroup>
        <thead className="hidden">
          <tr>
            <th scope="col">Line of {names[0]}</th>
            {!unified && <th scope="col">{names[0]}</th>}
            <th scope="col">Line of {names[1]}</th>
            <th scope="col">{unified ? "Text" : names[1]}</th>
          </tr>
        </thead>
        <tbody>
          {items.map((item) => (
            <Folding key={keyOf(item)} item={item} Body={Body} />
          ))}
        </tbody>
      </table>
    </section>
  );
}

function keyOf(item: Item): string {
  const row = item.kind === "folded" ? item.rows[0] : item;
  return `${item.kind} ${row?.left?.number} ${row?.right?.number}`;
}

type Body = (props: { row: Row }) => React.ReactNode;

function Folding({ item, Body }: { item: Item; Body: Body }) {
  const [open, setOpen] = useState(false);
  if (item.kind !== "folded") return <Body row={item} />;
  if (open) return item.rows.map((row) => <Body key={keyOf(row)} row={row} />);
  return (
    <tr className={classes.folded}>
      <td colSpan={4}>
        <button type="button" onClick={() => setOpen(true)}>
          {counted(item.rows.length, "line")} unchanged
        </button>
      </td>
    </tr>
  );
}

function Split({ row: { kind, left, right } }: { row: Row }) {
  return (
    <tr>
      <td className={classes.number}>{left?.number}</td>
      <Text line={left} side={left ? (kind === "same" ? "same" : "removed") : "none"} />
      <td className={classes.number}>{right?.number}</td>
      <Text line={right} side={right ? (kind === "same" ? "same" : "added") : "none"} />
    </tr>
  );
}

function Unified({ row: { kind, left, right } }: { row: Row }) {
  if (kind === "same")
    return (
      <tr>
        <td className={classes.number}>{left?.number}</td>
        <td className={classes.number}>{right?.number}</td>
        <Text line={right} side="same" />
      </tr>
    );
  return (
    <>
      {left && (
        <tr>
          <td className={classes.number}>{left.number}</td>
          <td className={classes.number} />
          <Text line={left} side="removed" />
        </tr>
      )}
      {right && (
        <tr>
          <td className={classes.number} />
          <td className={classes.number}>{right.number}</td>
          <Text line={right} side="added" />
        </tr>
      )}
    </>
  );
}

type Side = "same" | "removed" | "added" | "none";

function Text({ line, side }: { line: Line | undefined; side: Side }) {
  let at = 0;
  return (
    <td className={classes.text} data-side={side}>
      {side === "removed" && <span className="hidden">removed: </span>}
      {side === "added" && <span className="hidden">added: </span>}
      {line?.parts.map(({ text, changed }) => {
        at += text.length;
        return changed ? <mark key={at}>{text}</mark> : <span key={at}>{text}</span>;
      })}
    </td>
  );
}
