/// <reference types="vitest/config" />
import { readFileSync } from "node:fs";
import react from "@vitejs/plugin-react";
import { defineConfig, type ProxyOptions } from "vite";
import { compress } from "./dev/compress.ts";
import { tokenSession } from "./dev/session.ts";

// A control plane to develop against, and a token of it in a file, so that no login is
// needed.
const target = process.env.TIDEGATE_URL ?? "https://127.0.0.1:7443";
const tokenFile = process.env.TIDEGATE_TOKEN_FILE;

const api: ProxyOptions = {
  target,
  // The control plane wants an Origin that is https:// and its Host: both name this server.
  changeOrigin: false,
  // The fleet's own authority, which Node.js does not know.
  secure: false,
  configure: (proxy) => {
    proxy.on("proxyReq", (outgoing, { headers }) => {
      if (headers.origin === `http://${headers.host}`) {
        outgoing.setHeader("Origin", `https://${headers.host}`);
      }
    });
    // A stream of events that is cut behind the proxy is cut for the browser as well.
    proxy.on("proxyRes", (incoming, _request, outgoing) => {
      incoming.on("aborted", () => outgoing.destroy());
    });
  },
  ...(tokenFile && {
    headers: { Authorization: `Bearer ${readFileSync(tokenFile, "utf8").trim()}` },
  }),
};

// What the control plane sends; `npm run preview` shows whether a build holds to it. There
// nobody replaces the nonce, so that its placeholder is the nonce.
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'nonce-__TIDEGATE_NONCE__'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

export default defineConfig({
  plugins: [react(), compress(), ...(tokenFile ? [tokenSession()] : [])],
  server: { proxy: { "/api": api } },
  preview: { proxy: { "/api": api }, headers: { "Content-Security-Policy": policy } },
  build: {
    target: "es2022",
    // Data URLs are for images alone; fonts and scripts never.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // scripts/size.mjs reads what the first load takes.
    manifest: true,
  },
  test: {
    environment: "happy-dom",
    include: ["src/**/*.test.{ts,tsx}"],
    setupFiles: ["src/test/setup.ts"],
    css: { modules: { classNameStrategy: "non-scoped" } },
  },
});
