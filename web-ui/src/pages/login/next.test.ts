import { describe, expect, it } from "vitest";
import { safeNext } from "./next";

describe("safeNext", () => {
  it("goes to a path of this page", () => {
    expect(safeNext("/clients?by=bytes")).toBe("/clients?by=bytes");
  });

  it.each([
    null,
    "",
    "https://evil.example",
    "//evil.example",
    "/\\evil.example",
    "/login?next=/login",
  ])("goes to the overview instead of %s", (next) => expect(safeNext(next)).toBe("/"));
});
