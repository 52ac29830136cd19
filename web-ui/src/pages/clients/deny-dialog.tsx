// "Deny this client": which policy, which network; what that ends now; then it is done.

import { Select, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Commit, Listener, Policy } from "../../api/types";
import { ConfirmAction } from "../../components/confirm-action";
import { networkOfClient } from "../../format/addresses";
import { networkFault, parseNetwork } from "../../format/networks";
import { counted } from "../../format/numbers";
import classes from "./deny-dialog.module.css";
import { DenyEffect } from "./deny-effect";
import { freeName, type Target } from "./deny-plan";
import { deny, readDeny } from "./deny-preview";
import { ListenerChoice } from "./listener-choice";

interface Props {
  client: string;
  listeners: Listener[];
  policies: Policy[];
  opened: boolean;
  onClose: () => void;
  onDone: (commit: Commit, cidr: string) => void;
}

/** No policy has it: names have no spaces. */
const NEW = "a new one";
const TYPING_MS = 400;

export function DenyDialog({ client, listeners, policies, opened, onClose, onDone }: Props) {
  const queries = useQueryClient();
  const [cidr, setCidr] = useState(networkOfClient(client));
  const [chosen, setChosen] = useState(() => mostUsed(listeners, policies) ?? NEW);
  const [name, setName] = useState(() => freeName(policies));
  const [on, setOn] = useState(() => listeners.filter((one) => !one.policy).map((one) => one.name));

  const network = parseNetwork(cidr);
  const fault = network ? networkFault(network) : "This is no network. Write it as 192.0.2.0/24.";
  const target: Target =
    chosen === NEW
      ? { kind: "new", policy: name.trim(), listeners: on }
      : { kind: "existing", policy: chosen };
  const incomplete = target.kind === "new" && (target.policy === "" || on.length === 0);
  const [asked] = useDebouncedValue(JSON.stringify({ cidr: cidr.trim(), target }), TYPING_MS);
  const current = asked === JSON.stringify({ cidr: cidr.trim(), target });
  const ready = network !== undefined && fault === undefined && !incomplete && current;

  return (
    <ConfirmAction
      opened={opened}
      onClose={onClose}
      title={`Deny ${client}`}
      label="Deny"
      danger
      size={620}
      previewKey={[asked]}
      ready={ready}
      read={() => {
        if (!network) throw new Error("there is no network");
        return readDeny(queries, client, network, cidr.trim(), target);
      }}
      describe={(preview) => <DenyEffect preview={preview} cidr={cidr.trim()} />}
      blocked={({ commit }) =>
        commit.changed ? undefined : "The policy denies this network already."
      }
      act={({ write }) => deny(write)}
      onDone={(commit) => onDone(commit, cidr.trim())}
    >
      <div className={classes.fields}>
        <TextInput
          label="Network"
          description="One address, or a network around it"
          value={cidr}
          onChange={(event) => setCidr(event.currentTarget.value)}
          error={fault}
          classNames={{ input: "mono" }}
          data-autofocus
          spellCheck={false}
        />
        <Select
          label="Policy"
          description="Refuses it on all its listeners"
          allowDeselect={false}
          value={chosen}
          onChange={(value) => setChosen(value ?? NEW)}
          data={[
            ...policies.map((policy) => ({
              value: policy.name,
              label: `${policy.name}, on ${counted(used(policy, listeners), "listener")}`,
            })),
            { value: NEW, label: "A new policy" },
          ]}
        />
      </div>
      {chosen === NEW && (
        <div className={classes.fields}>
          <TextInput
            label="Name of the new policy"
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
            error={name.trim() === "" && "It needs a name."}
            classNames={{ input: "mono" }}
          />
          <ListenerChoice listeners={listeners} chosen={on} onChange={setOn} />
        </div>
      )}
    </ConfirmAction>
  );
}

function used(policy: Policy, listeners: Listener[]): number {
  return listeners.filter((listener) => listener.policy === policy.name).length;
}

/** The policy that most listeners have: what it refuses is refused nearly everywhere. */
function mostUsed(listeners: Listener[], policies: Policy[]): string | undefined {
  return policies
    .map((policy) => ({ name: policy.name, used: used(policy, listeners) }))
    .filter((policy) => policy.used > 0)
    .sort((a, b) => b.used - a.used)[0]?.name;
}
