# Three small images from one build:
#   docker build --target control-plane .     tidegate: server and command line
#   docker build --target agent .             tidegate-agent
#   docker build --target node-app .          the sample app, to put behind agents

FROM node:20-bookworm-slim AS ui
WORKDIR /src/web-ui
COPY web-ui/package.json web-ui/package-lock.json web-ui/.npmrc ./
RUN npm ci --no-audit --no-fund
COPY docs/openapi.json ../docs/
COPY web-ui ./
RUN npm run build

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
COPY --from=ui /src/web-ui/dist web-ui/dist
ENV TIDEGATE_UI=required
RUN cargo build --release --locked --package tidegate --package tidegate-agent

# Certificates of public authorities, for a control plane that has one; and a user
# that owns nothing but its state.
FROM debian:bookworm-slim AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin tidegate

FROM base AS control-plane
# For health checks: /healthz is over TLS.
RUN apt-get update \
    && apt-get install -y --no-install-recommends curl \
    && rm -rf /var/lib/apt/lists/*
# A new volume takes its owner from here.
RUN install -d -o tidegate -g tidegate -m 0700 /var/lib/tidegate /var/lib/tidegate-tokens
COPY --from=build /src/target/release/tidegate /usr/local/bin/
USER tidegate
EXPOSE 7443 7444
ENTRYPOINT ["tidegate"]

FROM base AS agent
RUN install -d -o tidegate -g tidegate -m 0700 /var/lib/tidegate-agent
COPY --from=build /src/target/release/tidegate-agent /usr/local/bin/
USER tidegate
STOPSIGNAL SIGTERM
ENTRYPOINT ["tidegate-agent"]

FROM node:20-bookworm-slim AS node-app
WORKDIR /app
COPY examples/node-app/package.json examples/node-app/package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund
COPY examples/node-app/*.mjs ./
COPY examples/node-app/public ./public
USER node
ENTRYPOINT ["node", "server.mjs"]
