// Whether the page follows the fleet, since when it does not, and the button that stops it.

import { useLive } from "../api/events";
import { Icon } from "../components/icons";
import { useNow } from "../components/use-now";
import { clock, duration } from "../format/durations";
import classes from "./live-badge.module.css";

/** Figures come every 5 s; one that is missing is no reason to worry yet. */
const OLD_MS = 15_000;

export function LiveBadge() {
  const { phase, knownAt, sampledAt, pause, resume } = useLive();
  const now = useNow();
  const age = knownAt === undefined ? undefined : Math.max(0, now - knownAt);
  const figures = sampledAt === undefined ? 0 : now - sampledAt;
  const paused = phase === "paused";
  return (
    <div className={classes.badge} data-phase={phase}>
      <span className={classes.dot} aria-hidden="true" />
      {/* Ages change every second, which nobody wants to hear: the phase alone is said. */}
      <span className="hidden" role="status">
        {SAID[phase]}
      </span>
      <span className={classes.words} aria-hidden="true">
        {phase === "live" && (figures > OLD_MS ? `live, figures ${aged(figures)} old` : "live")}
        {phase === "connecting" && "connecting"}
        {phase === "reconnecting" && `reconnecting${age === undefined ? "" : ` (${aged(age)})`}`}
        {paused && `paused${knownAt === undefined ? "" : ` at ${clock(knownAt)}`}`}
      </span>
      <button
        type="button"
        className={classes.toggle}
        onClick={paused ? resume : pause}
        aria-label={paused ? "Resume live updates" : "Pause live updates"}
        title={paused ? "Resume live updates" : "Pause live updates"}
      >
        <Icon name={paused ? "play" : "pause"} size={14} />
      </button>
    </div>
  );
}

const SAID = {
  live: "Live: this page follows the fleet.",
  connecting: "Connecting to the control plane.",
  reconnecting: "Reconnecting: what this page shows may be old.",
  paused: "Paused: this page does not change by itself.",
};

/** Whole seconds; `duration` says milliseconds below one. */
function aged(ms: number): string {
  return duration(Math.max(1_000, ms));
}
