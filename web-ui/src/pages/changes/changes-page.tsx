// Every document there was, and everything that was done.

import { Button } from "@mantine/core";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { Link } from "react-router";
import { agentsQuery } from "../../api/queries/agents";
import { auditQuery } from "../../api/queries/audit";
import { statusQuery } from "../../api/queries/overview";
import { revisionsQuery } from "../../api/queries/revisions";
import type { Agent, AuditRow, RevisionInfo } from "../../api/types";
import { Ago } from "../../components/ago";
import { Choice } from "../../components/choice";
import { type Column, DataTable } from "../../components/data-table";
import { EmptyState } from "../../components/empty-state";
import { PageHeader } from "../../components/page-header";
import { QueryProblem } from "../../components/problem-alert";
import { StateMark } from "../../components/state-mark";
import { useQueryChoice } from "../../components/use-query-state";
import { count } from "../../format/numbers";
import { inSyncCount, placeOfSubject, spreadOf } from "./applied";
import classes from "./changes.module.css";

const TABS = [
  { value: "revisions", label: "Revisions of the document" },
  { value: "audit", label: "All that was done" },
] as const;

export default function ChangesPage() {
  const [tab, setTab] = useQueryChoice<"revisions" | "audit">("tab", ["revisions", "audit"]);
  return (
    <div className={classes.page}>
      <PageHeader title="Changes" about="What was, who did it, and the way back." />
      <Choice label="What to show" choices={TABS} value={tab} onChange={setTab} />
      {tab === "revisions" ? <Revisions /> : <Audit />}
    </div>
  );
}

function Revisions() {
  const revisions = useInfiniteQuery(revisionsQuery);
  const agents = useQuery(agentsQuery);
  const status = useQuery(statusQuery);
  const rows = revisions.data?.pages.flat();
  const columns = useMemo(
    () => revisionColumns(agents.data, status.data?.revision),
    [agents.data, status.data?.revision],
  );
  return (
    <div>
      <QueryProblem query={revisions} what="The revisions could not be read." />
      {rows && (
        <DataTable
          label="Revisions"
          columns={columns}
          rows={rows}
          rowKey={(one) => String(one.number)}
          filterText={(one) => `${one.number} ${one.author} ${one.action}`}
          empty={
            <EmptyState
              title="No revision yet"
              action={<Link to="/document">Write the document</Link>}
            >
              Every write of the document makes one: whole, numbered, never changed. From here each
              can be compared and brought back.
            </EmptyState>
          }
        />
      )}
      <Older query={revisions} />
    </div>
  );
}

function revisionColumns(
  agents: Agent[] | undefined,
  current: number | undefined,
): Column<RevisionInfo>[] {
  return [
    {
      id: "number",
      title: "Revision",
      width: "minmax(80px, 0.6fr)",
      sort: (one) => one.number,
      cell: (one) => (
        <>
          <Link to={`/changes/${one.number}`} className={classes.number}>
            {count(one.number)}
          </Link>
          {one.number === current && <span className="dim"> current</span>}
        </>
      ),
    },
    {
      id: "action",
      title: "What was done",
      width: "minmax(140px, 1.5fr)",
      sort: (one) => one.action,
      cell: (one) => one.action,
    },
    {
      id: "author",
      title: "By",
      width: "minmax(140px, 1.4fr)",
      sort: (one) => one.author,
      cell: (one) => one.author,
    },
    {
      id: "agents",
      title: "Runs on",
      width: "minmax(120px, 1fr)",
      cell: (one) => agents && <Spread number={one.number} current={current} agents={agents} />,
    },
    {
      id: "when",
      title: "When",
      numeric: true,
      width: "84px",
      sort: (one) => one.created_at,
      cell: (one) => <Ago at={one.created_at} />,
    },
  ];
}

interface SpreadProps {
  number: number;
  current: number | undefined;
  agents: Agent[];
}

function Spread({ number, current, agents }: SpreadProps) {
  if (number === current) {
    const { inSync, of } = inSyncCount(agents);
    return (
      <StateMark
        state={inSync === of ? "in_sync" : "behind"}
        word={`${count(inSync)} of ${count(of)} agents`}
      />
    );
  }
  const { applied } = spreadOf(number, agents);
  if (applied === 0) return <span className="dim">none</span>;
  return <span>{count(applied)} as planned then</span>;
}

function Audit() {
  const audit = useInfiniteQuery(auditQuery);
  const rows = audit.data?.pages.flat();
  return (
    <div>
      <QueryProblem query={audit} what="The audit could not be read." />
      {rows && (
        <DataTable
          label="All that was done"
          columns={AUDIT}
          rows={rows}
          rowKey={(row) => String(row.number)}
          filterText={(row) => `${row.author} ${row.action} ${row.subject}`}
          empty={<EmptyState title="Nothing was done yet" />}
        />
      )}
      <Older query={audit} />
    </div>
  );
}

const AUDIT: Column<AuditRow>[] = [
  {
    id: "action",
    title: "What",
    width: "minmax(90px, 0.8fr)",
    sort: (row) => row.action,
    cell: (row) => row.action,
  },
  {
    id: "subject",
    title: "To what",
    width: "minmax(140px, 1.6fr)",
    sort: (row) => row.subject,
    cell: (row) => {
      const to = placeOfSubject(row.subject);
      if (to === undefined) return <span className="mono">{row.subject}</span>;
      return (
        <Link to={to} className="mono">
          {row.subject}
        </Link>
      );
    },
  },
  {
    id: "author",
    title: "By",
    width: "minmax(140px, 1.2fr)",
    sort: (row) => row.author,
    cell: (row) => row.author,
  },
  {
    id: "change",
    title: "Change",
    numeric: true,
    width: "72px",
    sort: (row) => row.change ?? undefined,
    cell: (row) => (row.change == null ? "–" : count(row.change)),
  },
  {
    id: "when",
    title: "When",
    numeric: true,
    width: "84px",
    sort: (row) => row.at,
    cell: (row) => <Ago at={row.at} />,
  },
];

interface OlderProps {
  query: { hasNextPage: boolean; isFetchingNextPage: boolean; fetchNextPage: () => unknown };
}

function Older({ query }: OlderProps) {
  if (!query.hasNextPage) return null;
  return (
    <div className={classes.older}>
      <Button
        variant="default"
        loading={query.isFetchingNextPage}
        onClick={() => void query.fetchNextPage()}
      >
        Show older
      </Button>
    </div>
  );
}
