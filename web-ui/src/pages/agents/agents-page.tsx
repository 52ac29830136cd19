import { PageHeader } from "../../components/page-header";

export default function AgentsPage() {
  return <PageHeader title="Agents" />;
}
