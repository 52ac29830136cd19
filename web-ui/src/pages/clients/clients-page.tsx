// Who does most, by measure and window.

import { Button } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { topClientsQuery } from "../../api/queries/clients";
import type { Measure, Top, Window } from "../../api/types";
import { Choice } from "../../components/choice";
import { EmptyState } from "../../components/empty-state";
import { PageHeader } from "../../components/page-header";
import { QueryProblem } from "../../components/problem-alert";
import { useQueryChoice } from "../../components/use-query-state";
import { clock } from "../../format/durations";
import { counted } from "../../format/numbers";
import classes from "./clients-page.module.css";
import { LookUp } from "./look-up";
import { amountText, MEASURES, WINDOWS } from "./measures";
import { TopTable } from "./top-table";

export default function ClientsPage() {
  const [by, setBy] = useQueryChoice<Measure>("by", [
    "live",
    "connections",
    "bytes",
    "handshake_failures",
    "refused",
  ]);
  const [window, setWindow] = useQueryChoice<Window>("window", ["1h", "1m", "24h"]);
  const [most, setMost] = useQueryChoice("top", ["100", "1000"]);
  const top = useQuery(topClientsQuery(by, window, Number(most)));
  return (
    <>
      <PageHeader
        title="Clients"
        about="Counted by IPv4 address or IPv6 /64, where their connections enter the fleet."
      >
        <LookUp />
      </PageHeader>
      <div className={classes.choices}>
        <Choice label="Measure" choices={MEASURES} value={by} onChange={setBy} />
        {by !== "live" && (
          <Choice label="Window" choices={WINDOWS} value={window} onChange={setWindow} />
        )}
      </div>
      <QueryProblem query={top} what="The clients could not be read." />
      {top.data && top.data.items.length > 0 && (
        <>
          <Total top={top.data} />
          <TopTable top={top.data} />
          {most === "100" && top.data.items.length >= 100 && (
            <p className={classes.more}>
              <Button variant="default" onClick={() => setMost("1000")}>
                Show the first 1,000
              </Button>
            </p>
          )}
          {top.data.bound > 0 && <Bounds top={top.data} />}
        </>
      )}
      {top.data?.items.length === 0 && <Nobody by={by} />}
    </>
  );
}

function Total({ top }: { top: Top }) {
  const all = amountText(top.by, top.total);
  const from = clock(Date.parse(top.from));
  return (
    <p className={classes.total}>
      {top.by === "live"
        ? `All clients together: ${counted(top.total, "live connection")}.`
        : `All clients together: ${all} since ${from}.`}
    </p>
  );
}

function Bounds({ top }: { top: Top }) {
  return (
    <p className={classes.bounds}>
      A range says between what a client's amount lies: agents count those who did most in each
      minute, and forget the others. A client that is in no list had {amountText(top.by, top.bound)}{" "}
      at most. The total is exact.
    </p>
  );
}

function Nobody({ by }: { by: Measure }) {
  if (by === "refused" || by === "handshake_failures")
    return (
      <EmptyState title={by === "refused" ? "Nobody was refused" : "No handshake failed"}>
        Nothing to do. A longer window may show some.
      </EmptyState>
    );
  return (
    <EmptyState title={by === "live" ? "Nobody is connected" : "Nobody was here"}>
      Clients appear as soon as they connect to a listener of the fleet.
    </EmptyState>
  );
}
