// Where a client is connected now.

import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { agentsQuery } from "../../api/queries/agents";
import type { Agent, Client } from "../../api/types";
import { type Column, DataTable } from "../../components/data-table";
import { EmptyState } from "../../components/empty-state";
import { shortId } from "../../format/addresses";
import { count } from "../../format/numbers";

type LiveAt = Client["live"][number];

export function ClientLive({ client }: { client: Client }) {
  const agents = useQuery(agentsQuery);
  const rows = client.live.filter(({ live }) => live > 0);
  return (
    <DataTable
      label="Live connections"
      columns={columnsOf(agents.data ?? [])}
      rows={rows}
      rowKey={({ listener, agent }) => `${listener} ${agent}`}
      initialSort="-live"
      empty={<EmptyState title="It is not connected now" />}
    />
  );
}

function columnsOf(agents: Agent[]): Column<LiveAt>[] {
  const addressOf = (id: string) => agents.find((agent) => agent.id === id)?.address ?? shortId(id);
  return [
    {
      id: "listener",
      title: "Listener",
      inCard: "title",
      sort: ({ listener }) => listener,
      cell: ({ listener }) => (
        <Link to={`/listeners/${encodeURIComponent(listener)}`} className="mono">
          {listener}
        </Link>
      ),
    },
    {
      id: "agent",
      title: "Agent",
      sort: ({ agent }) => addressOf(agent),
      cell: ({ agent }) => (
        <Link to={`/agents/${agent}`} className="mono">
          {addressOf(agent)}
        </Link>
      ),
    },
    {
      id: "live",
      title: "Live",
      numeric: true,
      width: "minmax(0, 90px)",
      sort: ({ live }) => live,
      cell: ({ live }) => count(live),
    },
  ];
}
