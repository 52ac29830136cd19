import { describe, expect, it } from "vitest";
import { concerns, type LiveEvent, parseEvent } from "./concerns";

const backend: LiveEvent = { kind: "backend", pool: "game", backend: ":3000", agent: "a" };
const change: LiveEvent = { kind: "change", change: 7, revision: 3 };
const sample: LiveEvent = { kind: "sample", at: "2026-11-29T04:38:27Z" };

describe("concerns", () => {
  it("reads all again after a reset, but who is logged in", () => {
    expect(concerns({ kind: "reset" }, ["pools", "game"])).toBe(true);
    expect(concerns({ kind: "reset" }, ["session"])).toBe(false);
  });

  it("reads the document and the facts again after a commit, and no figures", () => {
    expect(concerns(change, ["listeners", "edge"])).toBe(true);
    expect(concerns(change, ["pools", "game", "backends"])).toBe(true);
    expect(concerns(change, ["series", { of: "fleet" }])).toBe(false);
    expect(concerns(change, ["clients", "top"])).toBe(false);
  });

  it("reads what is seen of one pool when a backend of it changes", () => {
    expect(concerns(backend, ["pools", "game", "backends"])).toBe(true);
    expect(concerns(backend, ["pools", "other", "backends"])).toBe(false);
    expect(concerns(backend, ["pools", "game"])).toBe(false);
    expect(concerns(backend, ["attention"])).toBe(true);
  });

  it("reads figures every few seconds, and no document", () => {
    expect(concerns(sample, ["series", { of: "fleet" }])).toBe(true);
    expect(concerns(sample, ["pools", "game", "state", ":3000"])).toBe(true);
    expect(concerns(sample, ["pools", "game"])).toBe(false);
    expect(concerns(sample, ["config"])).toBe(false);
  });
});

describe("parseEvent", () => {
  it("takes what it knows", () => {
    expect(parseEvent("change", '{"change":7,"revision":3}')).toEqual(change);
    expect(parseEvent("reset", "{}")).toEqual({ kind: "reset" });
  });

  it("passes over what it does not know, or cannot read", () => {
    expect(parseEvent("weather", "{}")).toBeUndefined();
    expect(parseEvent("change", "{")).toBeUndefined();
    expect(parseEvent("change", "7")).toBeUndefined();
  });
});
