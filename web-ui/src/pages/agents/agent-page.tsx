import { PageHeader } from "../../components/page-header";

export default function AgentPage() {
  return <PageHeader title="Agent" />;
}
