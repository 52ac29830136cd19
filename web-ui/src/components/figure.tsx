// A number that is the message, with its label, a word about it, and its last hour.

import type { ReactNode } from "react";
import { Link } from "react-router";
import type { Points } from "../api/types";
import classes from "./figure.module.css";
import { Sparkline } from "./sparkline";

interface Props {
  label: string;
  /** The number as text; `undefined` while it is not known. */
  value: string | undefined;
  /** A small word beside the number: its unit, or of how many. */
  unit?: string;
  /** A line below: what stands out, or why there is no number. */
  about?: ReactNode;
  points?: Points | undefined;
  /** Where there is more about it. */
  to?: string;
  tone?: "down" | "warn" | undefined;
}

export function Figure({ label, value, unit, about, points, to, tone }: Props) {
  return (
    <div className={classes.figure} data-tone={tone}>
      <div className={classes.label}>{to === undefined ? label : <Link to={to}>{label}</Link>}</div>
      <div className={classes.value}>
        {value ?? (
          <>
            <span aria-hidden="true">–</span>
            <span className="hidden">not known</span>
          </>
        )}
        {unit && value !== undefined && <span className={classes.unit}> {unit}</span>}
      </div>
      {about && <div className={classes.about}>{about}</div>}
      {/* One point is no line. */}
      {(points?.filter((point) => point !== null).length ?? 0) > 1 && points && (
        <div className={classes.spark}>
          <Sparkline points={points} />
        </div>
      )}
    </div>
  );
}

/** Figures side by side, as many as there is room for. */
export function Figures({ children }: { children: ReactNode }) {
  return <div className={classes.figures}>{children}</div>;
}
