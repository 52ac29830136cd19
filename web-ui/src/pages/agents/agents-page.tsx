// All agents: who they are, what each should run and runs, and the way to another one.

import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { Link } from "react-router";
import { agentsQuery } from "../../api/queries/agents";
import type { Agent } from "../../api/types";
import { Ago } from "../../components/ago";
import { type Column, DataTable } from "../../components/data-table";
import { EmptyState } from "../../components/empty-state";
import { Name } from "../../components/name";
import { PageHeader } from "../../components/page-header";
import { QueryProblem } from "../../components/problem-alert";
import { RoleButton } from "../../components/role-button";
import { StateMark } from "../../components/state-mark";
import { useQueryState } from "../../components/use-query-state";
import { count } from "../../format/numbers";
import { AddInstance } from "./add-instance";
import {
  labelWords,
  liveOn,
  placeOf,
  standMark,
  standOf,
  standRank,
  standWord,
} from "./agent-state";
import classes from "./agents.module.css";
import { JoinTokens } from "./join-tokens";

const COLUMNS: Column<Agent>[] = [
  {
    id: "address",
    title: "Agent",
    width: "minmax(110px, 1.1fr)",
    sort: (agent) => agent.address,
    cell: (agent) => <Name to={`/agents/${agent.id}`}>{agent.address}</Name>,
  },
  {
    id: "roles",
    title: "Roles",
    width: "minmax(84px, 0.9fr)",
    sort: (agent) => agent.roles.join(),
    cell: (agent) => agent.roles.join(", "),
  },
  {
    id: "labels",
    title: "Labels",
    width: "minmax(90px, 1fr)",
    sort: (agent) => labelWords(agent.labels),
    cell: (agent) => <span className="mono">{labelWords(agent.labels)}</span>,
  },
  {
    id: "version",
    title: "Version",
    width: "68px",
    sort: (agent) => agent.version,
    cell: (agent) => <span className="num">{agent.version}</span>,
  },
  {
    id: "state",
    title: "State",
    width: "minmax(96px, 0.9fr)",
    sort: (agent) => standRank(standOf(agent)),
    cell: (agent) => <Stand agent={agent} />,
  },
  {
    id: "revision",
    title: "Revision",
    width: "minmax(90px, 0.9fr)",
    sort: (agent) => agent.applied?.revision ?? undefined,
    cell: (agent) => <Revisions agent={agent} />,
  },
  {
    id: "error",
    title: "Last error",
    width: "minmax(120px, 1.6fr)",
    cell: (agent) => <LastError agent={agent} />,
  },
  {
    id: "live",
    title: "Live",
    numeric: true,
    width: "60px",
    sort: liveOn,
    cell: (agent) => count(liveOn(agent)),
  },
];

export default function AgentsPage() {
  const agents = useQuery(agentsQuery);
  const [adding, setAdding] = useQueryState<string>("add", "");
  const text = useMemo(
    () => (agent: Agent) =>
      `${agent.address} ${agent.id} ${agent.roles.join(" ")} ${labelWords(agent.labels)} ${agent.version} ${standWord(standOf(agent))}`,
    [],
  );
  const add = (
    <RoleButton needs="operator" onClick={() => setAdding("yes")}>
      Add an instance
    </RoleButton>
  );
  return (
    <div className={classes.page}>
      <PageHeader title="Agents" about="The processes that do the work, one on each machine.">
        {agents.data && agents.data.length > 0 && add}
      </PageHeader>
      <QueryProblem query={agents} what="The agents could not be read." />
      {agents.data && (
        <DataTable
          label="Agents"
          columns={COLUMNS}
          rows={agents.data}
          rowKey={(agent) => agent.id}
          filterText={text}
          initialSort="state"
          empty={
            <EmptyState title="No agent yet" action={add}>
              Each machine runs one: as balancer in front, as terminator beside the app. One line
              starts it there.
            </EmptyState>
          }
        />
      )}
      <JoinTokens agents={agents.data} />
      <AddInstance
        opened={adding !== ""}
        begins={adding === "terminator" ? "terminator" : "balancer"}
        agents={agents.data ?? []}
        onClose={() => setAdding("")}
      />
    </div>
  );
}

function Stand({ agent }: { agent: Agent }) {
  const stand = standOf(agent);
  return (
    <span className={classes.error}>
      <StateMark state={standMark(stand)} word={standWord(stand)} />
      {stand === "offline" && agent.seen_at != null && (
        <small>
          seen <Ago at={agent.seen_at} />
        </small>
      )}
    </span>
  );
}

function Revisions({ agent }: { agent: Agent }) {
  const { applied, desired } = agent;
  if (!desired) return <span className="dim">–</span>;
  if (agent.in_sync) return <span className="num">{count(desired.revision)}</span>;
  return (
    <span className="num">
      {applied ? count(applied.revision) : "none"} of {count(desired.revision)}
    </span>
  );
}

function LastError({ agent }: { agent: Agent }) {
  const [first] = agent.mistakes;
  if (!first) return null;
  const to = placeOf(first.pointer);
  return (
    <span className={classes.error}>
      {to === undefined ? (
        <code className="mono">{first.pointer}</code>
      ) : (
        <Link to={to} className="mono">
          {first.pointer}
        </Link>
      )}
      <small>
        {first.message}
        {agent.mistakes.length > 1 && `, and ${agent.mistakes.length - 1} more`}
      </small>
    </span>
  );
}
