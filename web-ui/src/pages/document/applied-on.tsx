// What came of an apply: who runs it, who cannot, and who was not there.

import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { agentsQuery } from "../../api/queries/agents";
import type { Commit } from "../../api/types";
import { Section } from "../../components/section";
import { StateMark } from "../../components/state-mark";
import { shortId } from "../../format/addresses";
import { counted } from "../../format/numbers";
import classes from "./document.module.css";

export function AppliedOn({ commit }: { commit: Commit }) {
  const agents = useQuery(agentsQuery);
  const { applied } = commit;
  if (!applied) return null;
  const name = (id: string) =>
    agents.data?.find((agent) => agent.id === id)?.address ?? shortId(id);
  return (
    <Section title={`Revision ${commit.revision}`}>
      <div className={classes.bar} role="status">
        <StateMark state="in_sync" word={`runs on ${counted(applied.applied.length, "agent")}`} />
        {applied.pending.length > 0 && (
          <StateMark
            state="behind"
            word={`${counted(applied.pending.length, "agent")} has not answered`}
          />
        )}
        {applied.offline.length > 0 && (
          <StateMark
            state="offline"
            word={`${counted(applied.offline.length, "agent")} offline, to follow`}
          />
        )}
      </div>
      {applied.failed.length > 0 && (
        <ul className={classes.failed}>
          {applied.failed.map(({ agent, mistakes }) => (
            <li key={agent}>
              <StateMark state="failed" word={`${name(agent)} cannot run it`} />
              {mistakes.map(({ pointer, message }) => (
                <p key={`${pointer} ${message}`}>
                  <code className="mono">{pointer}</code> {message}
                </p>
              ))}
              <Link to={`/agents/${agent}`}>Look at it</Link>
            </li>
          ))}
        </ul>
      )}
    </Section>
  );
}
