-- The fleet: what people wrote (a table per kind, and every revision whole), what
-- the fleet is (agents, admin states, certificates, tokens), what each agent
-- should run, and what it was last seen to do.
--
-- Columns for what is queried; the rest of a spec is jsonb of the type in
-- tidegate_core::document.

-- One row. Whoever changes the document or the facts locks it first, so commits
-- are in order and their numbers have no gaps: a sequence would promise neither.
create table cluster (
    one boolean primary key default true check (one),
    id uuid not null,
    -- The database's incarnation. Numbers of two epochs are never compared.
    epoch uuid not null,
    -- What tells a restored backup from the original: where this epoch runs.
    incarnation text not null,
    change bigint not null default 0,
    revision bigint not null default 0,
    ban bigint not null default 0,
    -- A known text sealed with the key-encryption key: another key is noticed.
    key_check bytea not null,
    -- The authority of agents and control planes: certificate in DER, key sealed.
    ca_certificate bytea not null,
    ca_key bytea not null,
    created_at timestamptz not null default now()
);

create table revisions (
    number bigint primary key,
    change bigint not null,
    document jsonb not null,
    author text not null,
    -- What was done: `apply`, `put pools/game`, `rollback to 7`.
    action text not null,
    created_at timestamptz not null default now()
);

create table listeners (
    name text primary key,
    position integer not null,
    role text not null,
    spec jsonb not null
);

create table pools (
    name text primary key,
    position integer not null,
    spec jsonb not null
);

create table backends (
    pool text not null references pools on delete cascade,
    name text not null,
    position integer not null,
    address text not null,
    spec jsonb not null,
    primary key (pool, name)
);

create table policies (
    name text primary key,
    position integer not null,
    spec jsonb not null
);

-- The names a document declares. Material is below, and outside the document.
create table certificates (
    name text primary key,
    position integer not null
);

-- Every version uploaded; the youngest of a name is the one in use.
create table certificate_versions (
    number bigint generated always as identity primary key,
    name text not null,
    -- SHA-256 of the chain as PEM.
    fingerprint bytea not null,
    chain text not null,
    key_sealed bytea not null,
    dns_names text[] not null,
    not_before timestamptz not null,
    not_after timestamptz not null,
    uploaded_by text not null,
    uploaded_at timestamptz not null default now(),
    unique (name, fingerprint)
);
create index on certificate_versions (name, number desc);
create index on certificate_versions (fingerprint);

-- Absent = ready. What is said for one agent counts before what is said for all.
create table admin_states (
    pool text not null,
    backend text not null,
    agent uuid,
    state text not null,
    set_by text not null,
    set_at timestamptz not null default now(),
    unique nulls not distinct (pool, backend, agent)
);

create table join_tokens (
    id text primary key,
    secret_hash bytea not null,
    roles text[] not null,
    labels jsonb not null,
    uses integer not null check (uses > 0),
    used integer not null default 0 check (used <= uses),
    expires_at timestamptz not null,
    created_by text not null,
    created_at timestamptz not null default now()
);

create table agents (
    id uuid primary key,
    -- How it joined. The token may be removed; what it gave stays.
    join_token text not null,
    -- SHA-256 of the SubjectPublicKeyInfo it joined with: the same token and key
    -- again are the same agent.
    join_key bytea not null,
    roles text[] not null,
    labels jsonb not null,
    address inet not null,
    health_port integer not null,
    version text not null,
    enrolled_at timestamptz not null default now(),
    revoked_at timestamptz,
    revoked_by text,
    -- Hidden from lists, kept so that it is told why when it comes back.
    removed_at timestamptz,
    -- The live session, if any, and the replica that holds it.
    session uuid,
    replica uuid,
    boot_id uuid,
    seen_at timestamptz,
    certificate_not_after timestamptz,
    -- What it says it runs: observed, never inferred from `desired`.
    state text,
    applied_epoch uuid,
    applied_change bigint,
    applied_revision bigint,
    applied_hash bytea,
    -- What it failed to run, and why.
    failed_hash bytea,
    mistakes jsonb not null default '[]',
    state_at timestamptz,
    unique (join_token, join_key)
);

