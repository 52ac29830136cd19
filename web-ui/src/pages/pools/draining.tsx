// Backends that are out of use, and how far they have come: shown while there are any.

import { useMutation } from "@tanstack/react-query";
import { sayBackendState } from "../../api/queries/backends";
import type { Agent, Backend } from "../../api/types";
import { useNotices } from "../../components/notices";
import { RoleButton } from "../../components/role-button";
import { Section } from "../../components/section";
import { StateMark } from "../../components/state-mark";
import { counted } from "../../format/numbers";
import classes from "./pools.module.css";
import { agentName, backendName, stateOf } from "./seen";

interface Props {
  pool: string;
  backends: Backend[];
  agents: Agent[] | undefined;
}

/** More than these are a matter of the table below. */
const MOST = 12;

export function Draining({ pool, backends, agents }: Props) {
  const out = backends
    .map((backend) => ({
      backend,
      seen: backend.agents.filter((one) => ["drain", "maintenance"].includes(stateOf(one))),
    }))
    .filter(({ seen }) => seen.length > 0);
  if (out.length === 0) return null;
  return (
    <Section title="Out of use" aside={counted(out.length, "backend")}>
      <ul className={classes.draining}>
        {out.slice(0, MOST).map(({ backend, seen }) => {
          const left = seen.reduce((sum, one) => sum + one.in_flight, 0);
          const state = seen.some((one) => one.admin === "drain") ? "drain" : "maintenance";
          const [only] = seen;
          const where =
            seen.length === backend.agents.length
              ? "on all agents"
              : seen.length === 1 && only
                ? `on ${agentName(agents, only.agent)}`
                : `on ${seen.length} of ${backend.agents.length} agents`;
          return (
            <li key={backend.name}>
              <StateMark state={state} word />
              <span className="mono">{backendName(backend)}</span>
              <span className="dim">{where}</span>
              <span>
                {left === 0 ? "nothing remains" : `${counted(left, "connection")} remain`}
              </span>
              <BackButton pool={pool} backend={backend} />
            </li>
          );
        })}
        {out.length > MOST && <li className="dim">and {out.length - MOST} more, below</li>}
      </ul>
    </Section>
  );
}

/** Nothing ends by it, so it is done at once. */
function BackButton({ pool, backend }: { pool: string; backend: Backend }) {
  const { notify } = useNotices();
  const back = useMutation({
    mutationFn: () => sayBackendState(pool, backend.name, { state: "ready" }, { wait: true }),
    onSuccess: () => notify({ text: `${backendName(backend)} is ready.` }),
    onError: (error) => notify({ text: error.message, tone: "warning" }),
  });
  return (
    <RoleButton
      needs="operator"
      variant="default"
      size="compact-xs"
      loading={back.isPending}
      onClick={() => back.mutate()}
      aria-label={`Set ${backendName(backend)} ready`}
    >
      Set ready
    </RoleButton>
  );
}
