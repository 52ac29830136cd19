// How queries behave: read again when an event says so, not by the clock.

import { MutationCache, QueryCache, QueryClient } from "@tanstack/react-query";
import { isPassing, isProblem } from "./problem";
import { sessionKey } from "./session";

export function makeQueryClient(): QueryClient {
  // Any 401 is the session's end: the gate then asks for a login.
  const onError = (error: unknown) => {
    if (isProblem(error, 401)) client.setQueryData(sessionKey, null);
  };
  const client = new QueryClient({
    queryCache: new QueryCache({ onError }),
    mutationCache: new MutationCache({ onError }),
    defaultOptions: {
      queries: {
        // Events say what is stale. A page that was left is read again when it is entered.
        staleTime: 2_000,
        refetchOnWindowFocus: false,
        retry: (count, error) => isPassing(error) && count < 2,
        retryDelay: (count) => 500 * 2 ** count,
      },
    },
  });
  return client;
}
