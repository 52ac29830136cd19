// The whole document as text: typed, tried, compared, applied.

import { useQuery } from "@tanstack/react-query";
import { configTextQuery } from "../../api/queries/config";
import { PageHeader } from "../../components/page-header";
import { QueryProblem } from "../../components/problem-alert";
import classes from "./document.module.css";
import { Workbench } from "./workbench";

export default function DocumentPage() {
  const config = useQuery(configTextQuery);
  return (
    <div className={classes.page}>
      <PageHeader
        title="Document"
        about="All listeners, pools and policies in one text: what the fleet should do."
      />
      <QueryProblem query={config} what="The document could not be read." />
      {config.data && <Workbench read={config.data} readAgain={config.refetch} />}
    </div>
  );
}
