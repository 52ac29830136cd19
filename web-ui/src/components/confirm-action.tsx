// A dialog that says in numbers what will happen, before it does it. What the numbers are
// read from is asked for when it opens and when a choice in it changes; a problem stands in
// the dialog, which closes only when the thing is done.

import { Button, Modal } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { isPassing, isProblem } from "../api/problem";
import classes from "./confirm-action.module.css";
import { ProblemAlert } from "./problem-alert";
import { useFocusReturn } from "./use-focus-return";

interface Props<Preview, Result> {
  opened: boolean;
  onClose: () => void;
  title: string;
  /** The button: the verb of the title. */
  label: string;
  danger?: boolean;
  /** Choices, above what they come to. */
  children?: ReactNode;
  /** What `read` depends on. */
  previewKey: readonly unknown[];
  read: (signal: AbortSignal) => Promise<Preview>;
  /** Whether the choices are complete: nothing is read and done before. */
  ready?: boolean;
  /** What will happen, in numbers. */
  describe: (preview: Preview) => ReactNode;
  /** Why it cannot be done as it stands; the button is disabled then. */
  blocked?: ((preview: Preview) => string | undefined) | undefined;
  act: (preview: Preview) => Promise<Result>;
  onDone: (result: Result, preview: Preview) => void;
  size?: string | number;
}

export function ConfirmAction<Preview, Result>(props: Props<Preview, Result>) {
  const { opened, onClose, title, label, danger = false, children, describe } = props;
  const ready = props.ready ?? true;
  useFocusReturn(opened);
  const preview = useQuery({
    queryKey: ["preview", title, ...props.previewKey],
    queryFn: ({ signal }) => props.read(signal),
    enabled: opened && ready,
    // What was true when it was last open says nothing now.
    staleTime: 0,
    gcTime: 0,
    retry: false,
  });
  const action = useMutation({
    mutationFn: (shown: Preview) => props.act(shown),
    onSuccess: (result, shown) => {
      onClose();
      props.onDone(result, shown);
    },
  });
  const close = () => {
    action.reset();
    onClose();
  };
  const again = () => {
    action.reset();
    void preview.refetch();
  };
  const shown = ready && preview.isSuccess && !preview.isFetching ? preview.data : undefined;
  const blocked = shown === undefined ? undefined : props.blocked?.(shown);
  const readAgain = isProblem(action.error, 412) || isPassing(action.error);
  return (
    <Modal
      opened={opened}
      onClose={close}
      title={title}
      size={props.size ?? "md"}
      returnFocus={false}
      closeButtonProps={{ "aria-label": "Close" }}
    >
      <div className={classes.body}>
        {children}
        <div className={classes.preview} aria-live="polite" aria-busy={preview.isFetching}>
          {ready && preview.data !== undefined && describe(preview.data)}
          {ready && preview.isPending && <p className="dim">Reading what this will do …</p>}
        </div>
        {preview.error && (
          <ProblemAlert
            error={preview.error}
            title="What this would do could not be read."
            onRetry={again}
          />
        )}
        {action.error && (
          <ProblemAlert error={action.error} focus {...(readAgain && { onRetry: again })} />
        )}
        {blocked && <p className={classes.blocked}>{blocked}</p>}
        <div className={classes.buttons}>
          <Button variant="default" onClick={close} {...(!children && { "data-autofocus": true })}>
            Cancel
          </Button>
          <Button
            {...(danger && { color: "down" })}
            loading={action.isPending}
            disabled={shown === undefined || blocked !== undefined}
            onClick={() => {
              if (shown !== undefined) action.mutate(shown);
            }}
          >
            {label}
          </Button>
        </div>
      </div>
    </Modal>
  );
}
