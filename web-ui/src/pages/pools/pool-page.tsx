// One pool: its figures, its backends, and each of them as every agent sees it.

import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useParams } from "react-router";
import { agentsQuery } from "../../api/queries/agents";
import { backendsQuery } from "../../api/queries/backends";
import { topologyQuery } from "../../api/queries/overview";
import { deletePool, poolQuery, putPool } from "../../api/queries/pools";
import { seriesQuery } from "../../api/queries/series";
import type { Backend, Pool, Series, TopologyPool } from "../../api/types";
import { Figure, Figures } from "../../components/figure";
import { Name } from "../../components/name";
import { PageHeader } from "../../components/page-header";
import { QueryProblem } from "../../components/problem-alert";
import { EditOrRemove } from "../../components/resource-form/edit-or-remove";
import { RoleButton } from "../../components/role-button";
import { Section } from "../../components/section";
import { StateMark } from "../../components/state-mark";
import { TimeChart } from "../../components/time-chart";
import { compact, count, counted, rate } from "../../format/numbers";
import { BackendForm } from "./backend-form";
import { BackendsTable } from "./backends-table";
import { Draining } from "./draining";
import { PairsTable } from "./pairs-table";
import { poolFields } from "./pool-fields";
import classes from "./pools.module.css";
import { live } from "./seen";
import { SeenCounts } from "./seen-counts";
import { poolState, servedWords } from "./served";

export default function PoolPage() {
  const { name = "" } = useParams();
  const pool = useQuery(poolQuery(name));
  const backends = useQuery(backendsQuery(name));
  const agents = useQuery(agentsQuery);
  const topology = useQuery(topologyQuery);
  const series = useQuery(seriesQuery({ of: "pool", name }));
  const seen = topology.data?.pools.find((one) => one.name === name);
  const [adding, setAdding] = useState(false);
  return (
    <div className={classes.page}>
      <PageHeader
        title={name}
        heading={<Name copy>{name}</Name>}
        parent={{ title: "Pools", to: "/pools" }}
        about={pool.data && <About pool={pool.data.value} />}
      >
        {pool.data && (
          <Actions
            pool={pool.data.value}
            etag={pool.data.etag}
            backends={backends.data ?? []}
            listeners={(topology.data?.listeners ?? [])
              .filter(({ role }) => role === "terminator")
              .map((listener) => listener.name)}
            onAdd={() => setAdding(true)}
            onReadAgain={() => void pool.refetch()}
          />
        )}
      </PageHeader>
      <QueryProblem query={pool} what="The pool could not be read." />
      {seen && <PoolFigures seen={seen} measures={series.data?.measures ?? {}} />}
      {backends.data && <Draining pool={name} backends={backends.data} agents={agents.data} />}
      <Section title="Backends" flush>
        <QueryProblem query={backends} what="The backends could not be read." />
        {backends.data && (
          <BackendsTable
            pool={name}
            backends={backends.data}
            agents={agents.data}
            discover={pool.data?.value.discover?.listener}
            onAdd={() => setAdding(true)}
          />
        )}
      </Section>
      {backends.data?.some((one) => one.agents.length > 0) && (
        <Section title="As each agent sees them" flush>
          <PairsTable backends={backends.data} agents={agents.data} />
        </Section>
      )}
      {series.data?.to && (
        <Section title="The last hour">
          <div className={classes.charts}>
            <TimeChart
              title="Live connections"
              series={series.data}
              lines={[
                { measure: "live", label: "live" },
                { measure: "queued", label: "queued", color: "var(--warn)" },
              ]}
              format={compact}
            />
            <TimeChart
              title="Connects a second"
              series={series.data}
              lines={[{ measure: "connect_rate", label: "connects" }]}
              format={rate}
            />
            <TimeChart
              title="Backends, over all agents"
              series={series.data}
              lines={[
                { measure: "up", label: "up", color: "var(--up)" },
                { measure: "down", label: "down", color: "var(--down)" },
              ]}
              format={compact}
            />
          </div>
        </Section>
      )}
      <BackendForm pool={name} opened={adding} onClose={() => setAdding(false)} />
    </div>
  );
}

function About({ pool }: { pool: Pool }) {
  const proxy = pool.proxy_protocol;
  const listener = pool.discover?.listener;
  return (
    <>
      {(pool.balance ?? "least_connections").replaceAll("_", " ")}
      {proxy !== undefined && proxy !== "none" && (
        <> · PROXY {typeof proxy === "string" ? proxy : "v2, extended"}</>
      )}
      {listener !== undefined && (
        <>
          {" "}
          · discovers <Link to={`/listeners/${encodeURIComponent(listener)}`}>{listener}</Link>
        </>
      )}
    </>
  );
}

function PoolFigures({ seen, measures }: { seen: TopologyPool; measures: Series["measures"] }) {
  return (
    <Figures>
      <Figure label="Live connections" value={compact(seen.live)} points={measures.live} />
      <Figure label="Connects" value={rate(seen.connect_rate)} points={measures.connect_rate} />
      <Figure
        label="Queued"
        value={count(seen.queued)}
        points={measures.queued}
        tone={seen.queued > 0 ? "warn" : undefined}
      />
      <Figure
        label="Backends"
        value={count(seen.backends)}
        about={<SeenCounts seen={seen.seen} backends={seen.backends} />}
        tone={seen.seen.down > 0 ? "down" : undefined}
      />
      <Figure
        label="Served by"
        value={servedWords(seen.serving)}
        about={<StateMark state={poolState(seen.serving)} word />}
        tone={seen.serving.nobody > 0 ? "down" : undefined}
      />
    </Figures>
  );
}

interface ActionsProps {
  pool: Pool;
  etag: string | undefined;
  backends: Backend[];
  listeners: string[];
  onAdd: () => void;
  onReadAgain: () => void;
}

function Actions({ pool, etag, backends, listeners, onAdd, onReadAgain }: ActionsProps) {
  const connections = backends.reduce((sum, backend) => sum + live(backend), 0);
  return (
    <>
      {!pool.discover && (
        <RoleButton needs="operator" onClick={onAdd}>
          Add a backend
        </RoleButton>
      )}
      <EditOrRemove<Pool>
        resource={pool}
        fields={poolFields(listeners)}
        etag={etag}
        put={putPool}
        remove={deletePool}
        consequence={
          <>
            {counted(connections, "live connection")} to its {counted(backends.length, "backend")}{" "}
            go on until they end.
          </>
        }
        list="/pools"
        onReadAgain={onReadAgain}
      />
    </>
  );
}
