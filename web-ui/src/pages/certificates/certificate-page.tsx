// One certificate: its chain, who uses it, who was sent its key; replaced and deleted.

import { Button } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useNavigate, useParams } from "react-router";
import { agentsQuery } from "../../api/queries/agents";
import {
  certificateQuery,
  certificatesQuery,
  deleteCertificate,
} from "../../api/queries/certificates";
import type { Certificate } from "../../api/types";
import { Ago } from "../../components/ago";
import { ConfirmAction } from "../../components/confirm-action";
import { CopyButton, Name } from "../../components/name";
import { useNotices } from "../../components/notices";
import { PageHeader } from "../../components/page-header";
import { QueryProblem } from "../../components/problem-alert";
import { RoleButton } from "../../components/role-button";
import { Facts, Section } from "../../components/section";
import { shortId } from "../../format/addresses";
import { counted } from "../../format/numbers";
import classes from "./certificates.module.css";
import { UsedBy } from "./certificates-page";
import { ChainTable } from "./chain-table";
import { DaysLeft } from "./days-left";
import { UploadDialog } from "./upload-dialog";

export default function CertificatePage() {
  const { name = "" } = useParams();
  const certificate = useQuery(certificateQuery(name));
  const shown = certificate.data?.value;
  return (
    <div className={classes.page}>
      <PageHeader
        title={name}
        heading={<Name copy>{name}</Name>}
        parent={{ title: "Certificates", to: "/certificates" }}
        about={shown && (shown.dns_names.join(", ") || "no DNS name")}
      >
        {certificate.data && (
          <Actions certificate={certificate.data.value} etag={certificate.data.etag} />
        )}
      </PageHeader>
      <QueryProblem query={certificate} what="The certificate could not be read." />
      {shown && (
        <>
          <Section title="In use">
            <Facts
              facts={[
                [
                  "Left",
                  <DaysLeft key="left" notBefore={shown.not_before} notAfter={shown.not_after} />,
                ],
                ["Used by", <UsedBy key="used" names={shown.used_by} />],
                ["Key sent to", <Holders key="held" ids={shown.held_by} />],
                [
                  "Uploaded",
                  <span key="uploaded">
                    <Ago at={shown.uploaded_at} /> by {shown.uploaded_by}
                  </span>,
                ],
              ]}
            />
          </Section>
          <Section title="Chain" aside={counted(shown.links?.length ?? 0, "certificate")}>
            <ChainTable links={shown.links ?? []} />
            <Pem certificate={shown} />
          </Section>
        </>
      )}
    </div>
  );
}

/** Few by address; of many the number is what matters. */
const NAMED = 8;

function Holders({ ids }: { ids: string[] }) {
  const agents = useQuery(agentsQuery);
  if (ids.length === 0) return <>nobody</>;
  if (ids.length > NAMED) return <>{counted(ids.length, "agent")}</>;
  return (
    <>
      {ids.map((id, index) => (
        <span key={id}>
          {index > 0 && ", "}
          <Link to={`/agents/${id}`}>
            {agents.data?.find((agent) => agent.id === id)?.address ?? shortId(id)}
          </Link>
        </span>
      ))}
    </>
  );
}

function Pem({ certificate }: { certificate: Certificate }) {
  const { name, chain, fingerprint } = certificate;
  if (chain == null) return null;
  const save = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([chain], { type: "application/x-pem-file" }));
    link.download = `${name}.pem`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  return (
    <>
      <div className={classes.pemHead}>
        <h3>PEM</h3>
        <CopyButton text={chain} what="the chain" />
        <Button variant="default" size="compact-xs" onClick={save}>
          Download
        </Button>
        <span className="dim">
          SHA-256 <span className="mono">{fingerprint.slice(0, 16)}…</span>
        </span>
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls is reached by keyboard */}
      <section className={classes.pemText} tabIndex={0} aria-label="The chain in PEM">
        <pre>{chain}</pre>
      </section>
    </>
  );
}

function Actions({ certificate, etag }: { certificate: Certificate; etag: string | undefined }) {
  const [open, setOpen] = useState<"replace" | "delete">();
  const { notify } = useNotices();
  const client = useQueryClient();
  const navigate = useNavigate();
  const { name, used_by } = certificate;
  const close = () => setOpen(undefined);
  return (
    <>
      <RoleButton needs="operator" onClick={() => setOpen("replace")}>
        Replace
      </RoleButton>
      <RoleButton needs="operator" variant="default" onClick={() => setOpen("delete")}>
        Delete
      </RoleButton>
      <UploadDialog opened={open === "replace"} replaces={{ certificate, etag }} onClose={close} />
      <ConfirmAction
        opened={open === "delete"}
        onClose={close}
        title={`Delete ${name}`}
        label="Delete"
        danger
        previewKey={[name, etag]}
        read={() =>
          used_by.length > 0
            ? Promise.resolve(null)
            : deleteCertificate(name, { dryRun: true, etag })
        }
        describe={() => (
          <p>
            {used_by.length > 0
              ? `It is used by ${counted(used_by.length, "listener")}.`
              : "No listener uses it. Its chain, its key and all its versions are deleted; no connection is closed."}
          </p>
        )}
        blocked={() =>
          used_by.length > 0 ? `Take it out of ${used_by.join(", ")} first.` : undefined
        }
        act={() => deleteCertificate(name, { etag, wait: true })}
        onDone={() => {
          notify({ text: `${name} is deleted.` });
          client.removeQueries({ queryKey: certificateQuery(name).queryKey });
          void client.invalidateQueries({ queryKey: certificatesQuery.queryKey });
          void navigate("/certificates");
        }}
      />
    </>
  );
}
