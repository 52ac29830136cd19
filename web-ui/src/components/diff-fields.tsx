// What differs between two documents, as the API tells it: by resource, field by field.

import type { Difference } from "../api/types";
import classes from "./diff-fields.module.css";

const KINDS: Record<string, string> = {
  listeners: "listener",
  pools: "pool",
  policies: "policy",
  certificates: "certificate",
};

export function DiffFields({ diff }: { diff: Difference[] }) {
  if (diff.length === 0) return <p className="dim">Nothing in the document changes.</p>;
  return (
    <ul className={classes.diff}>
      {diff.map((one) => (
        <li key={`${one.kind}/${one.name}`} className={classes.resource}>
          <div className={classes.head}>
            <span className={classes.change} data-change={one.change}>
              {one.change}
            </span>
            <span>
              {KINDS[one.kind] ?? one.kind} <span className="mono">{one.name}</span>
            </span>
          </div>
          {one.fields.length > 0 && (
            <ul className={classes.fields}>
              {one.fields.map((field) => (
                <li key={field.pointer} className={classes.field}>
                  <span className={classes.pointer}>{field.pointer || "/"}</span>
                  {field.from !== undefined && <Value sign="−" value={field.from} />}
                  {field.to !== undefined && <Value sign="+" value={field.to} />}
                </li>
              ))}
            </ul>
          )}
        </li>
      ))}
    </ul>
  );
}

function Value({ sign, value }: { sign: "+" | "−"; value: unknown }) {
  const added = sign === "+";
  return (
    <span className={classes.value} data-added={added}>
      <span aria-hidden="true">{sign} </span>
      <span className="hidden">{added ? "after: " : "before: "}</span>
      {typeof value === "string" ? value : JSON.stringify(value)}
    </span>
  );
}
