// Amounts of bytes as text, in powers of a thousand, as networks count.

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** `0 B`, `812 B`, `1.2 MB`, `340 GB`. */
export function bytes(value: number): string {
  let size = Math.abs(value);
  let unit = 0;
  while (size >= 999.5 && unit < UNITS.length - 1) {
    size /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || size >= 99.5 ? 0 : 1;
  const number = Number(size.toFixed(digits));
  return `${value < 0 ? "-" : ""}${number} ${UNITS[unit]}`;
}

/** Bytes a second: `1.2 MB/s`. */
export function byteRate(value: number): string {
  return `${bytes(value)}/s`;
}
