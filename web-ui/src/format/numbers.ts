// Numbers as text. Always the same separators, whatever the browser's language, since all
// words around them are English.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** `1,204`. */
export function count(value: number): string {
  return whole.format(value);
}

/** `1,204 connections`, `1 connection`. */
export function counted(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** Three figures at most, for where room is small: `984`, `12.3k`, `4.56M`. */
export function compact(value: number): string {
  const size = Math.abs(value);
  if (size < 10) return trimmed(value, 1);
  if (size < 999.5) return whole.format(value);
  if (size < 999_500) return `${figures(value / 1e3)}k`;
  if (size < 999_500_000) return `${figures(value / 1e6)}M`;
  return `${figures(value / 1e9)}G`;
}

/** A rate a second: `0/s`, `0.4/s`, `12/s`, `3.41k/s`. */
export function rate(value: number): string {
  if (value > 0 && value < 0.05) return "<0.1/s";
  return `${compact(value)}/s`;
}

/** A part of one: `0%`, `<1%`, `43%`, `99%` and not 100% before it is all. */
export function percent(part: number): string {
  if (part <= 0) return "0%";
  if (part < 0.01) return "<1%";
  if (part < 1) return `${Math.min(99, Math.round(part * 100))}%`;
  return `${Math.round(part * 100)}%`;
}

function figures(value: number): string {
  const size = Math.abs(value);
  return trimmed(value, size < 10 ? 2 : size < 100 ? 1 : 0);
}

function trimmed(value: number, digits: number): string {
  return String(Number(value.toFixed(digits)));
}
