// One of a few, all in sight: radio buttons that look like one control, and wrap where
// there is no room.

import { useId } from "react";
import classes from "./choice.module.css";

interface Props<T extends string> {
  label: string;
  choices: readonly { value: T; label: string }[];
  value: T;
  onChange: (value: T) => void;
  disabled?: boolean;
}

export function Choice<T extends string>({ label, choices, value, onChange, disabled }: Props<T>) {
  const name = useId();
  return (
    <fieldset className={classes.choice} disabled={disabled}>
      <legend className="hidden">{label}</legend>
      {choices.map((choice) => (
        <label key={choice.value} className={classes.option}>
          <input
            type="radio"
            name={name}
            value={choice.value}
            checked={choice.value === value}
            onChange={() => onChange(choice.value)}
          />
          <span>{choice.label}</span>
        </label>
      ))}
    </fieldset>
  );
}
