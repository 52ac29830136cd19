import { Link, useLocation } from "react-router";
import { EmptyState } from "../components/empty-state";
import { PageHeader } from "../components/page-header";

export function NotFound() {
  const { pathname } = useLocation();
  return (
    <>
      <PageHeader title="No such page" />
      <EmptyState title="Nothing is here" action={<Link to="/">Go to the overview</Link>}>
        <span className="mono">{pathname}</span> leads nowhere in this dashboard.
      </EmptyState>
    </>
  );
}
