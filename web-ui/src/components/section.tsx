// A part of a page: a card with its heading.

import { type ReactNode, useId } from "react";
import classes from "./section.module.css";

interface Props {
  title: string;
  /** Beside the heading: how many, a switch, a button. */
  aside?: ReactNode;
  children: ReactNode;
  /** The content goes to the card's border: a table. */
  flush?: boolean;
}

export function Section({ title, aside, children, flush = false }: Props) {
  const id = useId();
  return (
    <section className={classes.section} aria-labelledby={id} data-flush={flush}>
      <div className={classes.head}>
        <h2 id={id}>{title}</h2>
        {aside && <div className={classes.aside}>{aside}</div>}
      </div>
      <div className={classes.content}>{children}</div>
    </section>
  );
}

/** Facts as label and value, as many columns as there is room for. */
export function Facts({ facts }: { facts: [label: string, value: ReactNode][] }) {
  return (
    <dl className={classes.facts}>
      {facts.map(([label, value]) => (
        <div key={label}>
          <dt>{label}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
