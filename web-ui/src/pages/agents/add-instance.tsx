// Adds an instance: makes a join token, gives the line to paste there, and waits until the
// agent is here and does what it should.

import { Button, Modal, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { Link } from "react-router";
import { splitProblem } from "../../api/problem";
import { joinTokensQuery, makeJoinToken } from "../../api/queries/agents";
import { listenersQuery } from "../../api/queries/listeners";
import { statusQuery } from "../../api/queries/overview";
import type { Agent, NewJoinToken, Role } from "../../api/types";
import { Choice } from "../../components/choice";
import { CopyButton } from "../../components/name";
import { ProblemAlert } from "../../components/problem-alert";
import { StateMark } from "../../components/state-mark";
import { useFocusReturn } from "../../components/use-focus-return";
import { counted } from "../../format/numbers";
import classes from "./agents.module.css";
import { arrival, joinLine, linkAddress, readLabels, suggestedLabels } from "./join";

interface Props {
  opened: boolean;
  /** The role it begins with. */
  begins: Role;
  agents: Agent[];
  onClose: () => void;
}

export function AddInstance({ opened, begins, agents, onClose }: Props) {
  const [made, setMade] = useState<NewJoinToken>();
  useFocusReturn(opened);
  const close = () => {
    // The token is shown once: what is closed is gone.
    setMade(undefined);
    onClose();
  };
  return (
    <Modal
      opened={opened}
      onClose={close}
      title="Add an instance"
      size="lg"
      // A click beside it would lose the token.
      closeOnClickOutside={made === undefined}
      closeButtonProps={{ "aria-label": "Close" }}
    >
      {made ? (
        <Arrival token={made} agents={agents} onClose={close} />
      ) : (
        <TokenForm begins={begins} onMade={setMade} onClose={close} />
      )}
    </Modal>
  );
}

const ROLES = [
  { value: "balancer", label: "Balancer: TCP, in front" },
  { value: "terminator", label: "Terminator: TLS, beside the app" },
] as const;

interface FormProps {
  begins: Role;
  onMade: (token: NewJoinToken) => void;
  onClose: () => void;
}

function TokenForm({ begins, onMade, onClose }: FormProps) {
  const listeners = useQuery(listenersQuery);
  const client = useQueryClient();
  const [role, setRole] = useState<Role>(begins);
  const suggested = suggestedLabels(listeners.data ?? [], role);
  const [written, setWritten] = useState<string>();
  const labels = written ?? suggested[0] ?? "";
  const [uses, setUses] = useState("1");
  const [expires, setExpires] = useState("1h");
  const read = readLabels(labels);
  const make = useMutation({
    mutationFn: () =>
      makeJoinToken({
        roles: [role],
        labels: read ?? {},
        uses: Number(uses),
        expires_in: expires.trim(),
      }),
    onSuccess: () => client.invalidateQueries({ queryKey: joinTokensQuery.queryKey }),
  });
  const wrong = splitProblem(make.error, (pointer) =>
    ["/labels", "/uses", "/expires_in"].find((field) => pointer.startsWith(field)),
  );
  const send = (event: FormEvent) => {
    event.preventDefault();
    // Who has closed the dialog meanwhile is shown no token.
    if (read !== undefined) make.mutate(undefined, { onSuccess: onMade });
  };
  return (
    <form className={classes.form} onSubmit={send}>
      {make.error && Object.keys(wrong.fields).length === 0 && (
        <ProblemAlert error={make.error} places={wrong.rest} focus />
      )}
      <Choice label="Role" value={role} onChange={setRole} choices={ROLES} />
      <div>
        <TextInput
          label="Labels"
          data-autofocus
          description="Which listeners it serves hangs on them, and so which keys it gets."
          placeholder="tier=edge, zone=a"
          value={labels}
          error={read === undefined ? "Write key=value, apart by commas." : wrong.fields["/labels"]}
          onChange={(event) => setWritten(event.currentTarget.value)}
        />
        {suggested.length > 1 && (
          <p className={classes.suggested}>
            Listeners select:
            {suggested.map((one) => (
              <Button key={one} variant="default" size="compact-xs" onClick={() => setWritten(one)}>
                {one}
              </Button>
            ))}
          </p>
        )}
      </div>
      <div className={classes.row}>
        <TextInput
          label="How many instances"
          inputMode="numeric"
          value={uses}
          error={wrong.fields["/uses"]}
          onChange={(event) => setUses(event.currentTarget.value)}
        />
        <TextInput
          label="The token expires in"
          value={expires}
          error={wrong.fields["/expires_in"]}
          onChange={(event) => setExpires(event.currentTarget.value)}
        />
      </div>
      <div className={classes.buttons}>
        <Button variant="default" onClick={onClose}>
          Cancel
        </Button>
        <Button type="submit" loading={make.isPending} disabled={read === undefined}>
          Make the line to paste
        </Button>
      </div>
    </form>
  );
}

interface ArrivalProps {
  token: NewJoinToken;
  agents: Agent[];
  onClose: () => void;
}

function Arrival({ token, agents, onClose }: ArrivalProps) {
  const status = useQuery(statusQuery);
  const guessed = linkAddress(window.location.hostname, status.data?.replicas[0]?.address);
  const [controlPlane, setControlPlane] = useState<string>();
  const [stateDir, setStateDir] = useState("/var/lib/tidegate-agent");
  const line = joinLine(token.token, controlPlane ?? guessed, stateDir);
  const arrived = agents.filter((agent) => agent.join_token === token.id);
  const steps = arrival(arrived.at(-1), token.uses, arrived.length);
  const all = steps.every(({ done }) => done) && arrived.length >= token.uses;
  return (
    <div className={classes.form}>
      <p>
        Put <code className="mono">tidegate-agent</code> on the machine, then paste this line there.
        The token is in it, is shown this once, and is good for {counted(token.uses, "instance")}.
      </p>
      <div className={classes.line}>
        <code data-testid="join-line">{line}</code>
        <CopyButton text={line} what="the line" />
      </div>
      <div className={classes.row}>
        <TextInput
          label="Control plane, as the machine reaches it"
          value={controlPlane ?? guessed}
          onChange={(event) => setControlPlane(event.currentTarget.value)}
        />
        <TextInput
          label="State directory"
          value={stateDir}
          onChange={(event) => setStateDir(event.currentTarget.value)}
        />
      </div>
      <ol className={classes.steps} aria-live="polite">
        {steps.map(({ title, done, about }) => (
          <li key={title}>
            <StateMark state={done ? "up" : "unknown"} title={done ? "done" : "not yet"} />
            <span>{title}</span>
            {about && <span className="dim">{about}</span>}
          </li>
        ))}
      </ol>
      {all && (
        <p role="status">
          It is here. Pools that discover its listener send traffic once its checks pass:{" "}
          <Link to="/" onClick={onClose}>
            see the fleet
          </Link>
          .
        </p>
      )}
      <div className={classes.buttons}>
        <Button variant={all ? "filled" : "default"} onClick={onClose}>
          {all ? "Done" : "Close"}
        </Button>
      </div>
    </div>
  );
}
