// One listener or pool in the fleet's picture, or the clients.

import { Link } from "react-router";
import type { Topology, TopologyListener, TopologyPool } from "../../api/types";
import { StateMark } from "../../components/state-mark";
import { byteRate } from "../../format/bytes";
import { compact, count, counted, rate } from "../../format/numbers";
import { type Part, poolTone } from "./fleet-graph";
import { PART_PX } from "./fleet-layout";
import classes from "./fleet-part.module.css";
import { agentShares, backendShares } from "./shares";
import { StateShares } from "./state-shares";

export function FleetPart({ part }: { part: Part }) {
  const height = PART_PX[part.kind];
  return (
    <div className={classes.part} style={{ height }} data-kind={part.kind}>
      {part.kind === "clients" && <ClientsPart clients={part.clients} />}
      {part.kind === "listener" && <ListenerPart listener={part.listener} />}
      {part.kind === "pool" && <PoolPart pool={part.pool} />}
    </div>
  );
}

function ClientsPart({ clients }: { clients: Topology["clients"] }) {
  return (
    <>
      <Link to="/clients?by=live" className={classes.plain}>
        <span className={classes.big}>{compact(clients.live)}</span>
        <span className={classes.figures}>live connections</span>
      </Link>
      <div className={classes.figures}>{byteRate(clients.byte_rate)}</div>
      <div className={classes.figures}>{rate(clients.accept_rate)} new</div>
    </>
  );
}

function ListenerPart({ listener }: { listener: TopologyListener }) {
  const { name, bind, pools } = listener;
  return (
    <>
      <div className={classes.head}>
        <Link to={`/listeners/${encodeURIComponent(name)}`} className={classes.name} title={name}>
          {name}
        </Link>
        <span className={classes.kind}>listener</span>
      </div>
      <StateShares shares={agentShares(listener)} none="no agents" />
      <div className={classes.figures}>
        <span className={classes.bind}>{bind}</span> · {compact(listener.live)} live ·{" "}
        {listener.role === "terminator"
          ? `${rate(listener.handshake_rate)} TLS`
          : byteRate(listener.byte_rate)}
        <span className={classes.entering}> · {rate(listener.accept_rate)} new</span>
      </div>
      {pools.length > 0 && <span className="hidden">Leads to {pools.join(", ")}.</span>}
    </>
  );
}

function PoolPart({ pool }: { pool: TopologyPool }) {
  return (
    <>
      <div className={classes.head}>
        <Link
          to={`/pools/${encodeURIComponent(pool.name)}`}
          className={classes.name}
          title={pool.name}
        >
          {pool.name}
        </Link>
        <span className={classes.kind}>pool</span>
      </div>
      <StateShares shares={backendShares(pool)} none="nothing seen yet" />
      <div className={classes.figures}>
        {poolTone(pool) === "ok" ? (
          <>
            {counted(pool.backends, "backend")} · {compact(pool.live)} live
            {pool.queued > 0 && ` · ${count(pool.queued)} queued`}
            <span className={classes.entering}> · {rate(pool.connect_rate)} new</span>
          </>
        ) : (
          <PoolTrouble pool={pool} />
        )}
      </div>
      {pool.discover && (
        <span className="hidden">Its backends are the agents of {pool.discover}.</span>
      )}
    </>
  );
}

function PoolTrouble({ pool: { serving } }: { pool: TopologyPool }) {
  if (serving.nobody > 0)
    return (
      <StateMark
        state="down"
        word={`nobody serves on ${counted(serving.nobody, "agent")}`}
        size={10}
      />
    );
  if (serving.fail_open > 0)
    return (
      <StateMark
        state="warning"
        word={`any is tried on ${counted(serving.fail_open, "agent")}`}
        size={10}
      />
    );
  return (
    <StateMark
      state="warning"
      word={`backups serve on ${counted(serving.backup, "agent")}`}
      size={10}
    />
  );
}
