// All certificates: for which names, how long still, and who uses them.

import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "react-router";
import { certificatesQuery } from "../../api/queries/certificates";
import type { Certificate } from "../../api/types";
import { Ago } from "../../components/ago";
import { type Column, DataTable } from "../../components/data-table";
import { EmptyState } from "../../components/empty-state";
import { Name } from "../../components/name";
import { PageHeader } from "../../components/page-header";
import { QueryProblem } from "../../components/problem-alert";
import { RoleButton } from "../../components/role-button";
import { useQueryState } from "../../components/use-query-state";
import { counted } from "../../format/numbers";
import { DaysLeft } from "./days-left";
import { UploadDialog } from "./upload-dialog";

const COLUMNS: Column<Certificate>[] = [
  {
    id: "name",
    title: "Certificate",
    width: "minmax(130px, 1.2fr)",
    sort: (one) => one.name,
    cell: (one) => <Name to={`/certificates/${encodeURIComponent(one.name)}`}>{one.name}</Name>,
  },
  {
    id: "names",
    title: "DNS names",
    width: "minmax(140px, 1.4fr)",
    cell: (one) => <span className="mono">{one.dns_names.join(", ") || "none"}</span>,
  },
  {
    id: "left",
    title: "Left",
    width: "minmax(130px, 1fr)",
    sort: (one) => one.not_after,
    cell: (one) => <DaysLeft notBefore={one.not_before} notAfter={one.not_after} />,
  },
  {
    id: "used",
    title: "Used by",
    width: "minmax(100px, 1fr)",
    sort: (one) => one.used_by.length,
    cell: (one) => <UsedBy names={one.used_by} />,
  },
  {
    id: "held",
    title: "Key sent to",
    width: "minmax(90px, 0.8fr)",
    sort: (one) => one.held_by.length,
    cell: (one) => counted(one.held_by.length, "agent"),
  },
  {
    id: "uploaded",
    title: "Uploaded",
    numeric: true,
    width: "84px",
    sort: (one) => one.uploaded_at,
    cell: (one) => <Ago at={one.uploaded_at} />,
  },
];

export function UsedBy({ names }: { names: string[] }) {
  if (names.length === 0) return <span className="dim">no listener</span>;
  return (
    <span>
      {names.map((name, index) => (
        <span key={name}>
          {index > 0 && ", "}
          <Link to={`/listeners/${encodeURIComponent(name)}`}>{name}</Link>
        </span>
      ))}
    </span>
  );
}

export default function CertificatesPage() {
  const certificates = useQuery(certificatesQuery);
  const [adding, setAdding] = useQueryState<string>("add", "");
  const navigate = useNavigate();
  const add = (
    <RoleButton needs="operator" onClick={() => setAdding("yes")}>
      Upload a certificate
    </RoleButton>
  );
  return (
    <>
      <PageHeader
        title="Certificates"
        about="Chains to read. Their private keys are shown to nobody."
      >
        {certificates.data && certificates.data.length > 0 && add}
      </PageHeader>
      <QueryProblem query={certificates} what="The certificates could not be read." />
      {certificates.data && (
        <DataTable
          label="Certificates"
          columns={COLUMNS}
          rows={certificates.data}
          rowKey={(one) => one.name}
          filterText={(one) => `${one.name} ${one.dns_names.join(" ")} ${one.used_by.join(" ")}`}
          initialSort="left"
          empty={
            <EmptyState title="No certificate yet" action={add}>
              Terminators speak TLS with them. A listener names one, and only the agents that serve
              it get its key.
            </EmptyState>
          }
        />
      )}
      <UploadDialog
        opened={adding !== ""}
        onClose={() => setAdding("")}
        onDone={(name) => void navigate(`/certificates/${encodeURIComponent(name)}`)}
      />
    </>
  );
}
