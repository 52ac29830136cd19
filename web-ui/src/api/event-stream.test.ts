import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { LiveEvent } from "./concerns";
import { EventStream, HIDDEN_MS, SILENT_MS } from "./event-stream";

class FakeSource extends EventTarget {
  readonly CLOSED = 2;
  readyState = 0;
  onopen: (() => void) | null = null;
  onerror: (() => void) | null = null;

  close() {
    this.readyState = this.CLOSED;
  }

  say(kind: string, data: unknown) {
    this.dispatchEvent(new MessageEvent(kind, { data: JSON.stringify(data) }));
  }

  fail({ forEver }: { forEver: boolean }) {
    this.readyState = forEver ? this.CLOSED : 0;
    this.onerror?.();
  }
}

let sources: FakeSource[];
let events: LiveEvent[];
let refused: number;
let stream: EventStream;

beforeEach(() => {
  vi.useFakeTimers({ now: 0 });
  sources = [];
  events = [];
  refused = 0;
  stream = new EventStream({
    open: () => {
      const source = new FakeSource();
      sources.push(source);
      return source as unknown as EventSource;
    },
    now: Date.now,
    onEvent: (event) => events.push(event),
    onRefused: () => {
      refused += 1;
    },
  });
  stream.start();
});
afterEach(() => {
  stream.stop();
  vi.useRealTimers();
});

function newest(): FakeSource {
  const source = sources.at(-1);
  if (!source) throw new Error("nothing was opened");
  return source;
}

describe("EventStream", () => {
  it("is live once it is open, and knows when it last heard", () => {
    expect(stream.state.phase).toBe("connecting");
    newest().onopen?.();
    vi.advanceTimersByTime(3_000);
    newest().say("sample", { at: "2026-11-29T04:38:27Z" });
    expect(stream.state).toEqual({ phase: "live", knownAt: 3_000, sampledAt: 3_000 });
    expect(events).toEqual([{ kind: "sample", at: "2026-11-29T04:38:27Z" }]);
  });

  it("lets the browser reconnect after a cut, which remembers what it saw last", () => {
    newest().onopen?.();
    newest().fail({ forEver: false });
    expect(stream.state).toMatchObject({ phase: "reconnecting", knownAt: 0 });
    vi.advanceTimersByTime(60_000);
    expect(sources).toHaveLength(1);
    newest().onopen?.();
    expect(stream.state.phase).toBe("live");
  });

  it("tries again itself, less and less often, when the answer was no stream", () => {
    for (const wait of [1_000, 2_000, 4_000]) {
      const opened = sources.length;
      newest().fail({ forEver: true });
      vi.advanceTimersByTime(wait - 1);
      expect(sources).toHaveLength(opened);
      vi.advanceTimersByTime(1);
      expect(sources).toHaveLength(opened + 1);
    }
    expect(refused).toBe(3);
  });

  it("has no stream while it is paused, and a new one afterwards", () => {
    newest().onopen?.();
    stream.pause();
    expect(newest().readyState).toBe(2);
    stream.hidden(true);
    stream.hidden(false);
    expect(stream.state.phase).toBe("paused");
    expect(sources).toHaveLength(1);
    stream.resume();
    expect(sources).toHaveLength(2);
  });

  it("closes a minute after the tab was hidden, and opens when it is seen", () => {
    newest().onopen?.();
    stream.hidden(true);
    vi.advanceTimersByTime(HIDDEN_MS - 1);
    expect(newest().readyState).not.toBe(2);
    vi.advanceTimersByTime(1);
    expect(newest().readyState).toBe(2);
    stream.hidden(false);
    expect(sources).toHaveLength(2);
  });

  it("opens a new stream when figures stop to come, and none where there never were any", () => {
    newest().onopen?.();
    vi.advanceTimersByTime(10 * SILENT_MS);
    expect(sources).toHaveLength(1);
    newest().say("sample", { at: "2026-11-29T04:38:27Z" });
    vi.advanceTimersByTime(SILENT_MS);
    expect(sources).toHaveLength(2);
    expect(stream.state.phase).toBe("reconnecting");
    newest().onopen?.();
    expect(stream.state.phase).toBe("live");
    vi.advanceTimersByTime(10 * SILENT_MS);
    expect(sources).toHaveLength(2);
  });

  it("keeps its stream when the tab is seen again in time", () => {
    newest().onopen?.();
    stream.hidden(true);
    vi.advanceTimersByTime(HIDDEN_MS / 2);
    stream.hidden(false);
    vi.advanceTimersByTime(HIDDEN_MS);
    expect(sources).toHaveLength(1);
    expect(newest().readyState).not.toBe(2);
  });
});
