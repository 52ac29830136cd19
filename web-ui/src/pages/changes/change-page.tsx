import { PageHeader } from "../../components/page-header";

export default function ChangePage() {
  return <PageHeader title="Change" />;
}
