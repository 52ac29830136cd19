// A dialog that adds or edits one resource of the document: its common places as fields,
// all of it as JSON. First a dry run says what would change, then it is done. What the API
// finds wrong stands at the field concerned.

import { Button, Modal, Textarea } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, type ReactNode, useEffect, useState } from "react";
import type { Writing } from "../../api/client";
import { concerns } from "../../api/concerns";
import { isProblem } from "../../api/problem";
import type { Commit } from "../../api/types";
import { counted } from "../../format/numbers";
import { DiffFields } from "../diff-fields";
import { ProblemAlert } from "../problem-alert";
import { useFocusReturn } from "../use-focus-return";
import { FieldInput } from "./field-input";
import { type Field, problemOfFields, valueAt, withValue } from "./fields";
import classes from "./resource-form.module.css";

interface Props<Resource> {
  opened: boolean;
  onClose: () => void;
  title: string;
  fields: Field[];
  /** What it begins with. Read once, when the dialog opens. */
  initial: Resource;
  /** Of what was read; none where it is added. */
  etag?: string | undefined;
  put: (resource: Resource, how: Writing) => Promise<Commit>;
  onDone: (commit: Commit, resource: Resource) => void;
  /** Reads what is there now, after somebody else has changed it. */
  onReadAgain?: () => void;
  /** Above the fields. */
  children?: ReactNode;
}

export function ResourceForm<Resource extends object>(props: Props<Resource>) {
  const { opened, onClose, title } = props;
  useFocusReturn(opened);
  return (
    <Modal
      opened={opened}
      onClose={onClose}
      title={title}
      size="lg"
      closeButtonProps={{ "aria-label": "Close" }}
    >
      {opened && <Form {...props} />}
    </Modal>
  );
}

function Form<Resource extends object>(props: Props<Resource>) {
  const { fields, etag, put, onDone, onClose, onReadAgain, children } = props;
  const client = useQueryClient();
  const [resource, setResource] = useState(props.initial);
  const [text, setText] = useState<string>();
  const [unreadable, setUnreadable] = useState<string>();
  const shown = useMutation({
    mutationFn: (wanted: Resource) => put(wanted, { dryRun: true, etag }),
  });
  const done = useMutation({
    mutationFn: (wanted: Resource) => put(wanted, { etag, wait: true }),
    onSuccess: (commit, wanted) => {
      // The event of it comes within a second; what is done next needs the new ETag.
      void client.invalidateQueries({
        predicate: ({ queryKey }) =>
          concerns({ kind: "change", change: commit.change, revision: commit.revision }, queryKey),
      });
      onClose();
      onDone(commit, wanted);
    },
  });
  const change = (next: Resource) => {
    setResource(next);
    shown.reset();
    done.reset();
  };
  const error = done.error ?? shown.error;
  const wrong = problemOfFields(error, fields);
  useEffect(() => {
    if (Object.keys(wrong.fields).length > 0)
      document.querySelector<HTMLElement>("[data-resource-form] [aria-invalid='true']")?.focus();
  }, [wrong.fields]);

  const send = (event: FormEvent) => {
    event.preventDefault();
    if (unreadable === undefined) shown.mutate(resource);
  };
  const write = (next: string) => {
    setText(next);
    try {
      const read: unknown = JSON.parse(next);
      if (typeof read !== "object" || read === null || Array.isArray(read))
        return setUnreadable("A resource is an object: it begins with {.");
      setUnreadable(undefined);
      change(read as Resource);
    } catch (why) {
      setUnreadable(why instanceof Error ? why.message : String(why));
    }
  };
  return (
    <form className={classes.body} onSubmit={send} data-resource-form noValidate>
      {children}
      {error && (wrong.rest.length > 0 || !isProblem(error, 422)) && (
        <ProblemAlert
          error={error}
          places={wrong.rest}
          focus
          {...(isProblem(error, 412) && onReadAgain && { onRetry: onReadAgain })}
        />
      )}
      <div className={classes.fields}>
        {fields.map((field) => (
          <FieldInput
            key={field.pointer}
            field={field}
            value={valueAt(resource, field.pointer)}
            error={wrong.fields[field.pointer]}
            exists={etag !== undefined}
            onChange={(value) => {
              setText(undefined);
              setUnreadable(undefined);
              change(withValue(resource, field.pointer, value));
            }}
          />
        ))}
      </div>
      <details className={classes.whole}>
        <summary>All of it, as JSON</summary>
        <Textarea
          aria-label="All of it, as JSON"
          autosize
          minRows={6}
          maxRows={24}
          spellCheck={false}
          value={text ?? JSON.stringify(resource, null, 2)}
          error={unreadable}
          onChange={(event) => write(event.currentTarget.value)}
        />
      </details>
      {shown.data && <Preview commit={shown.data} />}
      <div className={classes.buttons}>
        <Button variant="default" onClick={onClose}>
          Cancel
        </Button>
        <Button
          type="submit"
          variant={shown.data ? "default" : "filled"}
          loading={shown.isPending}
          disabled={unreadable !== undefined}
        >
          Show what changes
        </Button>
        {shown.data && (
          <Button
            data-autofocus
            loading={done.isPending}
            disabled={!shown.data.changed || unreadable !== undefined}
            onClick={() => done.mutate(resource)}
          >
            Apply
          </Button>
        )}
      </div>
    </form>
  );
}

/** What a dry run answered. */
export function Preview({ commit }: { commit: Commit }) {
  return (
    <div className={classes.preview} aria-live="polite">
      <DiffFields diff={commit.diff} />
      {commit.changed && (
        <p className="dim">
          Makes revision {commit.revision}. No connection that is still allowed is closed.
        </p>
      )}
      {(commit.warnings?.length ?? 0) > 0 && (
        <ul className={classes.warnings}>
          {commit.warnings?.map((warning) => (
            <li key={warning}>{warning}</li>
          ))}
        </ul>
      )}
    </div>
  );
}

/** What came of it, in a sentence. */
export function appliedWords(commit: Commit): string {
  if (!commit.changed) return "Nothing has changed.";
  const { applied } = commit;
  if (!applied) return `Revision ${commit.revision}.`;
  const { failed, pending, offline } = applied;
  const others = [
    failed.length > 0 && `${counted(failed.length, "agent")} cannot run it`,
    pending.length > 0 &&
      `${counted(pending.length, "agent")} ${pending.length === 1 ? "has" : "have"} not answered`,
    offline.length > 0 && `${counted(offline.length, "agent")} offline`,
  ].filter((words) => words !== false);
  const runs = `Revision ${commit.revision} runs on ${counted(applied.applied.length, "agent")}`;
  return others.length === 0 ? `${runs}.` : `${runs}; ${others.join(", ")}.`;
}
