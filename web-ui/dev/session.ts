// The dev server's stand-in for the session cookie: with TIDEGATE_TOKEN_FILE the proxy
// adds that token to every request, and this says whose it is.

import type { Plugin } from "vite";

const HOUR_MS = 3_600_000;

export function tokenSession(): Plugin {
  return {
    name: "tidegate-token-session",
    configureServer(server) {
      server.middlewares.use("/api/v1/session", (request, response, next) => {
        if (request.method !== "GET") return next();
        response.setHeader("Content-Type", "application/json");
        response.end(
          JSON.stringify({
            author: "token/dev",
            label: "token file",
            role: process.env.TIDEGATE_ROLE ?? "admin",
            expires_at: new Date(Date.now() + HOUR_MS).toISOString(),
          }),
        );
      });
    },
  };
}
