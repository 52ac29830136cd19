// A page's one h1, its title in the browser, and what can be done about the whole page.

import type { ReactNode } from "react";
import { Link } from "react-router";
import classes from "./page-header.module.css";

interface Props {
  title: string;
  /** How the h1 looks when it is more than words: a name in mono, a state mark. */
  heading?: ReactNode;
  /** Where this page hangs: the list it is an entry of. */
  parent?: { title: string; to: string };
  /** One or two facts below the title. */
  about?: ReactNode;
  /** Buttons, at the right. */
  children?: ReactNode;
}

export function PageHeader({ title, heading, parent, about, children }: Props) {
  return (
    <header className={classes.header}>
      <title>{`${title} · Tidegate`}</title>
      <div className={classes.titles}>
        {parent && (
          <nav aria-label="Breadcrumb" className={classes.parent}>
            <Link to={parent.to}>{parent.title}</Link>
            <span aria-hidden="true"> /</span>
          </nav>
        )}
        <h1>{heading ?? title}</h1>
        {about && <div className={classes.about}>{about}</div>}
      </div>
      {children && <div className={classes.actions}>{children}</div>}
    </header>
  );
}
