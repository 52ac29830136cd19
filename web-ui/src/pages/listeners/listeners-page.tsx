import { PageHeader } from "../../components/page-header";

export default function ListenersPage() {
  return <PageHeader title="Listeners" />;
}
