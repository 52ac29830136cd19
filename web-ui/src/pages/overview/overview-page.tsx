// The fleet at a glance: its figures, what needs attention, and the picture.

import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { statusQuery, topologyQuery } from "../../api/queries/overview";
import type { Status } from "../../api/types";
import { PageHeader } from "../../components/page-header";
import { QueryProblem } from "../../components/problem-alert";
import { Section } from "../../components/section";
import { count, counted } from "../../format/numbers";
import { AttentionList } from "./attention-list";
import { FleetFigures } from "./figures";
import { FirstSteps } from "./first-steps";
import { FleetPicture } from "./fleet-picture";
import classes from "./overview-page.module.css";

export default function OverviewPage() {
  const status = useQuery(statusQuery);
  const topology = useQuery(topologyQuery);
  const hasListeners = (topology.data?.listeners.length ?? 1) > 0;
  const fresh = status.data && (!hasListeners || status.data.agents.total === 0);
  return (
    <div className={classes.page}>
      <PageHeader title="Overview" about={status.data && <About status={status.data} />} />
      <QueryProblem query={status} what="The fleet's state could not be read." />
      {fresh ? (
        <FirstSteps status={status.data} hasListeners={hasListeners} />
      ) : (
        <FleetFigures status={status.data} topology={topology.data} />
      )}
      {(!fresh || hasListeners) && <AttentionList />}
      {hasListeners && (
        <Section title="Fleet">
          <QueryProblem query={topology} what="The fleet's picture could not be read." />
          {topology.data && <FleetPicture topology={topology.data} />}
        </Section>
      )}
    </div>
  );
}

function About({ status }: { status: Status }) {
  return (
    <>
      <Link to="/changes">Revision {count(status.revision)}</Link> · change {count(status.change)} ·{" "}
      {counted(status.replicas.length, "control plane")} · version {status.version}
    </>
  );
}
