// The one place that draws health: by shape and colour, and its word for who sees neither.

import classes from "./state-mark.module.css";

export type StateName =
  | "up"
  | "serving"
  | "in_sync"
  | "down"
  | "failed"
  | "ejected"
  | "behind"
  | "warning"
  | "drain"
  | "maintenance"
  | "stale"
  | "offline"
  | "unknown";

type Shape = "disc" | "triangle" | "diamond" | "half" | "square" | "ring";

interface Look {
  shape: Shape;
  tone: "up" | "down" | "warn" | "drain" | "maintenance" | "unknown";
  word: string;
}

const LOOKS: Record<StateName, Look> = {
  up: { shape: "disc", tone: "up", word: "up" },
  serving: { shape: "disc", tone: "up", word: "serving" },
  in_sync: { shape: "disc", tone: "up", word: "in sync" },
  down: { shape: "triangle", tone: "down", word: "down" },
  failed: { shape: "triangle", tone: "down", word: "failed" },
  ejected: { shape: "diamond", tone: "warn", word: "ejected" },
  behind: { shape: "diamond", tone: "warn", word: "behind" },
  warning: { shape: "diamond", tone: "warn", word: "warning" },
  drain: { shape: "half", tone: "drain", word: "drain" },
  maintenance: { shape: "square", tone: "maintenance", word: "maintenance" },
  stale: { shape: "ring", tone: "unknown", word: "stale" },
  offline: { shape: "ring", tone: "unknown", word: "offline" },
  unknown: { shape: "ring", tone: "unknown", word: "unknown" },
};

export function stateWord(state: StateName): string {
  return LOOKS[state].word;
}

/** The CSS colour of a state, for bars and charts. */
export function stateColor(state: StateName): string {
  return `var(--${LOOKS[state].tone})`;
}

interface Props {
  state: StateName;
  /** Says more than the state's own word: "terminator-a: down, connection refused"; empty where
   * the words beside it say all. */
  title?: string;
  /** Writes the word beside the mark; the mark is then silent. */
  word?: boolean | string;
  size?: number;
}

export function StateMark({ state, title, word, size = 12 }: Props) {
  const look = LOOKS[state];
  const label = title ?? look.word;
  const mark = (
    <svg
      viewBox="0 0 12 12"
      width={size}
      height={size}
      className={classes.mark}
      data-tone={look.tone}
      {...(word || label === "" ? { "aria-hidden": true } : { role: "img", "aria-label": label })}
    >
      <title>{label}</title>
      <ShapeOf shape={look.shape} />
    </svg>
  );
  if (!word) return mark;
  return (
    <span className={classes.worded} data-tone={look.tone}>
      {mark}
      <span>{word === true ? look.word : word}</span>
    </span>
  );
}

function ShapeOf({ shape }: { shape: Shape }) {
  switch (shape) {
    case "disc":
      return <circle cx="6" cy="6" r="4.5" fill="currentColor" />;
    case "triangle":
      return <path d="M6 .8 11.6 11H.4Z" fill="currentColor" />;
    case "diamond":
      return <path d="M6 .4 11.6 6 6 11.6.4 6Z" fill="currentColor" />;
    case "half":
      return (
        <>
          <circle cx="6" cy="6" r="4.25" fill="none" stroke="currentColor" strokeWidth="1.5" />
          <path d="M6 1.75a4.25 4.25 0 0 1 0 8.5Z" fill="currentColor" />
        </>
      );
    case "square":
      return (
        <rect
          x="1.75"
          y="1.75"
          width="8.5"
          height="8.5"
          fill="none"
          stroke="currentColor"
          strokeWidth="1.75"
        />
      );
    case "ring":
      return (
        <circle
          cx="6"
          cy="6"
          r="4.5"
          fill="none"
          stroke="currentColor"
          strokeWidth="1.5"
          strokeDasharray="2.4 1.65"
        />
      );
  }
}
