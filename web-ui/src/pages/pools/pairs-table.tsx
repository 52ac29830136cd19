// Every backend as every agent sees it: a row for each pair.

import { useMemo } from "react";
import type { Agent, Backend } from "../../api/types";
import { Ago } from "../../components/ago";
import { type Column, DataTable } from "../../components/data-table";
import { Name } from "../../components/name";
import { StateMark } from "../../components/state-mark";
import { count, rate } from "../../format/numbers";
import classes from "./pools.module.css";
import { agentName, backendName, type Pair, pairs, rank, stateOf } from "./seen";

interface Props {
  backends: Backend[];
  agents: Agent[] | undefined;
}

export function PairsTable({ backends, agents }: Props) {
  const rows = useMemo(() => pairs(backends), [backends]);
  const columns = useMemo(() => makeColumns(agents), [agents]);
  return (
    <div className={classes.inset}>
      <DataTable
        label="Backends as each agent sees them"
        columns={columns}
        rows={rows}
        prefix="seen-"
        rowKey={({ backend, seen }) => `${backend.name} ${seen.agent}`}
        filterText={({ backend, seen }) =>
          `${backendName(backend)} ${seen.address} ${agentName(agents, seen.agent)} ${stateOf(seen)}`
        }
      />
    </div>
  );
}

function makeColumns(agents: Agent[] | undefined): Column<Pair>[] {
  return [
    {
      id: "backend",
      title: "Backend",
      width: "minmax(120px, 1.1fr)",
      sort: ({ backend }) => backendName(backend),
      cell: ({ backend, seen }) => (
        <span className={classes.backend}>
          <Name>{backendName(backend)}</Name>
          {seen.address !== backendName(backend) && <small className="mono">{seen.address}</small>}
        </span>
      ),
    },
    {
      id: "agent",
      title: "Agent",
      width: "minmax(110px, 1fr)",
      sort: ({ seen }) => agentName(agents, seen.agent),
      cell: ({ seen }) => <Name to={`/agents/${seen.agent}`}>{agentName(agents, seen.agent)}</Name>,
    },
    {
      id: "state",
      title: "State",
      width: "minmax(96px, 0.8fr)",
      sort: ({ seen }) => rank(stateOf(seen)),
      cell: ({ seen }) => <StateMark state={stateOf(seen)} word />,
    },
    {
      id: "check",
      title: "Last check",
      width: "minmax(140px, 1.4fr)",
      cell: ({ seen }) =>
        seen.last_check ? (
          <span className={classes.check}>
            {seen.last_check.words || (seen.last_check.passed ? "passed" : "failed")}
            <small>
              <Ago at={seen.last_check.at} />
            </small>
          </span>
        ) : (
          <span className="dim">none yet</span>
        ),
    },
    {
      id: "live",
      title: "Live",
      numeric: true,
      width: "60px",
      sort: ({ seen }) => seen.in_flight,
      cell: ({ seen }) => count(seen.in_flight),
    },
    {
      id: "rate",
      title: "Connects",
      numeric: true,
      width: "72px",
      sort: ({ seen }) => seen.connect_rate,
      cell: ({ seen }) => rate(seen.connect_rate),
    },
    {
      id: "failed",
      title: "Failed",
      numeric: true,
      width: "64px",
      sort: ({ seen }) => seen.connects_failed,
      cell: ({ seen }) => count(seen.connects_failed),
    },
    {
      id: "weight",
      title: "Weight now",
      numeric: true,
      width: "84px",
      sort: ({ seen }) => seen.weight ?? undefined,
      cell: ({ seen }) => (seen.weight == null ? "–" : Number(seen.weight.toFixed(2))),
    },
  ];
}
