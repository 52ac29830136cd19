// What was typed and not applied, kept for as long as the tab lives, with what it was
// typed on.

export interface Draft {
  /** What was read. */
  base: string;
  etag: string | undefined;
  text: string;
}

const KEY = "tidegate-draft";

export function keptDraft(): Draft | undefined {
  try {
    const kept: unknown = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    if (typeof kept !== "object" || kept === null) return undefined;
    const { base, text, etag } = kept as Partial<Draft>;
    if (typeof base !== "string" || typeof text !== "string") return undefined;
    return { base, text, etag };
  } catch {
    return undefined;
  }
}

export function keepDraft(draft: Draft | undefined): void {
  try {
    if (draft === undefined || draft.text === draft.base) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, JSON.stringify(draft));
  } catch {
    // Storage is forbidden or full: the text lives as long as the page.
  }
}
