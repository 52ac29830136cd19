import { PageHeader } from "../../components/page-header";

export default function ListenerPage() {
  return <PageHeader title="Listener" />;
}
