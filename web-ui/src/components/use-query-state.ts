// State that is part of the address, so that a link shows what its sender saw.

import { useCallback } from "react";
import { useSearchParams } from "react-router";

/** One parameter of the query; the default is not written. */
export function useQueryState<T extends string>(name: string, initial: T): [T, (value: T) => void] {
  const [search, setSearch] = useSearchParams();
  const value = (search.get(name) ?? initial) as T;
  const set = useCallback(
    (next: T) =>
      setSearch(
        (before) => {
          const after = new URLSearchParams(before);
          if (next === initial) after.delete(name);
          else after.set(name, next);
          return after;
        },
        // Filters are not places that Back should lead to.
        { replace: true, preventScrollReset: true },
      ),
    [name, initial, setSearch],
  );
  return [value, set];
}

/** The same for one of a few; anything else in the address counts as the first. */
export function useQueryChoice<T extends string>(
  name: string,
  choices: readonly [T, ...T[]],
): [T, (value: T) => void] {
  const [value, set] = useQueryState<T>(name, choices[0]);
  return [choices.includes(value) ? value : choices[0], set];
}
