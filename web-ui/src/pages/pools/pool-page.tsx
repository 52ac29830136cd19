import { PageHeader } from "../../components/page-header";

export default function PoolPage() {
  return <PageHeader title="Pool" />;
}
