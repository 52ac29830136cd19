// Revoking and removing an agent: both say before what they take away.

import { TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useNavigate } from "react-router";
import { agentsQuery, removeAgent, revokeAgent } from "../../api/queries/agents";
import { topologyQuery } from "../../api/queries/overview";
import type { Agent } from "../../api/types";
import { ConfirmAction } from "../../components/confirm-action";
import { useNotices } from "../../components/notices";
import { appliedWords } from "../../components/resource-form/resource-form";
import { RoleButton } from "../../components/role-button";
import { StateMark } from "../../components/state-mark";
import { counted } from "../../format/numbers";
import { liveOn } from "./agent-state";
import classes from "./agents.module.css";

export function AgentWaysOut({ agent, etag }: { agent: Agent; etag: string | undefined }) {
  const [open, setOpen] = useState<"revoke" | "remove">();
  const [typed, setTyped] = useState("");
  const topology = useQuery(topologyQuery);
  const client = useQueryClient();
  const { notify } = useNotices();
  const navigate = useNavigate();
  const revoked = agent.revoked_at != null;
  const serves = new Set(agent.listeners.map(({ listener }) => listener));
  const pools = (topology.data?.pools ?? []).filter(
    ({ discover }) => discover != null && serves.has(discover),
  );
  const keys = new Set(agent.certificates_held.map(({ name }) => name));
  const close = () => {
    setOpen(undefined);
    setTyped("");
  };
  const facts = [
    `${counted(liveOn(agent), "live connection")} it serves end when it stops.`,
    pools.length === 0
      ? "No pool loses a backend."
      : `${pools.map(({ name }) => name).join(", ")} ${pools.length === 1 ? "loses" : "lose"} a backend.`,
    keys.size === 0
      ? "It was sent no private key."
      : `It was sent the keys of ${[...keys].join(", ")}: replace these certificates if the machine was taken.`,
    "It stays down for ever: to come back it has to join again.",
  ];
  return (
    <>
      {!revoked && (
        <RoleButton needs="operator" variant="default" onClick={() => setOpen("revoke")}>
          Revoke
        </RoleButton>
      )}
      <RoleButton needs="operator" variant="default" onClick={() => setOpen("remove")}>
        Remove
      </RoleButton>
      {open && (
        <ConfirmAction
          opened
          onClose={close}
          title={`${open === "revoke" ? "Revoke" : "Remove"} ${agent.address}`}
          label={open === "revoke" ? "Revoke" : "Remove"}
          danger
          previewKey={[agent.id, open]}
          read={() => Promise.resolve(facts)}
          describe={(shown) => (
            <ul className={classes.mistakes}>
              {(revoked ? ["It is revoked already: it leaves the list."] : shown).map((text) => (
                <li key={text}>
                  <StateMark state="warning" title="" /> {text}
                </li>
              ))}
            </ul>
          )}
          blocked={() =>
            typed === agent.address || revoked
              ? undefined
              : `Type ${agent.address} to say that you mean it.`
          }
          act={() =>
            open === "revoke"
              ? revokeAgent(agent.id, { etag, wait: true })
              : removeAgent(agent.id, { etag, wait: true })
          }
          onDone={(commit) => {
            notify({
              text: `${agent.address} is ${open === "revoke" ? "revoked" : "removed"}. ${appliedWords(commit)}`,
            });
            if (open === "remove") {
              client.removeQueries({ queryKey: ["agents", agent.id] });
              void client.invalidateQueries({ queryKey: agentsQuery.queryKey });
              void navigate("/agents");
            }
          }}
        >
          {!revoked && (
            <TextInput
              label="Address of the agent"
              data-autofocus
              autoComplete="off"
              value={typed}
              onChange={(event) => setTyped(event.currentTarget.value)}
            />
          )}
        </ConfirmAction>
      )}
    </>
  );
}
