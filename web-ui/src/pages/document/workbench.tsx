// The editor and what stands around it: what is typed, what it would change, what came of it.

import { Button } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useEffect, useMemo, useRef, useState } from "react";
import type { Read } from "../../api/client";
import { ApiProblem, isProblem } from "../../api/problem";
import { certificatesQuery } from "../../api/queries/certificates";
import { applyText } from "../../api/queries/config";
import { useForbidden } from "../../api/session";
import type { Commit } from "../../api/types";
import { useNotices } from "../../components/notices";
import { ProblemAlert } from "../../components/problem-alert";
import { appliedWords, Preview } from "../../components/resource-form/resource-form";
import { RoleButton } from "../../components/role-button";
import { Section } from "../../components/section";
import { StateMark } from "../../components/state-mark";
import { TextDiff } from "../../components/text-diff/text-diff";
import { counted } from "../../format/numbers";
import { AppliedOn } from "./applied-on";
import classes from "./document.module.css";
import { type Draft, keepDraft, keptDraft } from "./draft";
import { example, type Mark, marksOf, merged, syntaxMistakes } from "./places";

const Editor = lazy(() => import("./editor"));

interface Props {
  read: Read<string>;
  readAgain: () => Promise<{ data?: Read<string> | undefined }>;
}

/** Nothing is written yet: what the control plane answers then. */
function isEmpty(text: string): boolean {
  return text.trim() === "" || text.trim() === "{}";
}

export function Workbench({ read, readAgain }: Props) {
  const [draft, setDraft] = useState<Draft>(
    () => keptDraft() ?? { base: read.value, etag: read.etag, text: read.value },
  );
  const [goTo, setGoTo] = useState<{ line: number }>();
  const certificates = useQuery(certificatesQuery);
  const forbidden = useForbidden("operator");
  const { notify } = useNotices();
  const file = useRef<HTMLInputElement>(null);
  const { base, etag, text } = draft;
  const typed = text !== base;

  const tried = useMutation({
    mutationFn: (tested: string) => applyText(tested, { dryRun: true, etag }),
  });
  const applied = useMutation({
    mutationFn: (wanted: string) => applyText(wanted, { etag, wait: true }),
    onSuccess: async (commit) => {
      notify({ text: appliedWords(commit) });
      tried.reset();
      const { data } = await readAgain();
      if (data) become({ base: data.value, etag: data.etag, text: data.value });
    },
  });
  const become = (next: Draft) => {
    setDraft(next);
    keepDraft(next);
  };
  const change = (next: string) => {
    if (next === text) return;
    become({ ...draft, text: next });
    tried.reset();
    applied.reset();
  };
  // What others applied is shown at once where nothing was typed on top of it.
  useEffect(() => {
    if (!typed && read.etag !== etag) {
      const next = { base: read.value, etag: read.etag, text: read.value };
      setDraft(next);
      keepDraft(next);
    }
  }, [typed, read, etag]);
  useEffect(() => {
    if (!typed) return;
    const ask = (event: BeforeUnloadEvent) => event.preventDefault();
    window.addEventListener("beforeunload", ask);
    return () => window.removeEventListener("beforeunload", ask);
  }, [typed]);

  const error = applied.error ?? tried.error;
  const marks = useMemo(() => marksOfError(error, text), [error, text]);
  const lines = useMemo(() => marks.map(({ line }) => line), [marks]);
  const stale = typed && read.etag !== etag;
  const merge = () => {
    const both = merged(base, text, read.value);
    if (both === undefined) {
      notify({
        text: "Both touch the same lines: nothing was merged. Compare below, and choose.",
        tone: "warning",
      });
      return;
    }
    become({ base: read.value, etag: read.etag, text: both });
    tried.reset();
    applied.reset();
    notify({ text: "Merged: yours on top of theirs. Try it before you apply it." });
  };
  return (
    <>
      {isEmpty(base) && !typed && (
        <div className={classes.bar}>
          <span>Nothing is written yet.</span>
          <Button onClick={() => change(example(certificates.data?.map(({ name }) => name) ?? []))}>
            Begin with an example
          </Button>
        </div>
      )}
      {stale && (
        <Section title="Somebody has changed the document since you began">
          <div className={classes.bar}>
            <Button onClick={merge}>Merge theirs into yours</Button>
            <Button
              variant="default"
              onClick={() => become({ base: read.value, etag: read.etag, text: read.value })}
            >
              Take theirs, drop yours
            </Button>
          </div>
          <TextDiff before={text} after={read.value} names={["yours", "theirs"]} />
        </Section>
      )}
      <Suspense fallback={<p className="dim">The editor is loading …</p>}>
        <Editor
          value={text}
          onChange={change}
          // What is typed while it is applied would be on top of nothing.
          readOnly={forbidden !== undefined || applied.isPending}
          lines={lines}
          goTo={goTo}
        />
      </Suspense>
      <div className={classes.bar}>
        <RoleButton
          needs="operator"
          variant={tried.data ? "default" : "filled"}
          loading={tried.isPending}
          disabled={!typed || stale}
          onClick={() => tried.mutate(text)}
        >
          Show what changes
        </RoleButton>
        {tried.data && (
          <RoleButton
            needs="operator"
            loading={applied.isPending}
            disabled={!tried.data.changed}
            onClick={() => applied.mutate(text)}
          >
            Apply
          </RoleButton>
        )}
        {typed && (
          <Button
            variant="default"
            onClick={() => become({ base: read.value, etag: read.etag, text: read.value })}
          >
            Drop what was typed
          </Button>
        )}
        <Button variant="default" onClick={() => save(text)}>
          Download
        </Button>
        <input
          ref={file}
          type="file"
          hidden
          aria-hidden="true"
          tabIndex={-1}
          accept=".yaml,.yml,.json"
          data-testid="file-document"
          onChange={(event) => {
            void event.currentTarget.files?.[0]?.text().then(change);
            event.currentTarget.value = "";
          }}
        />
        <RoleButton needs="operator" variant="default" onClick={() => file.current?.click()}>
          Open a file
        </RoleButton>
        <span className={classes.hint}>
          Tab leaves the editor. Ctrl-F searches. What is typed survives a reload.
        </span>
      </div>
      {error && marks.length === 0 && (
        <ProblemAlert
          error={error}
          focus
          {...(isProblem(error, 412) && { onRetry: () => void readAgain() })}
        />
      )}
      {marks.length > 0 && <Mistakes marks={marks} onGo={(line) => setGoTo({ line })} />}
      {tried.data && <WouldChange commit={tried.data} base={base} text={text} />}
      {applied.data && <AppliedOn commit={applied.data} />}
    </>
  );
}

