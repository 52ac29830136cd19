import { PageHeader } from "../../components/page-header";

export default function DocumentPage() {
  return <PageHeader title="Document" />;
}
