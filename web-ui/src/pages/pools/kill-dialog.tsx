// Closes the live connections of a backend, now.

import { useQueryClient } from "@tanstack/react-query";
import { backendStateQuery, killConnections } from "../../api/queries/backends";
import type { Backend } from "../../api/types";
import { ConfirmAction } from "../../components/confirm-action";
import { useNotices } from "../../components/notices";
import { StateMark } from "../../components/state-mark";
import { counted } from "../../format/numbers";
import classes from "./pools.module.css";
import { backendName } from "./seen";
import { connectionsOf } from "./state-facts";

interface Props {
  pool: string;
  name: string;
  backends: Backend[];
  onClose: () => void;
}

export function KillDialog({ pool, name, backends, onClose }: Props) {
  const { notify } = useNotices();
  const client = useQueryClient();
  const backend = backends.find((one) => one.name === name);
  const shown = backend ? backendName(backend) : name;
  const out = backend?.agents.every((seen) => seen.admin !== "ready") ?? false;
  return (
    <ConfirmAction
      opened
      onClose={onClose}
      title={`Close connections: ${shown}`}
      label="Close connections"
      danger
      previewKey={[pool, name]}
      read={() => client.fetchQuery({ ...backendStateQuery(pool, name), staleTime: 0 })}
      describe={({ value }) => {
        const { connections, agents } = connectionsOf([value.remaining], "");
        return (
          <ul className={classes.facts}>
            <li>
              <StateMark state="down" title="" />
              <span>
                {counted(connections, "live connection")} on {counted(agents, "agent")}{" "}
                {connections === 1 ? "is" : "are"} closed at once.
              </span>
            </li>
            <li>
              <StateMark state={out ? "drain" : "up"} title="" />
              <span>
                {out
                  ? "It is out of use: it gets no new ones."
                  : "It stays in use: clients that come back may get it again. Drain it first to keep them away."}
              </span>
            </li>
          </ul>
        );
      }}
      act={() => killConnections(pool, name)}
      onDone={(killed) => {
        const silent = killed.agents.filter((agent) => !agent.done).length;
        notify({
          text: `${counted(killed.connections, "connection")} of ${shown} closed by ${counted(killed.told, "agent")}${silent > 0 ? `; ${silent} has not answered` : ""}.`,
          ...(silent > 0 && { tone: "warning" as const }),
        });
      }}
    />
  );
}
