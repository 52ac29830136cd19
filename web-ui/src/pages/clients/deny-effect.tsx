// What denying would do, in numbers, and the diff of the dry run.

import { DiffFields } from "../../components/diff-fields";
import { counted } from "../../format/numbers";
import classes from "./deny-dialog.module.css";
import type { DenyPreview } from "./deny-preview";

export function DenyEffect({ preview, cidr }: { preview: DenyPreview; cidr: string }) {
  const { hits, commit, endings, partial, listeners } = preview;
  const agents = new Set(hits.flatMap((hit) => hit.agents)).size;
  return (
    <div className={classes.effect}>
      <p className={classes.head}>
        <strong>
          {partial && "At least "}
          {counted(endings, "live connection")}
          {endings === 1 ? " ends" : " end"} now
        </strong>
        {agents > 0 && `, on ${counted(agents, "agent")}`}. New ones from{" "}
        <span className="mono">{cidr}</span> are refused on {counted(listeners.length, "listener")}.
      </p>
      {hits.length > 0 && (
        <div>
          Where they are:
          <ul className={classes.hits}>
            {hits.map((hit) => (
              <li key={hit.listener}>
                <span className="mono">{hit.listener}</span>:{" "}
                {counted(hit.connections, "connection")} of {counted(hit.clients, "client")} on{" "}
                {counted(hit.agents.length, "agent")}
              </li>
            ))}
          </ul>
          {hits.length > 1 && (
            <p className="dim">A connection is there on each listener that it passes.</p>
          )}
        </div>
      )}
      {commit.warnings?.map((warning) => (
        <p key={warning}>{warning}</p>
      ))}
      <details className={classes.details} open>
        <summary>What changes in the document</summary>
        <DiffFields diff={commit.diff} />
      </details>
    </div>
  );
}
