// All listeners: where connections come in, on whom, and where they go.

import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { useNavigate } from "react-router";
import { certificatesQuery } from "../../api/queries/certificates";
import { listenersQuery, putListener } from "../../api/queries/listeners";
import { topologyQuery } from "../../api/queries/overview";
import { policiesQuery } from "../../api/queries/policies";
import { poolsQuery } from "../../api/queries/pools";
import type { Listener, TopologyListener } from "../../api/types";
import { type Column, DataTable } from "../../components/data-table";
import { EmptyState } from "../../components/empty-state";
import { Name } from "../../components/name";
import { useNotices } from "../../components/notices";
import { PageHeader } from "../../components/page-header";
import { QueryProblem } from "../../components/problem-alert";
import { appliedWords, ResourceForm } from "../../components/resource-form/resource-form";
import { RoleButton } from "../../components/role-button";
import { byteRate } from "../../format/bytes";
import { count, rate } from "../../format/numbers";
import { AgentCounts } from "./agent-counts";
import { listenerFields } from "./listener-fields";

interface Row {
  listener: Listener;
  seen: TopologyListener | undefined;
}

const COLUMNS: Column<Row>[] = [
  {
    id: "name",
    title: "Listener",
    width: "minmax(120px, 1.2fr)",
    sort: ({ listener }) => listener.name,
    cell: ({ listener }) => (
      <Name to={`/listeners/${encodeURIComponent(listener.name)}`}>{listener.name}</Name>
    ),
  },
  {
    id: "role",
    title: "Role",
    width: "minmax(80px, 0.7fr)",
    sort: ({ listener }) => listener.role,
    cell: ({ listener }) => listener.role,
  },
  {
    id: "bind",
    title: "Address",
    width: "minmax(80px, 0.8fr)",
    sort: ({ listener }) => listener.bind,
    cell: ({ listener }) => <Name>{listener.bind}</Name>,
  },
  {
    id: "to",
    title: "To",
    width: "minmax(100px, 1fr)",
    cell: ({ listener, seen }) => <Goal listener={listener} seen={seen} />,
  },
  {
    id: "agents",
    title: "Agents",
    width: "minmax(120px, 1.2fr)",
    sort: ({ seen }) => seen && seen.agents.failed * 1_000 + seen.agents.offline,
    cell: ({ seen }) => seen && <AgentCounts agents={seen.agents} />,
  },
  {
    id: "live",
    title: "Live",
    numeric: true,
    width: "64px",
    sort: ({ seen }) => seen?.live,
    cell: ({ seen }) => seen && count(seen.live),
  },
  {
    id: "new",
    title: "New",
    numeric: true,
    width: "64px",
    sort: ({ seen }) => seen?.accept_rate,
    cell: ({ seen }) => seen && rate(seen.accept_rate),
  },
  {
    id: "bytes",
    title: "Traffic",
    numeric: true,
    width: "88px",
    sort: ({ seen }) => seen?.byte_rate,
    cell: ({ seen }) => seen && byteRate(seen.byte_rate),
  },
  {
    id: "handshakes",
    title: "TLS",
    numeric: true,
    width: "64px",
    sort: ({ seen }) => seen?.handshake_rate,
    cell: ({ listener, seen }) =>
      listener.role === "terminator" && seen ? rate(seen.handshake_rate) : "–",
  },
];

function Goal({ listener, seen }: Row) {
  if (listener.redirect) return <>redirects to https</>;
  const pools = seen?.pools ?? (listener.pool === undefined ? [] : [listener.pool]);
  const [first] = pools;
  if (first === undefined) return <span className="dim">nowhere</span>;
  return (
    <span>
      <Name to={`/pools/${encodeURIComponent(first)}`}>{first}</Name>
      {pools.length > 1 && <span className="dim"> and {pools.length - 1} more</span>}
    </span>
  );
}

export default function ListenersPage() {
  const listeners = useQuery(listenersQuery);
  const topology = useQuery(topologyQuery);
  const fields = useListenerFields();
  const [adding, setAdding] = useState(false);
  const { notify } = useNotices();
  const navigate = useNavigate();
  const rows = useMemo(
    () =>
      listeners.data?.map((listener) => ({
        listener,
        seen: topology.data?.listeners.find((one) => one.name === listener.name),
      })),
    [listeners.data, topology.data],
  );
  const add = (
    <RoleButton needs="operator" onClick={() => setAdding(true)}>
      Add a listener
    </RoleButton>
  );
  return (
    <>
      <PageHeader title="Listeners" about="Where connections come in.">
        {rows && rows.length > 0 && add}
      </PageHeader>
      <QueryProblem query={listeners} what="The listeners could not be read." />
      {rows && (
        <DataTable
          label="Listeners"
          columns={COLUMNS}
          rows={rows}
          rowKey={({ listener }) => listener.name}
          filterText={({ listener }) =>
            `${listener.name} ${listener.role} ${listener.bind} ${listener.pool ?? ""}`
          }
          empty={
            <EmptyState title="No listener yet" action={add}>
              A listener is an address that agents bind, and what happens to a connection there. A
              balancer's stands in front, a terminator's beside the app. It needs a pool to lead to.
            </EmptyState>
          }
        />
      )}
      <ResourceForm<Listener>
        opened={adding}
        onClose={() => setAdding(false)}
        title="Add a listener"
        fields={fields}
        initial={{ name: "", role: "balancer", bind: ":443" }}
        put={putListener}
        onDone={(commit, listener) => {
          notify({ text: appliedWords(commit) });
          void navigate(`/listeners/${encodeURIComponent(listener.name)}`);
        }}
      />
    </>
  );
}

/** With what there is to choose from. */
export function useListenerFields() {
  const pools = useQuery(poolsQuery);
  const policies = useQuery(policiesQuery);
  const certificates = useQuery(certificatesQuery);
  return useMemo(
    () =>
      listenerFields({
        pools: pools.data?.map(({ name }) => name) ?? [],
        policies: policies.data?.map(({ name }) => name) ?? [],
        certificates: certificates.data?.map(({ name }) => name) ?? [],
      }),
    [pools.data, policies.data, certificates.data],
  );
}
