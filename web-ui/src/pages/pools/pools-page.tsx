import { PageHeader } from "../../components/page-header";

export default function PoolsPage() {
  return <PageHeader title="Pools" />;
}
