// A problem, whole and in place: what is wrong, where, and what can be done.

import { Button } from "@mantine/core";
import { type ReactNode, useEffect, useRef } from "react";
import { ApiProblem, isPassing, type ProblemPlace, Unreachable } from "../api/problem";
import classes from "./problem-alert.module.css";
import { StateMark } from "./state-mark";

interface Props {
  error: unknown;
  /** What was not done: "The pools could not be read." Before the problem's own words. */
  title?: string;
  /** Places that are not shown at a field; all of the problem's unless given. */
  places?: ProblemPlace[];
  /** Asks again, or reads again what has changed in the meantime. */
  onRetry?: () => void;
  /** Takes the focus when it appears: after a form was sent. */
  focus?: boolean;
}

export function ProblemAlert({ error, title, places, onRetry, focus = false }: Props) {
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (focus && error) ref.current?.focus();
  }, [focus, error]);
  if (!error) return null;
  const said = words(error);
  const shown = places ?? (error instanceof ApiProblem ? (error.problem.errors ?? []) : []);
  return (
    <div ref={ref} className={classes.alert} role="alert" tabIndex={-1}>
      <div className={classes.head}>
        <StateMark state="failed" title="Problem" />
        <strong>{title ?? said.title}</strong>
      </div>
      {title && said.title && <p>{said.title}</p>}
      {said.detail && <p>{said.detail}</p>}
      {shown.length > 0 && (
        <ul className={classes.places}>
          {shown.map((place) => (
            <li key={`${place.pointer} ${place.detail}`}>
              {place.pointer && <code>{place.pointer}</code>} {place.detail}
            </li>
          ))}
        </ul>
      )}
      {said.request && (
        <p className={classes.request}>
          The log knows the request as <code>{said.request}</code>.
        </p>
      )}
      {onRetry && (
        <Button variant="default" onClick={onRetry}>
          {said.retry}
        </Button>
      )}
    </div>
  );
}

interface Words {
  title: string;
  detail?: ReactNode;
  request?: string;
  retry: string;
}

function words(error: unknown): Words {
  if (error instanceof ApiProblem) {
    const { status, title, detail, request_id } = error.problem;
    if (status === 412)
      return {
        title: "Somebody has changed this since it was read.",
        detail: "Nothing was written. Read it again, and make your change to what is there now.",
        retry: "Read again",
      };
    return {
      title,
      ...(detail !== title && { detail }),
      ...(status >= 500 && request_id && { request: request_id }),
      retry: "Try again",
    };
  }
  if (error instanceof Unreachable)
    return {
      title: error.message,
      detail: "Agents go on with what they run. This page tries again by itself once it is back.",
      retry: "Try again",
    };
  return {
    title: "The page itself failed.",
    detail: error instanceof Error ? error.message : String(error),
    retry: "Try again",
  };
}

/** For a query that failed: says so where its content would be. */
export function QueryProblem({
  query,
  what,
}: {
  query: { error: unknown; refetch: () => unknown };
  what: string;
}) {
  if (!query.error) return null;
  // What was refused is refused again; what failed may not.
  const again = !(query.error instanceof ApiProblem) || isPassing(query.error);
  return (
    <ProblemAlert
      error={query.error}
      title={what}
      {...(again && { onRetry: () => void query.refetch() })}
    />
  );
}
