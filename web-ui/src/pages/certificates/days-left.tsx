import { StateMark, stateColor } from "../../components/state-mark";
import { useNow } from "../../components/use-now";
import { moment } from "../../format/durations";
import classes from "./certificates.module.css";
import { leftWords, validityState } from "./validity";

interface Props {
  notBefore: string;
  notAfter: string;
}

/** What is left of a certificate's life, in words and as a bar. */
export function DaysLeft({ notBefore, notAfter }: Props) {
  const now = useNow();
  const state = validityState(notAfter, now);
  const [from, to] = [Date.parse(notBefore), Date.parse(notAfter)];
  const share = Math.max(0, Math.min(1, (to - now) / Math.max(1, to - from)));
  return (
    <span className={classes.left} title={`until ${moment(to)}`}>
      <StateMark state={state} word={leftWords(notAfter, now)} />
      <span className={classes.bar} aria-hidden="true">
        <span style={{ width: `${share * 100}%`, background: stateColor(state) }} />
      </span>
    </span>
  );
}
