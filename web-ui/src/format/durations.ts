// Lengths of time and moments as text.

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** The two greatest units that are not zero: `12 s`, `3 min 5 s`, `2 d 4 h`. */
export function duration(ms: number): string {
  if (ms < SECOND) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = Math.floor(ms / SECOND);
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3_600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([amount]) => amount > 0);
  return parts
    .slice(first, first + 2)
    .filter(([amount]) => amount > 0)
    .map(([amount, unit]) => `${amount} ${unit}`)
    .join(" ");
}

/** One unit, as in a list: `now`, `12 s ago`, `3 min ago`, `in 2 d`. */
export function ago(at: number, now: number): string {
  const past = now - at;
  const size = Math.abs(past);
  if (size < 2 * SECOND) return "now";
  const words = oneUnit(size);
  return past > 0 ? `${words} ago` : `in ${words}`;
}

function oneUnit(ms: number): string {
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min`;
  if (ms < 2 * DAY) return `${Math.floor(ms / HOUR)} h`;
  return `${Math.floor(ms / DAY)} d`;
}

/** Whole days until then, down: 0 = within a day, negative = over. */
export function daysUntil(at: number, now: number): number {
  return Math.floor((at - now) / DAY);
}

/** `2026-11-29 04:38:27`, in the reader's time zone. */
export function moment(at: number): string {
  const date = new Date(at);
  const two = (value: number) => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** `04:38:27`, in the reader's time zone. */
export function clock(at: number): string {
  return moment(at).slice(11);
}
