// Nothing here yet: says so, and the next step.

import type { ReactNode } from "react";
import classes from "./empty-state.module.css";

interface Props {
  title: string;
  children?: ReactNode;
  /** A button or link: the next step. */
  action?: ReactNode;
}

export function EmptyState({ title, children, action }: Props) {
  return (
    <div className={classes.empty}>
      <p className={classes.title}>{title}</p>
      {children && <div className={classes.words}>{children}</div>}
      {action && <div className={classes.action}>{action}</div>}
    </div>
  );
}
