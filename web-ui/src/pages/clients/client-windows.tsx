// What a client did, by measure and window.

import type { Client, Measure, Window } from "../../api/types";
import { type Column, DataTable } from "../../components/data-table";
import { AMOUNTS, rangeText } from "./measures";

const DONE: Measure[] = ["connections", "bytes", "handshake_failures", "refused"];
const WINDOWS: { window: Window; title: string }[] = [
  { window: "1m", title: "1 minute" },
  { window: "1h", title: "1 hour" },
  { window: "24h", title: "24 hours" },
];

export function ClientWindows({ client }: { client: Client }) {
  const columns: Column<Measure>[] = [
    {
      id: "measure",
      title: "Measure",
      inCard: "title",
      width: "minmax(0, 1.7fr)",
      cell: (measure) => AMOUNTS[measure],
    },
    ...WINDOWS.map(
      ({ window, title }): Column<Measure> => ({
        id: window,
        title,
        numeric: true,
        cell: (measure) => {
          const amount = client.windows[window]?.[measure];
          if (!amount) return "–";
          return rangeText(measure, amount.count - amount.error, amount.count + amount.bound);
        },
      }),
    ),
  ];
  return <DataTable label="What it did" columns={columns} rows={DONE} rowKey={(row) => row} />;
}
