// Connects the stream of events with the queries: what an event concerns is read again,
// while somebody looks at it.

import { type QueryClient, useQueryClient } from "@tanstack/react-query";
import {
  createContext,
  type ReactNode,
  useContext,
  useEffect,
  useMemo,
  useSyncExternalStore,
} from "react";
import { concerns, type LiveEvent } from "./concerns";
import { EventStream, type StreamState } from "./event-stream";
import { sessionKey } from "./session";

/** Events that come together are one reason to read, not many. */
const GATHER_MS = 250;
/** Several agents report at several times: figures are read again this often at most. */
const SAMPLE_MS = 2_000;

interface Live extends StreamState {
  pause: () => void;
  resume: () => void;
}

const LiveContext = createContext<EventStream | undefined>(undefined);

export function LiveProvider({ children }: { children: ReactNode }) {
  const client = useQueryClient();
  const stream = useMemo(
    () =>
      new EventStream({
        open: (url) => new EventSource(url),
        now: Date.now,
        onEvent: gather(client),
        onRefused: () => client.invalidateQueries({ queryKey: sessionKey }),
      }),
    [client],
  );
  useEffect(() => {
    const onVisibility = () => stream.hidden(document.visibilityState === "hidden");
    document.addEventListener("visibilitychange", onVisibility);
    stream.start();
    return () => {
      document.removeEventListener("visibilitychange", onVisibility);
      stream.stop();
    };
  }, [stream]);
  return <LiveContext value={stream}>{children}</LiveContext>;
}

/** Whether what the page shows follows the fleet, and how old it is. */
export function useLive(): Live {
  const stream = useContext(LiveContext);
  if (!stream) throw new Error("useLive is outside LiveProvider");
  const state = useSyncExternalStore(stream.subscribe, () => stream.state);
  return useMemo(
    () => ({ ...state, pause: () => stream.pause(), resume: () => stream.resume() }),
    [state, stream],
  );
}

function gather(client: QueryClient): (event: LiveEvent) => void {
  const flush = (events: LiveEvent[]) =>
    client.invalidateQueries({
      predicate: ({ queryKey }) => events.some((one) => concerns(one, queryKey)),
    });
  const gathered = gatherer(GATHER_MS, flush);
  const sampled = gatherer(SAMPLE_MS, flush);
  return (event) => (event.kind === "sample" ? sampled : gathered)(event);
}

/** Hands on what came in the meantime, all at once; the last one is never lost. */
function gatherer(ms: number, flush: (events: LiveEvent[]) => void): (event: LiveEvent) => void {
  let waiting: LiveEvent[] = [];
  return (event) => {
    waiting.push(event);
    if (waiting.length > 1) return;
    setTimeout(() => {
      const events = waiting;
      waiting = [];
      flush(events);
    }, ms);
  };
}
