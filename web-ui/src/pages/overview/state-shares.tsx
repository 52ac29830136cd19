// How many are in which state: a mark for each while they are few, else a bar; always the
// numbers as words.

import { StateMark, type StateName, stateColor, stateWord } from "../../components/state-mark";
import { count } from "../../format/numbers";
import { barWidths, MARKS_AT_MOST, type Share, total } from "./shares";
import classes from "./state-shares.module.css";

/** More marks than that stand above the words. */
const BESIDE_WORDS = 12;

interface Props {
  shares: Share[];
  /** What there is none of. */
  none: string;
}

export function StateShares({ shares, none }: Props) {
  const all = total(shares);
  if (all === 0) return <span className={classes.none}>{none}</span>;
  const widths = barWidths(shares);
  return (
    <div className={classes.shares} data-stacked={all > BESIDE_WORDS}>
      {all <= MARKS_AT_MOST ? (
        <span className={classes.marks} aria-hidden="true">
          {marksOf(shares).map(({ key, state }) => (
            <StateMark key={key} state={state} size={all > BESIDE_WORDS ? 8 : 9} />
          ))}
        </span>
      ) : (
        <span className={classes.bar} aria-hidden="true">
          {shares.map(({ state }, index) => (
            <span
              key={state}
              style={{ width: `${widths[index]}%`, background: stateColor(state) }}
            />
          ))}
        </span>
      )}
      <span className={classes.words} title={sharesInWords(shares)}>
        {sharesInWords(shares)}
      </span>
    </div>
  );
}

function marksOf(shares: Share[]): { key: string; state: StateName }[] {
  return shares.flatMap(({ state, count: many }) =>
    Array.from({ length: many }, (_, index) => ({ key: `${state} ${index}`, state })),
  );
}

/** `1 down, 2 up`. */
export function sharesInWords(shares: Share[]): string {
  return shares
    .map(({ state, count: many, word }) => `${count(many)} ${word ?? stateWord(state)}`)
    .join(", ");
}
