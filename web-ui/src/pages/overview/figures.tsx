// The figures that matter, each with its last hour.

import { useQuery } from "@tanstack/react-query";
import { seriesQuery } from "../../api/queries/series";
import type { Series, Status, Topology } from "../../api/types";
import { latest } from "../../components/chart-data";
import { Figure, Figures } from "../../components/figure";
import { useNow } from "../../components/use-now";
import { byteRate } from "../../format/bytes";
import { daysUntil } from "../../format/durations";
import { compact, count, percent, rate } from "../../format/numbers";
import { resumedShare } from "./shares";

/** From when on a certificate's end is worth a colour. */
const SOON_DAYS = 14;
const URGENT_DAYS = 1;

interface Props {
  status: Status | undefined;
  topology: Topology | undefined;
}

export function FleetFigures({ status, topology }: Props) {
  const series = useQuery(seriesQuery({ of: "fleet" }));
  const measures: Series["measures"] = series.data?.measures ?? {};
  const clients = topology?.clients ?? status?.connections;
  const handshakes = latest(measures.handshake_rate);
  const resumed = resumedShare(handshakes ?? 0, latest(measures.resumed_rate) ?? 0);
  const bytes = topology?.clients.byte_rate ?? latest(measures.byte_rate);
  return (
    <Figures>
      <Figure
        label="Live connections"
        value={clients && compact(clients.live)}
        points={measures.live}
        to="/clients?by=live"
      />
      <Figure
        label="New connections"
        value={clients && rate(clients.accept_rate)}
        points={measures.accept_rate}
      />
      <Figure
        label="TLS handshakes"
        value={handshakes === undefined ? undefined : rate(handshakes)}
        {...(resumed !== undefined && { about: `${percent(resumed)} resumed` })}
        points={measures.handshake_rate}
      />
      <Figure
        label="Traffic, both ways"
        value={bytes === undefined ? undefined : byteRate(bytes)}
        points={measures.byte_rate}
      />
      <AgentsFigure status={status} points={measures.agents_in_sync} />
      <CertificateFigure status={status} />
    </Figures>
  );
}

function AgentsFigure({
  status,
  points,
}: {
  status: Status | undefined;
  points: Series["measures"][string] | undefined;
}) {
  const agents = status?.agents;
  const away = agents ? agents.total - agents.connected : 0;
  const whole = agents && agents.in_sync === agents.total && away === 0;
  return (
    <Figure
      label="Agents in sync"
      value={agents && count(agents.in_sync)}
      {...(agents && { unit: `of ${count(agents.total)}` })}
      // One that is away goes on with what it ran, and may well be what is wanted.
      {...(away > 0 && { about: `${count(away)} not connected` })}
      tone={!agents || whole ? undefined : agents.failed > 0 ? "down" : "warn"}
      points={points}
      to="/agents"
    />
  );
}

function CertificateFigure({ status }: { status: Status | undefined }) {
  const now = useNow();
  const first = status?.certificates.toSorted((a, b) => a.not_after.localeCompare(b.not_after))[0];
  const days = first && daysUntil(Date.parse(first.not_after), now);
  const years = Math.floor((days ?? 0) / 365);
  const far = years > 2;
  const tone =
    days === undefined || days >= SOON_DAYS ? undefined : days < URGENT_DAYS ? "down" : "warn";
  return (
    <Figure
      label="Next certificate's end"
      value={days === undefined ? undefined : days < 0 ? "over" : count(far ? years : days)}
      {...(days !== undefined &&
        days >= 0 && { unit: far ? "years" : days === 1 ? "day" : "days" })}
      about={
        first ? <span className="mono">{first.name}</span> : status && "No certificates uploaded"
      }
      tone={tone}
      to={first ? `/certificates/${encodeURIComponent(first.name)}` : "/certificates"}
    />
  );
}
