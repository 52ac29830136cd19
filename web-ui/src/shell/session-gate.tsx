// Nobody is past this who is not logged in. Where one wanted to go is kept for afterwards.

import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Navigate, useLocation } from "react-router";
import { sessionQuery } from "../api/session";
import { ProblemAlert } from "../components/problem-alert";
import classes from "./session-gate.module.css";

const RETRY_MS = 4_000;

export function SessionGate({ children }: { children: ReactNode }) {
  const session = useQuery({
    ...sessionQuery,
    // Without a page there is no stream that would tell when the control plane is back.
    refetchInterval: ({ state }) => (state.status === "error" ? RETRY_MS : false),
  });
  const { pathname, search } = useLocation();
  if (session.data === null) {
    const next = pathname + search;
    const to = next === "/" ? "/login" : `/login?next=${encodeURIComponent(next)}`;
    return <Navigate to={to} replace />;
  }
  // With an older answer at hand the page stays, and says in place what fails.
  if (session.data) return children;
  if (session.isError)
    return (
      <main className={classes.away}>
        <title>Tidegate</title>
        <h1>Tidegate</h1>
        <ProblemAlert error={session.error} onRetry={() => void session.refetch()} />
      </main>
    );
  return null;
}
