// Uploads a certificate, or replaces one: first a dry run says what is in it and who gets
// it, then it is done. The key leaves the page once, and is forgotten with the dialog.

import { Button, Modal, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { isProblem, splitProblem } from "../../api/problem";
import { uploadCertificate } from "../../api/queries/certificates";
import type { Certificate, UploadCommit } from "../../api/types";
import { useNotices } from "../../components/notices";
import { ProblemAlert } from "../../components/problem-alert";
import { appliedWords } from "../../components/resource-form/resource-form";
import { StateMark } from "../../components/state-mark";
import { useFocusReturn } from "../../components/use-focus-return";
import { useNow } from "../../components/use-now";
import classes from "./certificates.module.css";
import { ChainTable } from "./chain-table";
import { PemInput } from "./pem-input";
import { suggestedName, uploadFacts } from "./validity";

interface Props {
  opened: boolean;
  /** The one that is replaced. */
  replaces?: { certificate: Certificate; etag: string | undefined };
  onClose: () => void;
  onDone?: (name: string) => void;
}

export function UploadDialog(props: Props) {
  const { opened, replaces, onClose } = props;
  useFocusReturn(opened);
  return (
    <Modal
      opened={opened}
      onClose={onClose}
      title={replaces ? `Replace ${replaces.certificate.name}` : "Upload a certificate"}
      size="lg"
      closeButtonProps={{ "aria-label": "Close" }}
    >
      {opened && <Form {...props} />}
    </Modal>
  );
}

const FIELDS = ["/chain", "/private_key"];

function Form({ replaces, onClose, onDone }: Props) {
  const [written, setWritten] = useState<string>();
  const [chain, setChain] = useState("");
  const [key, setKey] = useState("");
  const { notify } = useNotices();
  const now = useNow();
  const before = replaces?.certificate;
  const shown = useMutation({
    mutationFn: ({ name }: { name: string }) =>
      uploadCertificate(name, chain, key, { dryRun: true, etag: replaces?.etag }),
  });
  const suggested = shown.data ? suggestedName(shown.data.uploaded.dns_names) : "";
  const name = before?.name ?? written ?? suggested;
  const done = useMutation({
    mutationFn: () => uploadCertificate(name, chain, key, { etag: replaces?.etag, wait: true }),
    onSuccess: (commit) => {
      setKey("");
      onClose();
      notify({
        text: commit.changed
          ? `${name} is uploaded. ${appliedOf(commit)}`
          : `${name} was here already.`,
      });
      onDone?.(name);
    },
  });
  const error = done.error ?? shown.error;
  const wrong = splitProblem(error, (pointer) => FIELDS.find((field) => pointer === field));
  const forget = () => {
    shown.reset();
    done.reset();
  };
  const send = (event: FormEvent) => {
    event.preventDefault();
    // Whatever it will be called: this looks at what is in it.
    shown.mutate({ name: name || "new" });
  };
  return (
    <form className={classes.form} onSubmit={send} noValidate>
      {error && (wrong.rest.length > 0 || !isProblem(error, 422)) && (
        <ProblemAlert error={error} places={wrong.rest} focus />
      )}
      <PemInput
        label="Chain"
        help="PEM: the leaf first, then the authorities between."
        value={chain}
        error={wrong.fields["/chain"]}
        onChange={(pem) => {
          setChain(pem);
          forget();
        }}
      />
      <PemInput
        label="Private key"
        help="PEM, not encrypted. It is sealed here and shown to nobody."
        secret
        value={key}
        error={wrong.fields["/private_key"]}
        onChange={(pem) => {
          setKey(pem);
          forget();
        }}
      />
      {shown.data && (
        <div className={classes.shown} aria-live="polite">
          {!before && (
            <TextInput
              label="Name"
              description="What listeners call it."
              value={name}
              onChange={(event) => setWritten(event.currentTarget.value)}
            />
          )}
          <ul className={classes.facts}>
            {uploadFacts(shown.data, before, before?.held_by.length ?? 0, now).map(
              ({ mark, text }) => (
                <li key={text}>
                  <StateMark state={mark} title="" />
                  <span>{text}</span>
                </li>
              ),
            )}
          </ul>
          <ChainTable links={shown.data.uploaded.links} />
        </div>
      )}
      <div className={classes.buttons}>
        <Button variant="default" onClick={onClose}>
          Cancel
        </Button>
        <Button
          type="submit"
          variant={shown.data ? "default" : "filled"}
          loading={shown.isPending}
          disabled={chain === "" || key === ""}
        >
          Show what changes
        </Button>
        {shown.data && (
          <Button
            loading={done.isPending}
            disabled={!shown.data.changed || name === ""}
            onClick={() => done.mutate()}
          >
            {before ? "Replace" : "Upload"}
          </Button>
        )}
      </div>
    </form>
  );
}

function appliedOf(commit: UploadCommit): string {
  return appliedWords(commit);
}
