import { PageHeader } from "../../components/page-header";

export default function CertificatePage() {
  return <PageHeader title="Certificate" />;
}
