import { describe, expect, it } from "vitest";
import { networkOfClient, shortId } from "./addresses";
import { byteRate, bytes } from "./bytes";
import { ago, DAY, daysUntil, duration } from "./durations";
import { compact, count, counted, percent, rate } from "./numbers";

describe("numbers", () => {
  it.each([
    [0, "0"],
    [0.44, "0.4"],
    [9.96, "10"],
    [984, "984"],
    [999.6, "1k"],
    [1_000, "1k"],
    [12_345, "12.3k"],
    [999_499, "999k"],
    [4_560_000, "4.56M"],
    [2_000_000_000, "2G"],
  ])("writes %d in three figures", (value, text) => expect(compact(value)).toBe(text));

  it("groups thousands and minds the plural", () => {
    expect(count(1_204_000)).toBe("1,204,000");
    expect(counted(1, "agent")).toBe("1 agent");
    expect(counted(0, "agent")).toBe("0 agents");
    expect(counted(2, "policy", "policies")).toBe("2 policies");
  });

  it("never says nothing of a little", () => {
    expect(rate(0)).toBe("0/s");
    expect(rate(0.01)).toBe("<0.1/s");
    expect(percent(0.001)).toBe("<1%");
  });

  it("says 100% only of all", () => {
    expect(percent(0.999)).toBe("99%");
    expect(percent(1)).toBe("100%");
  });
});

describe("bytes", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1_000, "1 kB"],
    [1_234_000, "1.2 MB"],
    [340_000_000_000, "340 GB"],
  ])("writes %d", (value, text) => expect(bytes(value)).toBe(text));

  it("adds the second", () => expect(byteRate(1_500)).toBe("1.5 kB/s"));
});

describe("durations", () => {
  it.each([
    [400, "400 ms"],
    [12_000, "12 s"],
    [185_000, "3 min 5 s"],
    [2 * DAY + 4 * 3_600_000 + 5, "2 d 4 h"],
    [DAY, "1 d"],
  ])("writes %d ms", (value, text) => expect(duration(value)).toBe(text));

  it("tells how long ago", () => {
    expect(ago(1_000, 2_500)).toBe("now");
    expect(ago(0, 12_400)).toBe("12 s ago");
    expect(ago(3 * DAY, 0)).toBe("in 3 d");
    expect(ago(0, 47 * 3_600_000)).toBe("47 h ago");
  });

  it("counts whole days left", () => {
    expect(daysUntil(DAY - 1, 0)).toBe(0);
    expect(daysUntil(90 * DAY, 0)).toBe(90);
    expect(daysUntil(-1, 0)).toBe(-1);
  });
});

describe("addresses", () => {
  it("denies one IPv4 address, or the /64", () => {
    expect(networkOfClient("192.0.2.7")).toBe("192.0.2.7/32");
    expect(networkOfClient("2001:db8:1:2::/64")).toBe("2001:db8:1:2::/64");
    expect(networkOfClient("2001:db8::")).toBe("2001:db8::/64");
  });

  it("tells agents apart by the random end of their id", () => {
    expect(shortId("01a22596-b0a3-7478-a560-8cb05e7389b4")).toBe("5e7389b4");
  });
});
