import { TextInput } from "@mantine/core";
import { count } from "../format/numbers";
import classes from "./data-table.module.css";
import { Icon } from "./icons";

interface Props {
  label: string;
  value: string;
  onChange: (value: string) => void;
  found: number;
  of: number;
}

/** Every word has to be found; says how many rows remain. */
export function TableFilter({ label, value, onChange, found, of }: Props) {
  return (
    <>
      <TextInput
        type="search"
        aria-label={label}
        placeholder="Filter"
        size="xs"
        className={classes.filter ?? ""}
        leftSection={<Icon name="search" size={14} />}
        value={value}
        onChange={(event) => onChange(event.currentTarget.value)}
      />
      <span className={classes.found} role="status">
        {found === of ? count(of) : `${count(found)} of ${count(of)}`}
      </span>
    </>
  );
}
