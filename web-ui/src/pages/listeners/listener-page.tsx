// One listener: what goes through, on which agents, and how it is set.

import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { Link, useParams } from "react-router";
import { agentsQuery } from "../../api/queries/agents";
import { deleteListener, listenerQuery, putListener } from "../../api/queries/listeners";
import { topologyQuery } from "../../api/queries/overview";
import { seriesQuery } from "../../api/queries/series";
import type { Agent, Listener, ListenerSeen, Series, TopologyListener } from "../../api/types";
import { Ago } from "../../components/ago";
import { type Column, DataTable } from "../../components/data-table";
import { EmptyState } from "../../components/empty-state";
import { Figure, Figures } from "../../components/figure";
import { Name } from "../../components/name";
import { PageHeader } from "../../components/page-header";
import { QueryProblem } from "../../components/problem-alert";
import { EditOrRemove } from "../../components/resource-form/edit-or-remove";
import { Facts, Section } from "../../components/section";
import { StateMark } from "../../components/state-mark";
import { TimeChart } from "../../components/time-chart";
import { byteRate } from "../../format/bytes";
import { compact, count, counted, percent, rate } from "../../format/numbers";
import { AgentCounts } from "./agent-counts";
import { listenerFacts } from "./listener-facts";
import classes from "./listeners.module.css";
import { useListenerFields } from "./listeners-page";

export default function ListenerPage() {
  const { name = "" } = useParams();
  const listener = useQuery(listenerQuery(name));
  const topology = useQuery(topologyQuery);
  const series = useQuery(seriesQuery({ of: "listener", name }));
  const agents = useQuery(agentsQuery);
  const seen = topology.data?.listeners.find((one) => one.name === name);
  return (
    <div className={classes.page}>
      <PageHeader
        title={name}
        heading={<Name copy>{name}</Name>}
        parent={{ title: "Listeners", to: "/listeners" }}
        about={listener.data && <About listener={listener.data.value} />}
      >
        {listener.data && (
          <Actions
            listener={listener.data.value}
            etag={listener.data.etag}
            live={seen?.live ?? 0}
            onReadAgain={() => void listener.refetch()}
          />
        )}
      </PageHeader>
      <QueryProblem query={listener} what="The listener could not be read." />
      {seen && <ListenerFigures seen={seen} measures={series.data?.measures ?? {}} />}
      {series.data?.to && <Charts series={series.data} tls={seen?.role === "terminator"} />}
      {listener.data && (
        <Section title="Agents" aside={seen && <AgentCounts agents={seen.agents} />} flush>
          <OnAgents name={name} agents={agents.data} />
        </Section>
      )}
      {listener.data && (
        <Section title="Settings">
          <Facts facts={listenerFacts(listener.data.value)} />
        </Section>
      )}
    </div>
  );
}

function About({ listener }: { listener: Listener }) {
  return (
    <>
      {listener.role} · <span className="mono">{listener.bind}</span>
      {listener.pool !== undefined && (
        <>
          {" "}
          · to <Link to={`/pools/${encodeURIComponent(listener.pool)}`}>{listener.pool}</Link>
        </>
      )}
    </>
  );
}

function ListenerFigures({
  seen,
  measures,
}: {
  seen: TopologyListener;
  measures: Series["measures"];
}) {
  const { handshake_rate, resumed_rate } = seen;
  return (
    <Figures>
      <Figure
        label="Live connections"
        value={compact(seen.live)}
        about={counted(seen.clients_live, "client")}
        points={measures.live}
      />
      <Figure
        label="New connections"
        value={rate(seen.accept_rate)}
        points={measures.accept_rate}
      />
      <Figure
        label="Traffic, both ways"
        value={byteRate(seen.byte_rate)}
        points={measures.byte_rate}
      />
      {seen.role === "terminator" && (
        <Figure
          label="TLS handshakes"
          value={rate(handshake_rate)}
          {...(handshake_rate > 0 && {
            about: `${percent(resumed_rate / handshake_rate)} resumed`,
          })}
          points={measures.handshake_rate}
        />
      )}
    </Figures>
  );
}

