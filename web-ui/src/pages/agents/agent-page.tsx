// One agent: what it should run and runs, what it holds, sees and serves, and the ways out.

import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "react-router";
import { agentQuery } from "../../api/queries/agents";
import { seriesQuery } from "../../api/queries/series";
import type { Agent, ListenerSeen } from "../../api/types";
import { Ago } from "../../components/ago";
import { type Column, DataTable } from "../../components/data-table";
import { EmptyState } from "../../components/empty-state";
import { Figure, Figures } from "../../components/figure";
import { Name } from "../../components/name";
import { PageHeader } from "../../components/page-header";
import { QueryProblem } from "../../components/problem-alert";
import { Facts, Section } from "../../components/section";
import { StateMark } from "../../components/state-mark";
import { TimeChart } from "../../components/time-chart";
import { byteRate } from "../../format/bytes";
import { compact, count, rate } from "../../format/numbers";
import { labelWords, liveOn, placeOf, standMark, standOf, standWord } from "./agent-state";
import { AgentWaysOut } from "./agent-ways-out";
import classes from "./agents.module.css";

export default function AgentPage() {
  const { id = "" } = useParams();
  const agent = useQuery(agentQuery(id));
  const series = useQuery(seriesQuery({ of: "agent", id }));
  const shown = agent.data?.value;
  const measures = series.data?.measures ?? {};
  const sum = (of: (seen: ListenerSeen) => number) =>
    (shown?.listeners ?? []).reduce((all, seen) => all + (seen.stale ? 0 : of(seen)), 0);
  return (
    <div className={classes.page}>
      <PageHeader
        title={shown ? `Agent ${shown.address}` : "Agent"}
        heading={shown ? <Name copy>{shown.address}</Name> : "Agent"}
        parent={{ title: "Agents", to: "/agents" }}
        about={
          shown && (
            <>
              {shown.roles.join(", ")}
              {labelWords(shown.labels) !== "" && (
                <>
                  {" "}
                  · <span className="mono">{labelWords(shown.labels)}</span>
                </>
              )}{" "}
              · version {shown.version}
            </>
          )
        }
      >
        {agent.data && <AgentWaysOut agent={agent.data.value} etag={agent.data.etag} />}
      </PageHeader>
      <QueryProblem query={agent} what="The agent could not be read." />
      {shown && (
        <>
          <Figures>
            <Figure
              label="State"
              value={standWord(standOf(shown))}
              about={<Since agent={shown} />}
              tone={toneOf(shown)}
            />
            <Figure
              label="Revision"
              value={shown.applied ? count(shown.applied.revision) : "none"}
              {...(shown.desired && { unit: `of ${count(shown.desired.revision)} wanted` })}
              {...(shown.applied &&
                shown.desired && {
                  about: `change ${count(shown.applied.change)} of ${count(shown.desired.change)}`,
                })}
            />
            <Figure
              label="Live connections"
              value={compact(liveOn(shown))}
              points={measures.live}
            />
            <Figure
              label="New connections"
              value={rate(sum((seen) => seen.accept_rate))}
              points={measures.accept_rate}
            />
            <Figure
              label="Traffic, both ways"
              value={byteRate(sum((seen) => seen.byte_rate))}
              points={measures.byte_rate}
            />
          </Figures>
          <Mistakes agent={shown} />
          <Section title="Listeners" flush>
            <div className={classes.inset}>
              <DataTable
                label="Listeners"
                columns={COLUMNS}
                rows={shown.listeners}
                rowKey={(seen) => seen.listener}
                empty={
                  <EmptyState title="It serves no listener">
                    None of the document's listeners selects its role and labels, or it has not
                    reported yet.
                  </EmptyState>
                }
              />
            </div>
          </Section>
          {series.data?.to && (
            <Section title="The last hour">
              <div className={classes.charts}>
                <TimeChart
                  title="Live connections"
                  series={series.data}
                  lines={[{ measure: "live", label: "live" }]}
                  format={compact}
                />
                <TimeChart
                  title="Traffic, both ways"
                  series={series.data}
                  lines={[{ measure: "byte_rate", label: "bytes" }]}
                  format={byteRate}
                />
              </div>
            </Section>
          )}
          <Section title="About it">
            <Facts facts={facts(shown)} />
          </Section>
        </>
      )}
    </div>
  );
}

