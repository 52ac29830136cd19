// PEM by file, dropped or chosen, or pasted. A key is taken out of the field at once: the
// page shows only that there is one.

import { Button, Textarea } from "@mantine/core";
import { type DragEvent, useId, useRef, useState } from "react";
import { bytes } from "../../format/bytes";
import classes from "./certificates.module.css";

interface Props {
  label: string;
  /** What is at hand. */
  value: string;
  onChange: (pem: string) => void;
  error?: string | undefined;
  help?: string;
  /** It is never shown. */
  secret?: boolean;
}

/** More is no PEM of a certificate or a key. */
const MOST_BYTES = 256 * 1024;

export function PemInput({ label, value, onChange, error, help, secret = false }: Props) {
  const file = useRef<HTMLInputElement>(null);
  const id = useId();
  const [tooLarge, setTooLarge] = useState(false);
  const read = async (chosen: File | null | undefined) => {
    if (!chosen) return;
    setTooLarge(chosen.size > MOST_BYTES);
    onChange(chosen.size > MOST_BYTES ? "" : await chosen.text());
    // The same file may be chosen again.
    if (file.current) file.current.value = "";
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    void read(event.dataTransfer.files[0]);
  };
  const taken = secret && value !== "";
  const wrong = tooLarge && value === "" ? "This file is too large to be PEM." : error;
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: dropping is a shortcut for the button below
    <div className={classes.pem} onDragOver={(event) => event.preventDefault()} onDrop={drop}>
      {taken ? (
        <Textarea
          id={id}
          label={label}
          readOnly
          autosize
          minRows={2}
          value={`A key of ${bytes(value.length)} is at hand. It is not shown.`}
          {...(wrong !== undefined && { error: wrong })}
        />
      ) : (
        <Textarea
          id={id}
          label={label}
          {...(help !== undefined && { description: help })}
          {...(wrong !== undefined && { error: wrong })}
          placeholder="-----BEGIN …"
          autosize
          minRows={secret ? 2 : 4}
          maxRows={8}
          spellCheck={false}
          autoComplete="off"
          value={value}
          onChange={(event) => onChange(event.currentTarget.value)}
        />
      )}
      <div className={classes.pemButtons}>
        <input
          ref={file}
          type="file"
          hidden
          aria-hidden="true"
          tabIndex={-1}
          data-testid={`file-${label}`}
          onChange={(event) => void read(event.currentTarget.files?.[0])}
        />
        <Button
          variant="default"
          size="compact-xs"
          onClick={() => file.current?.click()}
          aria-label={`Choose a file: ${label}`}
        >
          Choose a file
        </Button>
        {taken && (
          <Button
            variant="default"
            size="compact-xs"
            onClick={() => onChange("")}
            aria-label={`Clear: ${label}`}
          >
            Clear
          </Button>
        )}
      </div>
    </div>
  );
}
