// Light, dark, or what the system says.

import { useMantineColorScheme } from "@mantine/core";
import { Icon } from "../components/icons";
import classes from "./scheme-switch.module.css";

const SCHEMES = ["auto", "light", "dark"] as const;

export function SchemeSwitch() {
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <fieldset className={classes.switch}>
      <legend className="hidden">Colour scheme</legend>
      {SCHEMES.map((scheme) => (
        <button
          key={scheme}
          type="button"
          aria-label={scheme}
          title={scheme}
          aria-pressed={colorScheme === scheme}
          onClick={() => setColorScheme(scheme)}
        >
          <Icon name={scheme} size={14} />
        </button>
      ))}
    </fieldset>
  );
}
