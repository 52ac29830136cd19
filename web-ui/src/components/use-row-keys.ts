// Arrow keys go from row to row: to the same control of the next row, else to its first
// one. Tab stays as it is everywhere.

import { type RefObject, useEffect } from "react";

const CONTROLS = "a[href], button:not([disabled]), input:not([disabled])";

export function useRowKeys(
  container: RefObject<HTMLElement | null>,
  count: number,
  scrollTo: ((index: number) => void) | undefined,
): void {
  useEffect(() => {
    const element = container.current;
    if (!element) return;
    const onKey = (event: KeyboardEvent) => {
      if (!(event.target instanceof HTMLElement) || event.target.matches("input")) return;
      const row = event.target.closest<HTMLElement>("tr[data-index]");
      if (!row) return;
      const next = nextIndex(event.key, Number(row.dataset.index), count);
      if (next === undefined) return;
      event.preventDefault();
      const place = [...row.querySelectorAll(CONTROLS)].indexOf(event.target);
      scrollTo?.(next);
      // A virtual row is there only after it was scrolled to.
      requestAnimationFrame(() => {
        const controls = element.querySelectorAll<HTMLElement>(
          `tr[data-index="${next}"] :is(${CONTROLS})`,
        );
        (controls[place] ?? controls[0])?.focus();
      });
    };
    element.addEventListener("keydown", onKey);
    return () => element.removeEventListener("keydown", onKey);
  }, [container, count, scrollTo]);
}

export function nextIndex(key: string, index: number, count: number): number | undefined {
  const next = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: count - 1 }[key];
  return next === undefined || next < 0 || next >= count || next === index ? undefined : next;
}
