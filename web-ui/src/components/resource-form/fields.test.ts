import { describe, expect, it } from "vitest";
import { ApiProblem } from "../../api/problem";
import { type Field, meant, problemOfFields, valueAt, withValue, written } from "./fields";

const interval: Field = { pointer: "/health_check/interval", label: "Interval", kind: "text" };
const check: Field = { pointer: "/health_check", label: "Check", kind: "text" };
const weight: Field = { pointer: "/weight", label: "Weight", kind: "number" };
const labels: Field = { pointer: "/agents", label: "Agents", kind: "labels" };
const list: Field = { pointer: "/tls/certificates", label: "Certificates", kind: "list" };

describe("a place in a resource", () => {
  const pool = { name: "p", health_check: { interval: "1s", rise: 2 } };

  it("is read, written and taken out", () => {
    expect(valueAt(pool, interval.pointer)).toBe("1s");
    expect(valueAt(pool, "/discover/listener")).toBeUndefined();
    expect(withValue(pool, interval.pointer, "5s").health_check).toEqual({
      interval: "5s",
      rise: 2,
    });
    expect(withValue(pool, "/discover/listener", "tls")).toEqual({
      ...pool,
      discover: { listener: "tls" },
    });
    expect(pool.health_check.interval).toBe("1s");
  });

  it("takes what is empty with it", () => {
    const one = { name: "p", health_check: { interval: "1s" } };
    expect(withValue(one, interval.pointer, undefined)).toEqual({ name: "p" });
  });

  it("escapes as pointers do", () => {
    expect(valueAt({ "a/b": { "c~d": 1 } }, "/a~1b/c~0d")).toBe(1);
  });
});

describe("an input's text", () => {
  it.each([
    [weight, " 7 ", 7],
    [weight, "seven", "seven"],
    [weight, "", undefined],
    [list, "a, b,,", ["a", "b"]],
    [labels, "tier=edge, zone=a=b", { tier: "edge", zone: "a=b" }],
    [interval, "1s ", "1s"],
  ])("of %o: %j is %j", (field, text, value) => expect(meant(field, text)).toEqual(value));

  it.each([
    [weight, 7, "7"],
    [list, ["a", "b"], "a, b"],
    [labels, { tier: "edge" }, "tier=edge"],
    [interval, undefined, ""],
  ])("of %o: %j is written as %j", (field, value, text) =>
    expect(written(field, value)).toBe(text),
  );
});

it("puts what is wrong at the nearest field, and the rest apart", () => {
  const error = new ApiProblem({
    type: "t",
    title: "t",
    status: 422,
    detail: "d",
    request_id: "r",
    errors: [
      { pointer: "/health_check/interval", detail: "too short" },
      { pointer: "/health_check/http/path", detail: "no path" },
      { pointer: "/weights", detail: "unknown" },
    ],
  });
  const split = problemOfFields(error, [check, interval, weight]);
  expect(split.fields).toEqual({
    "/health_check/interval": "too short",
    "/health_check": "no path",
  });
  expect(split.rest.map((place) => place.pointer)).toEqual(["/weights"]);
});