function Charts({ series, tls }: { series: Series; tls: boolean }) {
  return (
    <Section title="The last hour">
      <div className={classes.charts}>
        <TimeChart
          title="Live connections"
          series={series}
          lines={[{ measure: "live", label: "live" }]}
          format={compact}
        />
        <TimeChart
          title="New connections a second"
          series={series}
          lines={[{ measure: "accept_rate", label: "new" }]}
          format={rate}
        />
        <TimeChart
          title="Traffic, both ways"
          series={series}
          lines={[{ measure: "byte_rate", label: "bytes" }]}
          format={byteRate}
        />
        {tls && (
          <TimeChart
            title="TLS handshakes a second"
            series={series}
            lines={[
              { measure: "handshake_rate", label: "all" },
              { measure: "resumed_rate", label: "resumed", color: "var(--drain)" },
            ]}
            format={rate}
          />
        )}
      </div>
    </Section>
  );
}

interface OnAgent {
  agent: Agent;
  seen: ListenerSeen;
}

const COLUMNS: Column<OnAgent>[] = [
  {
    id: "agent",
    title: "Agent",
    width: "minmax(120px, 1.2fr)",
    sort: ({ agent }) => agent.address,
    cell: ({ agent }) => <Name to={`/agents/${agent.id}`}>{agent.address}</Name>,
  },
  {
    id: "state",
    title: "State",
    width: "minmax(100px, 1fr)",
    cell: ({ agent, seen }) => {
      if (!agent.connected) return <StateMark state="offline" word />;
      if (seen.stale) return <StateMark state="stale" word />;
      return <StateMark state={agent.in_sync ? "serving" : "behind"} word />;
    },
  },
  {
    id: "live",
    title: "Live",
    numeric: true,
    sort: ({ seen }) => seen.live,
    cell: ({ seen }) => count(seen.live),
  },
  {
    id: "clients",
    title: "Clients",
    numeric: true,
    sort: ({ seen }) => seen.clients_live,
    cell: ({ seen }) => count(seen.clients_live),
  },
  {
    id: "new",
    title: "New",
    numeric: true,
    sort: ({ seen }) => seen.accept_rate,
    cell: ({ seen }) => rate(seen.accept_rate),
  },
  {
    id: "bytes",
    title: "Traffic",
    numeric: true,
    sort: ({ seen }) => seen.byte_rate,
    cell: ({ seen }) => byteRate(seen.byte_rate),
  },
  {
    id: "refused",
    title: "Refused",
    numeric: true,
    sort: ({ seen }) => seen.refused,
    cell: ({ seen }) => count(seen.refused),
  },
  {
    id: "at",
    title: "Reported",
    numeric: true,
    cell: ({ seen }) => <Ago at={seen.at} />,
  },
];

function OnAgents({ name, agents }: { name: string; agents: Agent[] | undefined }) {
  const rows = useMemo(
    () =>
      (agents ?? []).flatMap((agent) =>
        agent.listeners.filter((seen) => seen.listener === name).map((seen) => ({ agent, seen })),
      ),
    [agents, name],
  );
  return (
    <div className={classes.inset}>
      <DataTable
        label="Agents"
        columns={COLUMNS}
        rows={rows}
        rowKey={({ agent }) => agent.id}
        filterText={({ agent }) => `${agent.address} ${Object.values(agent.labels).join(" ")}`}
        empty={
          <EmptyState
            title="No agent has reported it yet"
            action={<Link to="/agents?add=yes">Add an instance</Link>}
          >
            Agents of its role with the labels it selects bind it by themselves.
          </EmptyState>
        }
      />
    </div>
  );
}

interface ActionsProps {
  listener: Listener;
  etag: string | undefined;
  live: number;
  onReadAgain: () => void;
}

function Actions({ listener, etag, live, onReadAgain }: ActionsProps) {
  return (
    <EditOrRemove<Listener>
      resource={listener}
      fields={useListenerFields()}
      etag={etag}
      put={putListener}
      remove={deleteListener}
      consequence={
        <>
          New connections to {listener.bind} are refused. {counted(live, "live connection")} go on
          until they end.
        </>
      }
      list="/listeners"
      onReadAgain={onReadAgain}
    />
  );
}
