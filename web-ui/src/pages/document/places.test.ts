import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { example, marksOf, merged, syntaxMistakes } from "./places";

const TEXT = `listeners:
  - name: edge
    bind: ":443"
pools:
  - { name: a, backends: [{ address: ":1" }] }
  - name: b
    backends:
      - address: ":2"
        weight: 7
`;

describe("a place's line", () => {
  it.each([
    ["/listeners/0/bind", 3],
    ["/listeners/edge/bind", 3],
    ["/pools/0/backends/0/address", 5],
    ["/pools/1/backends/0/weight", 9],
    ["/pools/b/backends/0/weight", 9],
    // What is missing is shown at what it is missing from.
    ["/listeners/0/pool", 2],
    ["/policies", 1],
    ["", 1],
  ])("%s is %d", (pointer, line) => {
    expect(marksOf(TEXT, [{ pointer, detail: "wrong" }])[0]?.line).toBe(line);
  });

  it("comes in the order of the text, and of no text at all", () => {
    const marks = marksOf(TEXT, [
      { pointer: "/pools/1/backends/0/weight", detail: "b" },
      { pointer: "/listeners/0/bind", detail: "a" },
    ]);
    expect(marks.map(({ message }) => message)).toEqual(["a", "b"]);
    expect(marksOf("", [{ pointer: "/pools", detail: "x" }])[0]?.line).toBe(1);
  });
});

it("says where a text is no YAML", () => {
  expect(syntaxMistakes("pools: [a\nb: c\n")[0]?.line).toBeGreaterThan(0);
  expect(syntaxMistakes(TEXT)).toEqual([]);
});

describe("what was typed and what others wrote", () => {
  it("go together where they touch other lines", () => {
    const mine = TEXT.replace("weight: 7", "weight: 9");
    const theirs = TEXT.replace('":443"', '":8443"');
    const both = merged(TEXT, mine, theirs);
    expect(both).toContain("weight: 9");
    expect(both).toContain('":8443"');
  });

  it("do not where they touch the same", () => {
    const mine = TEXT.replace("weight: 7", "weight: 9");
    const theirs = TEXT.replace("weight: 7", "weight: 8");
    expect(merged(TEXT, mine, theirs)).toBeUndefined();
  });
});

it("begins with an example that is YAML, with a certificate that is there", () => {
  const read = parse(example(["shop"]));
  expect(read.listeners[1].tls.certificates).toEqual(["shop"]);
  expect(read.pools).toHaveLength(2);
});
