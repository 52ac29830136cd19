// One revision beside another one: what differs, who runs it, and the way back to it.

import { TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useNavigate, useParams } from "react-router";
import { agentsQuery } from "../../api/queries/agents";
import { configQuery } from "../../api/queries/config";
import { statusQuery } from "../../api/queries/overview";
import {
  revisionDiffQuery,
  revisionQuery,
  revisionTextQuery,
  rollBack,
} from "../../api/queries/revisions";
import type { Agent, Commit } from "../../api/types";
import { Ago } from "../../components/ago";
import { ConfirmAction } from "../../components/confirm-action";
import { DiffFields } from "../../components/diff-fields";
import { useNotices } from "../../components/notices";
import { PageHeader } from "../../components/page-header";
import { QueryProblem } from "../../components/problem-alert";
import { appliedWords, Preview } from "../../components/resource-form/resource-form";
import { RoleButton } from "../../components/role-button";
import { Section } from "../../components/section";
import { StateMark } from "../../components/state-mark";
import { TextDiff } from "../../components/text-diff/text-diff";
import { useQueryState } from "../../components/use-query-state";
import { count, counted } from "../../format/numbers";
import { inSyncCount, readAgainst } from "./applied";
import classes from "./changes.module.css";

export default function ChangePage() {
  const { number: written = "" } = useParams();
  const number = Number(written);
  const [againstText, setAgainst] = useQueryState<string>("against", "");
  const against = readAgainst(againstText, number);
  const revision = useQuery(revisionQuery(number));
  const diff = useQuery(revisionDiffQuery(number, against));
  const before = useQuery(revisionTextQuery(against));
  const after = useQuery(revisionTextQuery(number));
  const status = useQuery(statusQuery);
  const agents = useQuery(agentsQuery);
  const current = status.data?.revision;
  return (
    <div className={classes.page}>
      <PageHeader
        title={`Revision ${written}`}
        parent={{ title: "Changes", to: "/changes" }}
        about={
          revision.data && (
            <>
              {revision.data.action} · {revision.data.author} ·{" "}
              <Ago at={revision.data.created_at} />
              {number === current && " · current"}
            </>
          )
        }
      >
        {current !== undefined && revision.data && number !== current && (
          <RollBack number={number} agents={agents.data ?? []} />
        )}
      </PageHeader>
      <QueryProblem query={revision} what="The revision could not be read." />
      {revision.data && (
        <>
          {number === current && agents.data && <OnAgents agents={agents.data} />}
          <div className={classes.compare}>
            <label htmlFor="against">Compared with revision</label>
            <TextInput
              id="against"
              size="xs"
              inputMode="numeric"
              value={againstText === "" ? String(against) : againstText}
              onChange={(event) => setAgainst(event.currentTarget.value)}
            />
            {number > 1 && against !== number - 1 && (
              <Link to={`/changes/${number}`}>the one before</Link>
            )}
            {current !== undefined && current !== number && against !== current && (
              <Link to={`/changes/${number}?against=${current}`}>the current one</Link>
            )}
          </div>
          <QueryProblem query={diff} what="The two could not be compared." />
          {diff.data && (
            <Section title="What differs" aside={counted(diff.data.diff.length, "resource")}>
              <DiffFields diff={diff.data.diff} />
            </Section>
          )}
          {before.data !== undefined && after.data !== undefined && (
            <Section
              title="Side by side"
              aside={`revision ${count(against)} left, ${count(number)} right`}
            >
              <TextDiff
                before={before.data}
                after={after.data}
                names={[`revision ${against}`, `revision ${number}`]}
              />
            </Section>
          )}
        </>
      )}
    </div>
  );
}

/** More by name would be a page of their own: the list of agents. */
const NAMED = 12;

function OnAgents({ agents }: { agents: Agent[] }) {
  const members = agents.filter((agent) => agent.revoked_at == null);
  const { inSync, of } = inSyncCount(agents);
  const late = members.filter((agent) => !agent.in_sync);
  return (
    <Section title="On agents" aside={`${count(inSync)} of ${count(of)} run what is wanted`}>
      {of === 0 && <p className="dim">No agent is there yet.</p>}
      {of > 0 && late.length === 0 && (
        <StateMark state="in_sync" word={`All ${counted(of, "agent")} run it.`} />
      )}
      {late.length > 0 && (
        <ul className={classes.agents}>
          {late.slice(0, NAMED).map((agent) => (
            <li key={agent.id}>
              <StateMark
                state={agent.state === "failed" ? "failed" : agent.connected ? "behind" : "offline"}
                word
              />
              <Link to={`/agents/${agent.id}`} className="mono">
                {agent.address}
              </Link>
              <span className="dim">
                runs revision {agent.applied ? count(agent.applied.revision) : "none"}
              </span>
              {agent.mistakes[0] && (
                <span>
                  <code className="mono">{agent.mistakes[0].pointer}</code>{" "}
                  {agent.mistakes[0].message}
                </span>
              )}
            </li>
          ))}
          {late.length > NAMED && <li className="dim">and {count(late.length - NAMED)} more</li>}
        </ul>
      )}
    </Section>
  );
}

interface Shown {
  commit: Commit;
  etag: string | undefined;
}

function RollBack({ number, agents }: { number: number; agents: Agent[] }) {
  const [open, setOpen] = useState(false);
  const client = useQueryClient();
  const { notify } = useNotices();
  const navigate = useNavigate();
  const { of } = inSyncCount(agents);
  return (
    <>
      <RoleButton needs="operator" onClick={() => setOpen(true)}>
        Roll back to this
      </RoleButton>
      <ConfirmAction<Shown, Commit>
        opened={open}
        onClose={() => setOpen(false)}
        title={`Roll back to revision ${number}`}
        label="Roll back"
        size="lg"
        previewKey={[number]}
        read={async () => {
          const { etag } = await client.fetchQuery({ ...configQuery, staleTime: 0 });
          return { commit: await rollBack(number, { dryRun: true, etag }), etag };
        }}
        describe={({ commit }) => (
          <>
            <p>
              {commit.changed
                ? `${counted(commit.diff.length, "resource")} of the document change, for ${counted(of, "agent")} at most. Certificates' material, states of backends, agents and tokens stay as they are.`
                : "The document is the same already."}
            </p>
            <Preview commit={commit} />
          </>
        )}
        blocked={({ commit }) => (commit.changed ? undefined : "There is nothing to roll back.")}
        act={({ etag }) => rollBack(number, { etag, wait: true })}
        onDone={(commit) => {
          notify({ text: appliedWords(commit) });
          void navigate(`/changes/${commit.revision}`);
        }}
      />
    </>
  );
}
