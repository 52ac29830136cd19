// What a chain says, certificate by certificate.

import type { ChainLink } from "../../api/types";
import { moment } from "../../format/durations";
import classes from "./certificates.module.css";

export function ChainTable({ links }: { links: ChainLink[] }) {
  return (
    <ol className={classes.chain}>
      {links.map((link, index) => (
        <li key={link.serial}>
          <strong>{index === 0 ? "Leaf" : `Authority ${index}`}</strong>
          <dl>
            <dt>Subject</dt>
            <dd>{link.subject || "none"}</dd>
            <dt>Issuer</dt>
            <dd>{link.issuer === link.subject ? "itself" : link.issuer}</dd>
            <dt>Valid</dt>
            <dd className="num">
              {moment(Date.parse(link.not_before))} to {moment(Date.parse(link.not_after))}
            </dd>
            <dt>Key</dt>
            <dd>{link.key}</dd>
            <dt>Serial</dt>
            <dd className="mono">{link.serial}</dd>
          </dl>
        </li>
      ))}
    </ol>
  );
}
