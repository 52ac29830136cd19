import { PageHeader } from "../../components/page-header";

export default function ChangesPage() {
  return <PageHeader title="Changes" />;
}
