// Uploads a certificate, or replaces one: first a dry run says what is in it and who gets
// it, then it is done. The key leaves the page once, and is forgotten with the dialog.

import { Button, Modal, TextInput } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { isProblem, splitProblem } from "../../api/problem";
import { certificatesQuery, uploadCertificate } from "../../api/queries/certificates";
import type { Certificate } from "../../api/types";
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
  const [name, setName] = useState(replaces?.certificate.name ?? "");
  const [chain, setChain] = useState("");
  const [key, setKey] = useState("");
  const certificates = useQuery(certificatesQuery);
  const { notify } = useNotices();
  const now = useNow();
  const before = replaces?.certificate ?? certificates.data?.find((one) => one.name === name);
  const etag = replaces?.etag;
  const shown = useMutation({
    mutationFn: async () => {
      // Without a name, first what is in it: that suggests one.
      const commit = await uploadCertificate(name || "new", chain, key, { dryRun: true, etag });
      const suggested = name || suggestedName(commit.uploaded.dns_names);
      if (name !== "" || suggested === "") return commit;
      setName(suggested);
      return uploadCertificate(suggested, chain, key, { dryRun: true, etag });
    },
  });
  const done = useMutation({
    mutationFn: () => uploadCertificate(name, chain, key, { etag, wait: true }),
    onSuccess: (commit) => {
      setKey("");
      onClose();
      notify({
        text: commit.changed
          ? `${name} is uploaded. ${appliedWords(commit)}`
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
    shown.mutate();
  };
  return (
    <form className={classes.form} onSubmit={send} noValidate>
      {error && (wrong.rest.length > 0 || !isProblem(error, 422)) && (
        <ProblemAlert error={error} places={wrong.rest} focus />
      )}
      {!replaces && (
        <TextInput
          label="Name"
          description="What listeners call it."
          placeholder="its first DNS name"
          value={name}
          onChange={(event) => {
            setName(event.currentTarget.value);
            forget();
          }}
        />
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
            {replaces ? "Replace" : "Upload"}
          </Button>
        )}
      </div>
    </form>
  );
}
