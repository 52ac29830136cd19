import { PageHeader } from "../../components/page-header";

export default function ClientsPage() {
  return <PageHeader title="Clients" />;
}
