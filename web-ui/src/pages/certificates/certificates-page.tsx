import { PageHeader } from "../../components/page-header";

export default function CertificatesPage() {
  return <PageHeader title="Certificates" />;
}
