-- More of what agents see: whether a backend is ejected for failed connects and
-- what its weight comes to now, and, of a pool, who serves it and how many
-- connections wait. The weight is null where the agent is too old to say it.

alter table observed_backends
    add column ejected boolean not null default false,
    add column weight double precision;

create unlogged table observed_pools (
    agent uuid not null,
    pool text not null,
    queued bigint not null,
    serving text not null,
    at timestamptz not null,
    primary key (agent, pool)
);
create index on observed_pools (pool);
