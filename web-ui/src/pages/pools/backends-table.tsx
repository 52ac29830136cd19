// The backends of a pool, a row each, whatever the number of agents; what is done to those
// that are chosen, or to one.

import { Checkbox, Menu } from "@mantine/core";
import "@mantine/core/styles/Checkbox.layer.css";
import { useMemo, useState } from "react";
import { Link } from "react-router";
import type { AdminState, Agent, Backend } from "../../api/types";
import { Ago } from "../../components/ago";
import { type Column, DataTable } from "../../components/data-table";
import { EmptyState } from "../../components/empty-state";
import { Name } from "../../components/name";
import { RoleButton } from "../../components/role-button";
import { StateMark } from "../../components/state-mark";
import { count, counted, rate } from "../../format/numbers";
import { BackendForm } from "./backend-form";
import { KillDialog } from "./kill-dialog";
import classes from "./pools.module.css";
import { RemoveDialog } from "./remove-dialog";
import {
  backendName,
  connectRate,
  live,
  rank,
  stateCounts,
  tellingCheck,
  weightNow,
  worstState,
} from "./seen";
import { StateDialog } from "./state-dialog";

interface Props {
  pool: string;
  backends: Backend[];
  agents: Agent[] | undefined;
  /** The listener whose agents these are. */
  discover: string | undefined;
  onAdd: () => void;
}

type Open =
  | { what: "state"; state: AdminState; names: string[] }
  | { what: "kill" | "edit" | "remove"; name: string };

export function BackendsTable({ pool, backends, agents, discover, onAdd }: Props) {
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [open, setOpen] = useState<Open>();
  const close = () => setOpen(undefined);
  const there = useMemo(() => new Set(backends.map(({ name }) => name)), [backends]);
  const names = [...chosen].filter((name) => there.has(name));
  const columns = useMemo(() => makeColumns(chosen, setChosen, setOpen), [chosen]);
  const say = (state: AdminState) => setOpen({ what: "state", state, names });
  const nobody = names.length === 0;
  return (
    <>
      <div className={classes.inset}>
        <DataTable
          label="Backends"
          columns={columns}
          rows={backends}
          rowKey={({ name }) => name}
          filterText={(one) => `${one.name} ${one.address} ${worstState(one)}`}
          empty={
            <EmptyState
              title="No backend yet"
              action={
                discover === undefined ? (
                  <RoleButton needs="operator" onClick={onAdd}>
                    Add a backend
                  </RoleButton>
                ) : (
                  <Link to="/agents?add=terminator">Add an instance</Link>
                )
              }
            >
              {discover === undefined
                ? "Connections that come here are refused until there is one."
                : `Every agent that serves the listener ${discover} is one.`}
            </EmptyState>
          }
          controls={
            <div className={classes.bar}>
              <RoleButton
                needs="operator"
                variant="default"
                disabled={nobody}
                onClick={() => say("drain")}
              >
                Drain
              </RoleButton>
              <RoleButton
                needs="operator"
                variant="default"
                disabled={nobody}
                onClick={() => say("maintenance")}
              >
                Maintenance
              </RoleButton>
              <RoleButton
                needs="operator"
                variant="default"
                disabled={nobody}
                onClick={() => say("ready")}
              >
                Ready
              </RoleButton>
              <span className={classes.chosen} role="status">
                {nobody
                  ? "Choose backends to act on."
                  : `${counted(names.length, "backend")} chosen`}
              </span>
            </div>
          }
        />
      </div>
      {open?.what === "state" && (
        <StateDialog
          pool={pool}
          names={open.names}
          state={open.state}
          backends={backends}
          agents={agents}
          onClose={close}
        />
      )}
      {open?.what === "kill" && (
        <KillDialog pool={pool} name={open.name} backends={backends} onClose={close} />
      )}
      {open?.what === "remove" && (
        <RemoveDialog pool={pool} name={open.name} backends={backends} onClose={close} />
      )}
      {open?.what === "edit" && <BackendForm pool={pool} name={open.name} opened onClose={close} />}
    </>
  );
}

