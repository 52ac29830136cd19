// Which listeners a client may come to, by which policies.

import { Link } from "react-router";
import { type Column, DataTable } from "../../components/data-table";
import { StateMark } from "../../components/state-mark";
import { count } from "../../format/numbers";
import { limitsInWords, type Meeting, type Verdict } from "./meets";

export function ClientMeets({ meetings }: { meetings: Meeting[] }) {
  return (
    <DataTable
      label="Listeners it meets"
      columns={COLUMNS}
      rows={meetings}
      rowKey={({ listener }) => listener.name}
      prefix="meets-"
    />
  );
}

const COLUMNS: Column<Meeting>[] = [
  {
    id: "listener",
    title: "Listener",
    inCard: "title",
    cell: ({ listener }) => (
      <Link to={`/listeners/${encodeURIComponent(listener.name)}`} className="mono">
        {listener.name}
      </Link>
    ),
  },
  {
    id: "verdict",
    title: "Admitted",
    width: "minmax(0, 1.6fr)",
    cell: ({ verdict }) => <VerdictMark verdict={verdict} />,
  },
  {
    id: "policy",
    title: "Policy",
    cell: ({ policy }) =>
      policy ? <span className="mono">{policy.name}</span> : <span className="dim">none</span>,
  },
  {
    id: "limits",
    title: "Limits of one client",
    width: "minmax(0, 1.6fr)",
    cell: ({ policy }) => limitsInWords(policy) ?? <span className="dim">none</span>,
  },
  {
    id: "live",
    title: "Live",
    numeric: true,
    width: "minmax(0, 90px)",
    cell: ({ live }) => count(live),
  },
];

function VerdictMark({ verdict }: { verdict: Verdict }) {
  switch (verdict.kind) {
    case "admitted":
      return <StateMark state="up" word="admitted" />;
    case "partly":
      return <StateMark state="warning" word={`partly denied by ${verdict.by}`} />;
    case "denied":
      return <StateMark state="failed" word={`denied by ${verdict.by}`} />;
    case "not_allowed":
      return <StateMark state="failed" word="not among the allowed" />;
  }
}
