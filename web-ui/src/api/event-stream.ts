// The stream of events: opened, watched, paused, opened again. Knows nothing of queries.
// One per page; `events.tsx` connects it with them.

import { EVENT_KINDS, type LiveEvent, parseEvent } from "./concerns";

export type Phase = "connecting" | "live" | "reconnecting" | "paused";

export interface StreamState {
  phase: Phase;
  /** When the page last knew what is: the newest event, in ms since 1970. */
  knownAt: number | undefined;
  /** When figures last came on this stream; a fleet without agents has none. */
  sampledAt: number | undefined;
}

/** A stream that was cut tries again at once, then less and less often. */
const RETRY_MS = [1_000, 2_000, 4_000, 8_000, 15_000];
/** How long a tab may be hidden: browsers allow six HTTP/1.1 connections to a host. */
export const HIDDEN_MS = 60_000;
/**
 * Figures come every few seconds once there are any. Without, the stream may be cut where
 * nobody says so, as after a night in a sleeping laptop: a new one will tell.
 */
export const SILENT_MS = 30_000;

export interface StreamSetting {
  open: (url: string) => EventSource;
  now: () => number;
  onEvent: (event: LiveEvent) => void;
  /** The stream was refused, which may mean that the session has ended. */
  onRefused: () => void;
}

export class EventStream {
  readonly #setting: StreamSetting;
  readonly #listeners = new Set<() => void>();
  #state: StreamState = { phase: "connecting", knownAt: undefined, sampledAt: undefined };
  #source: EventSource | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #hiding: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;

  constructor(setting: StreamSetting) {
    this.#setting = setting;
  }

  get state(): StreamState {
    return this.#state;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  start(): void {
    if (this.#state.phase === "paused") return;
    this.#connect();
  }

  stop(): void {
    clearTimeout(this.#hiding);
    this.#close();
  }

  /** A paused page does not change by itself: there is no stream at all. */
  pause(): void {
    this.#close();
    this.#become({ phase: "paused" });
  }

  /** The new stream begins with `reset`, which reads everything again. */
  resume(): void {
    this.#failures = 0;
    this.#become({ phase: "connecting" });
    this.#connect();
  }

  hidden(hidden: boolean): void {
    clearTimeout(this.#hiding);
    if (this.#state.phase === "paused") return;
    if (hidden) this.#hiding = setTimeout(() => this.#close(), HIDDEN_MS);
    else if (this.#source === undefined && this.#timer === undefined) this.resume();
  }

  #connect(): void {
    this.#close();
    const source = this.#setting.open("/api/v1/events");
    this.#source = source;
    this.#become({ sampledAt: undefined });
    source.onopen = () => {
      this.#failures = 0;
      this.#become({ phase: "live", knownAt: this.#setting.now() });
    };
    for (const kind of EVENT_KINDS)
      source.addEventListener(kind, (message) => {
        if (message instanceof MessageEvent) this.#receive(kind, message.data);
      });
    source.onerror = () => this.#failed(source);
  }

  #receive(kind: string, data: unknown): void {
    const event = typeof data === "string" ? parseEvent(kind, data) : undefined;
    if (event === undefined) return;
    const now = this.#setting.now();
    this.#become({ phase: "live", knownAt: now, ...(kind === "sample" && { sampledAt: now }) });
    if (this.#state.sampledAt !== undefined) this.#expectMore();
    this.#setting.onEvent(event);
  }

  #expectMore(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      this.#become({ phase: "reconnecting" });
      this.#connect();
    }, SILENT_MS);
  }

  #failed(source: EventSource): void {
    if (source !== this.#source) return;
    this.#become({ phase: "reconnecting" });
    // After a cut the browser tries again by itself and says what it has seen last. After
    // an answer that is no stream it gives up, and we go on.
    if (source.readyState !== source.CLOSED) return;
    this.#close();
    this.#setting.onRefused();
    const wait = RETRY_MS[Math.min(this.#failures, RETRY_MS.length - 1)];
    this.#failures += 1;
    this.#timer = setTimeout(() => this.#connect(), wait);
  }

  #close(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#timer = undefined;
    this.#source?.close();
    this.#source = undefined;
  }

  #become(next: Partial<StreamState>): void {
    this.#state = { ...this.#state, ...next };
    for (const listener of this.#listeners) listener();
  }
}
