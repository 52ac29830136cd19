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
  let waiting: LiveEvent[] = [];
  return (event) => {
    waiting.push(event);
    if (waiting.length > 1) return;
    setTimeout(() => {
      const events = waiting;
      waiting = [];
      client.invalidateQueries({
        predicate: ({ queryKey }) => events.some((one) => concerns(one, queryKey)),
      });
    }, GATHER_MS);
  };
}
