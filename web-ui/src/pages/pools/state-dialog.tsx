// Takes backends out of use, or back, and says before what that comes to.

import { NativeSelect, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Read } from "../../api/client";
import { backendStateQuery, sayBackendState } from "../../api/queries/backends";
import type { AdminState, Agent, Backend, BackendState } from "../../api/types";
import { Choice } from "../../components/choice";
import { ConfirmAction } from "../../components/confirm-action";
import { useNotices } from "../../components/notices";
import { StateMark } from "../../components/state-mark";
import { counted } from "../../format/numbers";
import classes from "./pools.module.css";
import { agentName, backendName } from "./seen";
import { type PaceChoice, paceOf, stateFacts } from "./state-facts";

interface Props {
  pool: string;
  names: string[];
  state: AdminState;
  backends: Backend[];
  agents: Agent[] | undefined;
  onClose: () => void;
}

const VERB: Record<AdminState, string> = {
  drain: "Drain",
  maintenance: "Put in maintenance",
  ready: "Set ready",
};

const PACES = [
  { value: "none", label: "end by themselves" },
  { value: "within", label: "closed within" },
  { value: "per_second", label: "closed at a rate" },
] as const;

type Shown = { name: string; read: Read<BackendState> }[];

export function StateDialog({ pool, names, state, backends, agents, onClose }: Props) {
  const [agent, setAgent] = useState("");
  const [pace, setPace] = useState<PaceChoice>({ kind: "none", amount: "" });
  const { notify } = useNotices();
  const client = useQueryClient();
  const seeing = new Set(
    backends
      .filter(({ name }) => names.includes(name))
      .flatMap((backend) => backend.agents.map((seen) => seen.agent)),
  );
  const first = backends.find(({ name }) => name === names[0]);
  const what = names.length === 1 && first ? backendName(first) : counted(names.length, "backend");
  const wanted = paceOf(pace);
  const withPace = state !== "ready";
  const saying = {
    state,
    ...(withPace && wanted.pace && { pace: wanted.pace }),
    ...(agent !== "" && { agent }),
  };
  return (
    <ConfirmAction<Shown, number>
      opened
      onClose={onClose}
      title={`${VERB[state]}: ${what}`}
      label={VERB[state]}
      previewKey={[pool, names, state, agent]}
      read={() =>
        Promise.all(
          names.map(async (name) => ({
            name,
            read: await client.fetchQuery({ ...backendStateQuery(pool, name), staleTime: 0 }),
          })),
        )
      }
      blocked={() => (withPace ? wanted.wrong : undefined)}
      describe={(shown) => (
        <ul className={classes.facts}>
          {stateFacts({
            state,
            names,
            agent,
            pace: withPace ? wanted.pace : undefined,
            remaining: shown.map(({ read }) => read.value.remaining),
            backends,
          }).map(({ mark, text }) => (
            <li key={text}>
              <StateMark state={mark} title="" />
              <span>{text}</span>
            </li>
          ))}
        </ul>
      )}
      act={async (shown) => {
        // One after the other: each takes the number that the next is planned on.
        let done = 0;
        try {
          for (const { name, read } of shown) {
            await sayBackendState(pool, name, saying, { etag: read.etag, wait: true });
            done += 1;
          }
        } finally {
          if (done > 0 && done < shown.length)
            notify({
              text: `Done for ${done} of ${shown.length}: ${shown[done]?.name} was refused.`,
              tone: "warning",
            });
        }
        return done;
      }}
      onDone={() => notify({ text: `${VERB[state]}: ${what}.` })}
    >
      <div className={classes.choices}>
        {seeing.size > 1 && (
          <NativeSelect
            label="On"
            value={agent}
            onChange={(event) => setAgent(event.currentTarget.value)}
            data={[
              { value: "", label: `all ${seeing.size} agents` },
              ...[...seeing].map((id) => ({ value: id, label: agentName(agents, id) })),
            ]}
          />
        )}
        {withPace && <PaceFields pace={pace} onChange={setPace} wrong={wanted.wrong} />}
      </div>
    </ConfirmAction>
  );
}

function PaceFields({
  pace,
  onChange,
  wrong,
}: {
  pace: PaceChoice;
  onChange: (pace: PaceChoice) => void;
  wrong: string | undefined;
}) {
  return (
    <>
      <Choice
        label="Live connections"
        value={pace.kind}
        onChange={(kind) => onChange({ kind, amount: "" })}
        choices={PACES}
      />
      {pace.kind !== "none" && (
        <TextInput
          label={pace.kind === "within" ? "Within" : "A second, on each agent"}
          placeholder={pace.kind === "within" ? "10m" : "5"}
          value={pace.amount}
          error={pace.amount === "" ? undefined : wrong}
          onChange={(event) => onChange({ ...pace, amount: event.currentTarget.value })}
        />
      )}
    </>
  );
}
