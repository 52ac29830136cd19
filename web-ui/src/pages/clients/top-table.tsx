// Who did most: rank, client, amount within its bounds, and share of all.

import { Link } from "react-router";
import type { Counted, Top } from "../../api/types";
import { type Column, DataTable } from "../../components/data-table";
import { percent } from "../../format/numbers";
import { AMOUNTS, clientPath, rangeText } from "./measures";
import classes from "./top-table.module.css";

interface Ranked extends Counted {
  rank: number;
  share: number | undefined;
  /** Of what the first one did: what the bar shows, since shares of all may be tiny. */
  part: number;
}

export function TopTable({ top }: { top: Top }) {
  const most = Math.max(1, ...top.items.map(({ count }) => count));
  const rows: Ranked[] = top.items.map((item, index) => ({
    ...item,
    rank: index + 1,
    share: top.total > 0 ? Math.min(1, item.count / top.total) : undefined,
    part: item.count / most,
  }));
  return (
    <DataTable
      label="Clients"
      rows={rows}
      columns={columnsOf(top)}
      rowKey={({ client }) => client}
      filterText={({ client }) => client}
    />
  );
}

function columnsOf(top: Top): Column<Ranked>[] {
  return [
    {
      id: "rank",
      title: "Rank",
      width: "48px",
      inCard: "none",
      cell: ({ rank }) => <span className="num">{rank}</span>,
    },
    {
      id: "client",
      title: "Client",
      width: "minmax(0, 240px)",
      inCard: "title",
      sort: ({ client }) => client,
      cell: ({ client }) => (
        <Link to={clientPath(client)} className="mono">
          {client}
        </Link>
      ),
    },
    {
      id: "amount",
      title: AMOUNTS[top.by],
      width: "minmax(0, 160px)",
      numeric: true,
      sort: ({ count }) => count,
      cell: ({ count, error }) => rangeText(top.by, count - error, count + top.bound),
    },
    {
      id: "share",
      title: "Share of all",
      width: "minmax(0, 1fr)",
      cell: ({ share, part }) =>
        share === undefined ? "–" : <ShareBar share={share} part={part} />,
    },
  ];
}

function ShareBar({ share, part }: { share: number; part: number }) {
  return (
    <span className={classes.share}>
      <span className={classes.percent}>{percent(share)}</span>
      <span className={classes.track} aria-hidden="true">
        <span className={classes.bar} style={{ width: `${part * 100}%` }} />
      </span>
    </span>
  );
}
