// When something was, as how long ago; the moment itself on demand.

import { ago, moment } from "../format/durations";
import { useNow } from "./use-now";

/** `at`: RFC 3339. */
export function Ago({ at }: { at: string }) {
  const now = useNow();
  const time = Date.parse(at);
  return (
    <time dateTime={at} title={moment(time)} className="num">
      {ago(time, now)}
    </time>
  );
}
