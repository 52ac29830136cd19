import type { Listener } from "../../api/types";
import classes from "./deny-dialog.module.css";

interface Props {
  listeners: Listener[];
  chosen: string[];
  onChange: (chosen: string[]) => void;
}

/** A listener has one policy: those that have one already keep it, and say so. */
export function ListenerChoice({ listeners, chosen, onChange }: Props) {
  const toggle = (name: string, on: boolean) =>
    onChange(on ? [...chosen, name] : chosen.filter((one) => one !== name));
  return (
    <fieldset className={classes.listeners}>
      <legend>Listeners</legend>
      {listeners.map(({ name, policy }) => (
        <label key={name} className={classes.listener}>
          <input
            type="checkbox"
            checked={chosen.includes(name)}
            disabled={policy !== undefined}
            onChange={(event) => toggle(name, event.currentTarget.checked)}
          />
          <span>
            <span className="mono">{name}</span>
            {policy !== undefined && (
              <span className="dim">
                {" "}
                has <span className="mono">{policy}</span>: choose that one above
              </span>
            )}
          </span>
        </label>
      ))}
      {chosen.length === 0 && <p className="dim">A policy without a listener refuses nobody.</p>}
    </fieldset>
  );
}
