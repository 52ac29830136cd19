import { describe, expect, it } from "vitest";
import type { Certificate, UploadCommit } from "../../api/types";
import {
  covers,
  leftWords,
  namesChange,
  suggestedName,
  uploadFacts,
  validityState,
} from "./validity";

const NOW = Date.parse("2026-11-29T12:00:00Z");

describe("how long it is good for", () => {
  it.each([
    ["2026-11-29T12:00:00Z", "down", "ended"],
    ["2026-11-29T20:00:00Z", "warning", "less than a day left"],
    ["2026-12-01T12:00:00Z", "warning", "2 days left"],
    ["2026-11-30T12:00:00Z", "warning", "1 day left"],
    ["2027-02-27T12:00:00Z", "up", "90 days left"],
    ["2040-11-29T12:00:00Z", "up", "14 years left"],
  ])("until %s: %s, %s", (until, state, words) => {
    expect(validityState(until, NOW)).toBe(state);
    expect(leftWords(until, NOW)).toBe(words);
  });
});

it.each([
  [["play.example.com"], "PLAY.example.com", true],
  [["*.example.com"], "play.example.com", true],
  [["*.example.com"], "a.play.example.com", false],
  [["*.example.com"], "example.com", false],
])("%j covers %s: %s", (names, host, is) => expect(covers(names, host)).toBe(is));

it("names what is gained and lost", () => {
  expect(namesChange(["a", "b"], ["b", "c"])).toEqual({ gained: ["c"], lost: ["a"] });
});

it("suggests a name that is one", () => {
  expect(suggestedName(["*.Example.com", "x"])).toBe("wildcard.example.com");
  expect(suggestedName([])).toBe("");
});

describe("what an upload comes to", () => {
  const uploaded = {
    dns_names: ["b", "c"],
    not_before: "2026-11-01T00:00:00Z",
    not_after: "2027-02-27T12:00:00Z",
    links: [],
  };
  const commit = { revision: 1, change: 2, changed: true, diff: [], uploaded } as UploadCommit;
  const before = {
    dns_names: ["a", "b"],
    not_after: "2026-12-01T12:00:00Z",
    used_by: ["tls"],
  } as Certificate;
  const texts = (...given: Parameters<typeof uploadFacts>) =>
    uploadFacts(...given).map(({ text }) => text);

  it("is told before it is replaced", () => {
    expect(texts(commit, before, 3, NOW)).toEqual([
      "For b, c: 90 days left, instead of 2 days left.",
      "Gained: c.",
      "Lost: a.",
      "3 agents get it, for tls. New handshakes use it; no connection is closed.",
    ]);
  });

  it("says when nobody uses it, and when it is the same", () => {
    expect(texts(commit, undefined, 0, NOW).at(-1)).toContain("no agent gets it");
    expect(texts({ ...commit, changed: false }, before, 3, NOW).at(-1)).toContain("here already");
  });

  it("passes on what the control plane warns of", () => {
    const warned = { ...commit, warnings: ["it expired"] };
    expect(texts(warned, before, 3, NOW).at(-1)).toBe("it expired");
  });
});
