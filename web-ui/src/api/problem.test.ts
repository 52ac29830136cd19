import { describe, expect, it } from "vitest";
import {
  ApiProblem,
  isPassing,
  pointerPath,
  problemOf,
  splitProblem,
  Unreachable,
} from "./problem";

const problem = new ApiProblem({
  type: "urn:tidegate:problem:invalid-document",
  title: "The document is invalid",
  status: 422,
  detail: "2 mistakes",
  request_id: "r",
  errors: [
    { pointer: "/bind", detail: "is no address" },
    { pointer: "/config/pools/game/backends/:3000", detail: "is there twice" },
  ],
});

describe("splitProblem", () => {
  it("puts places at their fields, and keeps the rest", () => {
    const split = splitProblem(problem, (pointer) =>
      pointerPath(pointer)[0] === "bind" ? "bind" : undefined,
    );
    expect(split.fields).toEqual({ bind: "is no address" });
    expect(split.rest.map(({ detail }) => detail)).toEqual(["is there twice"]);
  });

  it("has nothing of what is no problem", () => {
    expect(splitProblem(new Error("x"), () => "a")).toEqual({ fields: {}, rest: [] });
  });
});

describe("pointerPath", () => {
  it("unescapes, and leaves out what it is within", () => {
    expect(pointerPath("/a~1b/c~0d")).toEqual(["a/b", "c~d"]);
    expect(pointerPath("/config/pools/game/balance", "/config/pools/game")).toEqual(["balance"]);
    expect(pointerPath("/config/pools/gamer", "/config/pools/game")).toEqual([
      "config",
      "pools",
      "gamer",
    ]);
    expect(pointerPath("")).toEqual([]);
  });
});

describe("problemOf", () => {
  it("takes a problem as it is, and says something of anything else", () => {
    expect(problemOf(new Response(null, { status: 422 }), problem.problem)).toEqual(
      problem.problem,
    );
    expect(
      problemOf(new Response(null, { status: 502, statusText: "Bad Gateway" }), "<html>"),
    ).toMatchObject({
      title: "Bad Gateway",
      status: 502,
    });
  });
});

describe("isPassing", () => {
  it("tells what may help itself", () => {
    expect(isPassing(new Unreachable(undefined))).toBe(true);
    expect(isPassing(problem)).toBe(false);
  });
});
