import { PageHeader } from "../../components/page-header";

export default function ClientPage() {
  return <PageHeader title="Client" />;
}
