// Says that a client was denied, and takes it back: a roll-back to the revision before, shown
// as what it would change before it is done.

import { Button } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { rollBack } from "../../api/queries/revisions";
import type { Commit } from "../../api/types";
import { ConfirmAction } from "../../components/confirm-action";
import { DiffFields } from "../../components/diff-fields";
import { useNotices } from "../../components/notices";
import { StateMark } from "../../components/state-mark";
import { counted } from "../../format/numbers";
import classes from "./client-page.module.css";
import { isReverse } from "./deny-plan";

interface Props {
  commit: Commit;
  cidr: string;
  onUndone: () => void;
}

export function DeniedNotice({ commit, cidr, onUndone }: Props) {
  const [opened, setOpened] = useState(false);
  const queries = useQueryClient();
  const { notify } = useNotices();
  const before = commit.revision - 1;
  const { applied } = commit;
  return (
    <div className={classes.denied} role="status">
      <StateMark state="up" title="Done" />
      <p>
        <strong>
          <span className="mono">{cidr}</span> is denied since revision {commit.revision}.
        </strong>{" "}
        {applied && `${counted(applied.applied.length, "agent")} run it.`}
        {applied &&
          applied.failed.length > 0 &&
          ` ${counted(applied.failed.length, "agent")} cannot.`}
        {applied &&
          applied.offline.length > 0 &&
          ` ${applied.offline.length} follow when they are back.`}
      </p>
      <Button variant="default" onClick={() => setOpened(true)}>
        Undo
      </Button>
      <ConfirmAction
        opened={opened}
        onClose={() => setOpened(false)}
        title={`Roll back to revision ${before}`}
        label="Roll back"
        size={620}
        previewKey={[before]}
        read={() => rollBack(before, { dryRun: true })}
        describe={({ diff }) => (
          <>
            <p>
              A new revision gets the content of revision {before}.{" "}
              {isReverse(diff, commit.diff)
                ? "Only this is undone; 0 live connections are closed by it."
                : "The document was changed again since then: that goes back, too."}
            </p>
            <DiffFields diff={diff} />
          </>
        )}
        act={() => rollBack(before, { wait: true })}
        onDone={({ revision }) => {
          notify({ text: `${cidr} is let in again since revision ${revision}.` });
          void queries.invalidateQueries();
          onUndone();
        }}
      />
    </div>
  );
}