/** Where the API's mistakes are, or why the text is none that it can read. */
function marksOfError(error: unknown, text: string): Mark[] {
  if (!(error instanceof ApiProblem)) return [];
  const places = error.problem.errors ?? [];
  if (places.length > 0) return marksOf(text, places);
  return isProblem(error, 400) ? syntaxMistakes(text) : [];
}

function Mistakes({ marks, onGo }: { marks: Mark[]; onGo: (line: number) => void }) {
  return (
    <Section title={`${counted(marks.length, "mistake")}, and nothing was changed`}>
      <ul className={classes.mistakes} aria-live="polite">
        {marks.map(({ line, pointer, message }) => (
          <li key={`${pointer} ${message}`}>
            <button type="button" onClick={() => onGo(line)}>
              <StateMark state="failed" title="" />
              <span>line {line}</span>
              <span>
                {message} {pointer && <code>{pointer}</code>}
              </span>
            </button>
          </li>
        ))}
      </ul>
    </Section>
  );
}

function WouldChange({ commit, base, text }: { commit: Commit; base: string; text: string }) {
  return (
    <Section title="What changes" aside={counted(commit.diff.length, "resource")}>
      <Preview commit={commit} />
      {commit.changed && (
        <div style={{ marginTop: 12 }}>
          <TextDiff before={base} after={text} names={["now", "what was typed"]} />
        </div>
      )}
    </Section>
  );
}

function save(text: string) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/yaml" }));
  link.download = "tidegate.yaml";
  link.click();
  URL.revokeObjectURL(link.href);
}
