import { describe, expect, it } from "vitest";
import { contains, formatNetwork, networkFault, overlaps, parseNetwork } from "./networks";

function network(text: string) {
  const parsed = parseNetwork(text);
  if (!parsed) throw new Error(`${text} is no network`);
  return parsed;
}

describe("parseNetwork", () => {
  it.each([
    ["192.0.2.7", "192.0.2.7/32"],
    ["192.0.2.0/24", "192.0.2.0/24"],
    ["0.0.0.0/0", "0.0.0.0/0"],
    ["2001:DB8::/64", "2001:db8::/64"],
    ["2001:db8:0:1:0:0:0:2", "2001:db8:0:1::2/128"],
    ["::", "::/128"],
    ["::1/128", "::1/128"],
    ["64:ff9b::192.0.2.1", "64:ff9b::c000:201/128"],
    ["::ffff:192.0.2.7", "192.0.2.7/32"],
    ["::ffff:10.0.0.0/104", "10.0.0.0/8"],
  ])("reads %s as %s", (text, written) => expect(formatNetwork(network(text))).toBe(written));

  it.each([
    "",
    "192.0.2",
    "192.0.2.256",
    "192.0.02.1",
    "192.0.2.0/33",
    "192.0.2.0/",
    "192.0.2.0/8/8",
    "2001:db8",
    "1::2::3",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7::8",
    "g::",
  ])("takes %s for no network", (text) => {
    expect(parseNetwork(text)).toBeUndefined();
  });
});

describe("networks", () => {
  it("contain what begins alike, of their own family", () => {
    expect(contains(network("10.0.0.0/8"), network("10.9.8.7"))).toBe(true);
    expect(contains(network("10.9.8.7"), network("10.0.0.0/8"))).toBe(false);
    expect(contains(network("0.0.0.0/0"), network("::1"))).toBe(false);
    expect(contains(network("2001:db8::/32"), network("2001:db8:1::/64"))).toBe(true);
    expect(overlaps(network("10.9.8.7"), network("10.0.0.0/8"))).toBe(true);
    expect(overlaps(network("10.9.8.7"), network("10.9.8.8"))).toBe(false);
  });

  it("say what is wrong with bits after the length", () => {
    expect(networkFault(network("10.0.0.0/8"))).toBeUndefined();
    expect(networkFault(network("10.1.0.0/8"))).toContain("10.0.0.0/8");
  });
});
