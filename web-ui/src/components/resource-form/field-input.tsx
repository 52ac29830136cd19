// One field of a resource's form.

import { NativeSelect, Switch, TextInput } from "@mantine/core";
import "@mantine/core/styles/Switch.layer.css";
import { useState } from "react";
import { type Field, meant, written } from "./fields";

interface Props {
  field: Field;
  value: unknown;
  error: string | undefined;
  onChange: (value: unknown) => void;
  /** The resource is there already. */
  exists: boolean;
}

export function FieldInput({ field, value, error, onChange, exists }: Props) {
  const { label, help, kind, required = false, fixed = false } = field;
  const common = {
    label,
    ...(help !== undefined && { description: help }),
    ...(error !== undefined && { error }),
    required,
    withAsterisk: false,
  };
  if (kind === "switch")
    return (
      <Switch
        label={label}
        description={help}
        error={error}
        checked={value === true}
        onChange={(event) => onChange(event.currentTarget.checked || undefined)}
      />
    );
  if (kind === "choice")
    return (
      <NativeSelect
        {...common}
        value={written(field, value)}
        data={[
          { value: "", label: field.placeholder ? `${field.placeholder} (default)` : "–" },
          ...(field.choices ?? []).map((choice) => ({ value: choice, label: choice })),
        ]}
        onChange={(event) => onChange(event.currentTarget.value || undefined)}
      />
    );
  return (
    <TypedInput
      common={common}
      field={field}
      value={value}
      onChange={onChange}
      readOnly={fixed && exists}
    />
  );
}

interface TypedProps {
  common: object;
  field: Field;
  value: unknown;
  onChange: (value: unknown) => void;
  readOnly: boolean;
}

/** What is typed stays as it was typed: `1,` is on its way to a list of two. */
function TypedInput({ common, field, value, onChange, readOnly }: TypedProps) {
  const [typed, setTyped] = useState<{ text: string; for: unknown }>();
  const text = typed && typed.for === value ? typed.text : written(field, value);
  return (
    <TextInput
      {...common}
      value={text}
      readOnly={readOnly}
      placeholder={field.placeholder}
      inputMode={field.kind === "number" ? "numeric" : "text"}
      spellCheck={false}
      autoComplete="off"
      onChange={(event) => {
        const next = event.currentTarget.value;
        const means = meant(field, next);
        setTyped({ text: next, for: means });
        onChange(means);
      }}
    />
  );
}
