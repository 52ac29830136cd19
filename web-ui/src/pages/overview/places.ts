// Where the things that need attention are shown.

import type { Subject } from "../../api/types";

export function placeOf({ kind, name, pool }: Subject): string | undefined {
  const at = encodeURIComponent(name);
  switch (kind) {
    case "agent":
      return `/agents/${at}`;
    case "backend":
      return pool ? `/pools/${encodeURIComponent(pool)}?q=${at}` : undefined;
    case "pool":
      return `/pools/${at}`;
    case "listener":
      return `/listeners/${at}`;
    case "certificate":
      return `/certificates/${at}`;
    default:
      return undefined;
  }
}

/** The subject as a short name; agents have ids nobody can read out. */
export function subjectWord({ kind }: Subject): string {
  return kind.replaceAll("_", " ");
}
