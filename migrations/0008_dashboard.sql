-- Browsers that are logged in, each by an API token: it can do what the token can,
-- and ends with it at the latest. Kept without the secret that the cookie holds.

create table sessions (
    id text primary key,
    secret_hash bytea not null,
    api_token text not null references api_tokens on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);
create index on sessions (expires_at);
create index on sessions (api_token);

-- Of the handshakes of a listener those that resumed a session: how many so far,
-- and how many a second. 0 from agents that are too old to say it.

alter table observed_listeners
    add column resumed bigint not null default 0,
    add column resumed_rate double precision not null default 0;
