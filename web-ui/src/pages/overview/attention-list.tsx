// What needs attention, worst first: what is wrong, what to do, and the way there.

import { Button } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";
import { attentionQuery } from "../../api/queries/overview";
import type { AttentionItem, Severity } from "../../api/types";
import { Ago } from "../../components/ago";
import { QueryProblem } from "../../components/problem-alert";
import { Section } from "../../components/section";
import { StateMark, type StateName } from "../../components/state-mark";
import { count } from "../../format/numbers";
import classes from "./attention-list.module.css";
import { placeOf, subjectWord } from "./places";

const MARKS: Record<Severity, StateName> = {
  critical: "failed",
  warning: "warning",
  notice: "unknown",
};
const SHOWN = 8;

export function AttentionList() {
  const attention = useQuery(attentionQuery);
  const [all, setAll] = useState(false);
  const items = attention.data?.items ?? [];
  const total = attention.data?.total ?? 0;
  const shown = all ? items : items.slice(0, SHOWN);
  return (
    <Section
      title="Needs attention"
      aside={
        <span role="status">
          {attention.data && total === 0 && (
            <StateMark state="up" word="Nothing. All that should run runs." />
          )}
          {total > 0 && count(total)}
        </span>
      }
      flush={!attention.error}
    >
      <QueryProblem query={attention} what="What needs attention could not be read." />
      <ul className={classes.items}>
        {shown.map((item) => (
          <Item key={`${item.kind} ${item.subject.pool ?? ""} ${item.subject.name}`} item={item} />
        ))}
      </ul>
      {!all && items.length > SHOWN && (
        <div className={classes.more}>
          <Button variant="default" onClick={() => setAll(true)}>
            Show all {count(items.length)}
          </Button>
        </div>
      )}
      {all && total > items.length && (
        <p className={classes.more}>
          {count(total - items.length)} more are not in the list. Mend these first.
        </p>
      )}
    </Section>
  );
}

function Item({ item }: { item: AttentionItem }) {
  const place = placeOf(item.subject);
  return (
    <li className={classes.item}>
      <StateMark state={MARKS[item.severity]} title={item.severity} />
      <div className={classes.words}>
        <p>{place === undefined ? item.what : <Link to={place}>{item.what}</Link>}</p>
        <p className={classes.mend}>{item.mend}</p>
      </div>
      <div className={classes.when}>
        <span>{subjectWord(item.subject)}</span>
        {item.since && <Ago at={item.since} />}
      </div>
    </li>
  );
}