-- Canonical bytes, once per distinct content.
create table snapshots (
    hash bytea primary key,
    bytes bytea not null,
    -- Of the certificates it names: the keys an agent needs before it.
    fingerprints bytea[] not null
);

-- What the control plane wants of one agent. Per agent, so that holding one back
-- is data and not a special case.
create table desired (
    agent uuid primary key references agents on delete cascade,
    change bigint not null,
    revision bigint not null,
    hash bytea not null references snapshots
);
create index on desired (change);

-- Which private keys were ever sent to whom: what has to be replaced when an
-- agent is lost.
create table key_deliveries (
    agent uuid not null references agents on delete cascade,
    fingerprint bytea not null,
    name text not null,
    first_sent_at timestamptz not null default now(),
    primary key (agent, fingerprint, name)
);

create table api_tokens (
    id text primary key,
    secret_hash bytea not null,
    role text not null,
    label text not null,
    created_by text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);

create table audit (
    number bigint generated always as identity primary key,
    at timestamptz not null default now(),
    author text not null,
    action text not null,
    -- What it was done to: `pools/game`, `agents/<uuid>`.
    subject text not null,
    change bigint
);

-- Control planes that are alive.
create table replicas (
    id uuid primary key,
    address text not null,
    started_at timestamptz not null default now(),
    seen_at timestamptz not null default now()
);

-- Work that one replica at a time does.
create table leases (
    name text primary key,
    holder uuid not null,
    until timestamptz not null
);

-- What each agent sees: replaced by every report. Losing it costs one interval.
create unlogged table observed_backends (
    agent uuid not null,
    pool text not null,
    backend text not null,
    address text not null,
    up boolean not null,
    admin text not null,
    in_flight bigint not null,
    connects bigint not null,
    connects_failed bigint not null,
    connect_rate double precision not null,
    check_passed boolean,
    check_words text,
    checked_at timestamptz,
    at timestamptz not null,
    primary key (agent, pool, backend)
);
create index on observed_backends (pool);

create unlogged table observed_listeners (
    agent uuid not null,
    listener text not null,
    role text not null,
    live bigint not null,
    clients_live bigint not null,
    accepted bigint not null,
    bytes_in bigint not null,
    bytes_out bigint not null,
    handshakes bigint not null,
    handshakes_failed bigint not null,
    requests bigint not null,
    requests_failed bigint not null,
    refused bigint not null,
    accept_rate double precision not null,
    byte_rate double precision not null,
    handshake_rate double precision not null,
    at timestamptz not null,
    primary key (agent, listener)
);

create unlogged table observed_clients (
    agent uuid not null,
    listener text not null,
    client cidr not null,
    live bigint not null,
    at timestamptz not null,
    primary key (agent, listener, client)
);
create index on observed_clients (client);

-- Reports taken in, so that a repeat is not added twice, whichever replica it
-- comes to.
create table reports (
    agent uuid not null,
    boot uuid not null,
    sequence bigint not null,
    at timestamptz not null default now(),
    primary key (agent, boot, sequence)
);
create index on reports (at);

-- Per client, minute, measure and listener, summed over agents. The true amount
-- is between `count - error` and `count`, plus what `client_totals.bound` allows
-- for agents that did not list the client. Partitioned by day, so that forgetting
-- a day is dropping a table.
create table client_stats (
    minute timestamptz not null,
    measure text not null,
    listener text not null,
    client cidr not null,
    count bigint not null,
    error bigint not null,
    primary key (minute, measure, listener, client)
) partition by range (minute);
create index on client_stats (client, minute);

create table client_totals (
    minute timestamptz not null,
    measure text not null,
    listener text not null,
    total bigint not null,
    bound bigint not null,
    primary key (minute, measure, listener)
) partition by range (minute);