function makeColumns(
  chosen: ReadonlySet<string>,
  setChosen: (chosen: ReadonlySet<string>) => void,
  setOpen: (open: Open) => void,
): Column<Backend>[] {
  const choose = (name: string, is: boolean) => {
    const next = new Set(chosen);
    if (is) next.add(name);
    else next.delete(name);
    setChosen(next);
  };
  return [
    {
      id: "choose",
      title: "Chosen",
      width: "52px",
      cell: (backend) => (
        <Checkbox
          size="xs"
          aria-label={`Choose ${backendName(backend)}`}
          checked={chosen.has(backend.name)}
          onChange={(event) => choose(backend.name, event.currentTarget.checked)}
        />
      ),
    },
    {
      id: "backend",
      title: "Backend",
      width: "minmax(130px, 1.3fr)",
      sort: backendName,
      cell: (backend) => (
        <span className={classes.backend}>
          {backend.discovered ? (
            <Name to={`/agents/${backend.name}`}>{backend.address}</Name>
          ) : (
            <Name>{backend.name}</Name>
          )}
          {!backend.discovered && backend.name !== backend.address && (
            <small className="mono">{backend.address}</small>
          )}
        </span>
      ),
    },
    {
      id: "state",
      title: "State",
      width: "minmax(120px, 1fr)",
      sort: (backend) => rank(worstState(backend)),
      cell: (backend) => <States backend={backend} />,
    },
    {
      id: "check",
      title: "Last check",
      width: "minmax(130px, 1.2fr)",
      cell: (backend) => <LastCheck backend={backend} />,
    },
    {
      id: "live",
      title: "Live",
      numeric: true,
      width: "60px",
      sort: live,
      cell: (backend) => count(live(backend)),
    },
    {
      id: "rate",
      title: "Connects",
      numeric: true,
      width: "72px",
      sort: connectRate,
      cell: (backend) => rate(connectRate(backend)),
    },
    {
      id: "weight",
      title: "Weight",
      numeric: true,
      width: "72px",
      sort: (backend) => backend.weight ?? undefined,
      cell: (backend) => <Weight backend={backend} />,
    },
    {
      id: "actions",
      title: "Actions",
      width: "76px",
      cell: (backend) => <RowMenu backend={backend} setOpen={setOpen} />,
    },
  ];
}

function States({ backend }: { backend: Backend }) {
  const counts = stateCounts(backend.agents);
  if (counts.length === 0) return <StateMark state={worstState(backend)} word />;
  const [only] = counts;
  if (counts.length === 1 && only) return <StateMark state={only[0]} word />;
  return (
    <span className={classes.counts}>
      {counts.map(([state, agents]) => (
        <StateMark key={state} state={state} word={`${state.replace("_", " ")} on ${agents}`} />
      ))}
    </span>
  );
}

function LastCheck({ backend }: { backend: Backend }) {
  const check = tellingCheck(backend);
  if (!check) return <span className="dim">none yet</span>;
  return (
    <span className={classes.check}>
      {check.words || (check.passed ? "passed" : "failed")}
      <small>
        <Ago at={check.at} />
      </small>
    </span>
  );
}

function Weight({ backend }: { backend: Backend }) {
  const now = weightNow(backend);
  if (backend.weight == null) return <>{now ?? "–"}</>;
  if (now === undefined || now === String(backend.weight)) return <>{backend.weight}</>;
  return (
    <span title={`${now} now, of ${backend.weight} written`}>
      {now} of {backend.weight}
    </span>
  );
}

function RowMenu({ backend, setOpen }: { backend: Backend; setOpen: (open: Open) => void }) {
  const { name } = backend;
  const say = (state: AdminState) => () => setOpen({ what: "state", state, names: [name] });
  return (
    <Menu position="bottom-end" withinPortal shadow="none">
      <Menu.Target>
        <RoleButton
          needs="operator"
          variant="default"
          size="compact-xs"
          aria-label={`Act on ${backendName(backend)}`}
        >
          Act
        </RoleButton>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Item onClick={say("drain")}>Drain</Menu.Item>
        <Menu.Item onClick={say("maintenance")}>Maintenance</Menu.Item>
        <Menu.Item onClick={say("ready")}>Ready</Menu.Item>
        <Menu.Item onClick={() => setOpen({ what: "kill", name })}>Close connections</Menu.Item>
        {!backend.discovered && (
          <>
            <Menu.Item onClick={() => setOpen({ what: "edit", name })}>
              Edit weight and address
            </Menu.Item>
            <Menu.Item onClick={() => setOpen({ what: "remove", name })}>Remove</Menu.Item>
          </>
        )}
      </Menu.Dropdown>
    </Menu>
  );
}
