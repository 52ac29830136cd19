// All pools: how each is balanced, who serves, and what goes there.

import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { useNavigate } from "react-router";
import { topologyQuery } from "../../api/queries/overview";
import { poolsQuery, putPool } from "../../api/queries/pools";
import type { Pool, TopologyPool } from "../../api/types";
import { type Column, DataTable } from "../../components/data-table";
import { EmptyState } from "../../components/empty-state";
import { Name } from "../../components/name";
import { useNotices } from "../../components/notices";
import { PageHeader } from "../../components/page-header";
import { QueryProblem } from "../../components/problem-alert";
import { appliedWords, ResourceForm } from "../../components/resource-form/resource-form";
import { RoleButton } from "../../components/role-button";
import { StateMark } from "../../components/state-mark";
import { count, rate } from "../../format/numbers";
import { poolFields } from "./pool-fields";
import { SeenCounts } from "./seen-counts";
import { poolState, servedWords } from "./served";

interface Row {
  pool: Pool;
  seen: TopologyPool | undefined;
}

const COLUMNS: Column<Row>[] = [
  {
    id: "name",
    title: "Pool",
    width: "minmax(140px, 1.4fr)",
    sort: ({ pool }) => pool.name,
    cell: ({ pool }) => <Name to={`/pools/${encodeURIComponent(pool.name)}`}>{pool.name}</Name>,
  },
  {
    id: "balance",
    title: "Balance",
    sort: ({ pool }) => pool.balance ?? "least_connections",
    cell: ({ pool }) => (pool.balance ?? "least_connections").replaceAll("_", " "),
  },
  {
    id: "backends",
    title: "Backends",
    width: "minmax(150px, 1.4fr)",
    sort: ({ seen }) => (seen ? seen.seen.down * 1_000 + seen.seen.up : undefined),
    cell: ({ seen }) => seen && <SeenCounts seen={seen.seen} backends={seen.backends} />,
  },
  {
    id: "serving",
    title: "Served by",
    cell: ({ seen }) =>
      seen && <StateMark state={poolState(seen.serving)} word={servedWords(seen.serving)} />,
  },
  {
    id: "queued",
    title: "Queued",
    numeric: true,
    width: "minmax(60px, 0.5fr)",
    sort: ({ seen }) => seen?.queued,
    cell: ({ seen }) => seen && count(seen.queued),
  },
  {
    id: "live",
    title: "Live",
    numeric: true,
    width: "minmax(60px, 0.5fr)",
    sort: ({ seen }) => seen?.live,
    cell: ({ seen }) => seen && count(seen.live),
  },
  {
    id: "rate",
    title: "Connects",
    numeric: true,
    width: "minmax(70px, 0.6fr)",
    sort: ({ seen }) => seen?.connect_rate,
    cell: ({ seen }) => seen && rate(seen.connect_rate),
  },
];

export default function PoolsPage() {
  const pools = useQuery(poolsQuery);
  const topology = useQuery(topologyQuery);
  const [adding, setAdding] = useState(false);
  const { notify } = useNotices();
  const navigate = useNavigate();
  const rows = useMemo(
    () =>
      pools.data?.map((pool) => ({
        pool,
        seen: topology.data?.pools.find((one) => one.name === pool.name),
      })),
    [pools.data, topology.data],
  );
  const listeners = topology.data?.listeners ?? [];
  const terminators = listeners.filter(({ role }) => role === "terminator");
  const add = (
    <RoleButton needs="operator" onClick={() => setAdding(true)}>
      Add a pool
    </RoleButton>
  );
  return (
    <>
      <PageHeader title="Pools" about="Where connections go.">
        {rows && rows.length > 0 && add}
      </PageHeader>
      <QueryProblem query={pools} what="The pools could not be read." />
      {rows && (
        <DataTable
          label="Pools"
          columns={COLUMNS}
          rows={rows}
          rowKey={({ pool }) => pool.name}
          filterText={({ pool }) => `${pool.name} ${pool.balance ?? ""}`}
          empty={
            <EmptyState title="No pool yet" action={add}>
              A pool is where a listener's connections go: your app's processes, or the terminators
              behind a balancer.
            </EmptyState>
          }
        />
      )}
      <ResourceForm<Pool>
        opened={adding}
        onClose={() => setAdding(false)}
        title="Add a pool"
        fields={poolFields(terminators.map(({ name }) => name))}
        initial={{ name: "", backends: [{ address: ":3000" }] }}
        put={putPool}
        onDone={(commit, pool) => {
          notify({ text: appliedWords(commit), tone: "done" });
          void navigate(`/pools/${encodeURIComponent(pool.name)}`);
        }}
      />
    </>
  );
}