function toneOf(agent: Agent): "down" | "warn" | undefined {
  const stand = standOf(agent);
  if (stand === "failed") return "down";
  return stand === "serving" || stand === "revoked" ? undefined : "warn";
}

function Since({ agent }: { agent: Agent }) {
  const stand = standOf(agent);
  return (
    <>
      <StateMark state={standMark(stand)} />{" "}
      {agent.seen_at != null ? (
        <>
          seen <Ago at={agent.seen_at} />
        </>
      ) : (
        "never connected"
      )}
    </>
  );
}

function Mistakes({ agent }: { agent: Agent }) {
  if (agent.mistakes.length === 0) return null;
  return (
    <Section title="Why it cannot run what is wanted">
      <ul className={classes.mistakes}>
        {agent.mistakes.map(({ pointer, message }) => {
          const to = placeOf(pointer);
          return (
            <li key={`${pointer} ${message}`}>
              <StateMark state="failed" />{" "}
              {to === undefined ? <code>{pointer}</code> : <Link to={to}>{pointer}</Link>} {message}
            </li>
          );
        })}
      </ul>
      <p className="dim">
        It goes on with revision {agent.applied ? count(agent.applied.revision) : "none"}.
      </p>
    </Section>
  );
}

const COLUMNS: Column<ListenerSeen>[] = [
  {
    id: "listener",
    title: "Listener",
    width: "minmax(110px, 1.2fr)",
    sort: (seen) => seen.listener,
    cell: (seen) => (
      <Name to={`/listeners/${encodeURIComponent(seen.listener)}`}>{seen.listener}</Name>
    ),
  },
  { id: "role", title: "Role", cell: (seen) => seen.role },
  {
    id: "live",
    title: "Live",
    numeric: true,
    sort: (seen) => seen.live,
    cell: (seen) => count(seen.live),
  },
  {
    id: "clients",
    title: "Clients",
    numeric: true,
    sort: (seen) => seen.clients_live,
    cell: (seen) => count(seen.clients_live),
  },
  {
    id: "new",
    title: "New",
    numeric: true,
    sort: (seen) => seen.accept_rate,
    cell: (seen) => rate(seen.accept_rate),
  },
  {
    id: "bytes",
    title: "Traffic",
    numeric: true,
    sort: (seen) => seen.byte_rate,
    cell: (seen) => byteRate(seen.byte_rate),
  },
  {
    id: "refused",
    title: "Refused",
    numeric: true,
    sort: (seen) => seen.refused,
    cell: (seen) => count(seen.refused),
  },
  { id: "at", title: "Reported", numeric: true, cell: (seen) => <Ago at={seen.at} /> },
];

function facts(agent: Agent): [string, React.ReactNode][] {
  const keys = [...new Set(agent.certificates_held.map(({ name }) => name))];
  return [
    [
      "Id",
      <Name key="id" copy>
        {agent.id}
      </Name>,
    ],
    ["Joined", <Ago key="joined" at={agent.enrolled_at} />],
    [
      "Join token",
      <span key="token" className="mono">
        {agent.join_token}
      </span>,
    ],
    ["Health port", String(agent.health_port)],
    [
      "Its certificate ends",
      agent.certificate_not_after == null ? (
        "not known"
      ) : (
        <Ago key="end" at={agent.certificate_not_after} />
      ),
    ],
    [
      "Keys it was sent",
      keys.length === 0 ? (
        "none"
      ) : (
        <span key="keys">
          {keys.map((name, index) => (
            <span key={name}>
              {index > 0 && ", "}
              <Link to={`/certificates/${encodeURIComponent(name)}`}>{name}</Link>
            </span>
          ))}
        </span>
      ),
    ],
    ...(agent.revoked_at != null
      ? ([["Revoked", `by ${agent.revoked_by ?? "somebody"}`]] as [string, React.ReactNode][])
      : []),
  ];
}
