-- Keys of session tickets, by listener, sealed like private keys and deleted when
-- no ticket can need them any more. What they would open ends within days: leave
-- this table out of backups (`pg_dump --exclude-table-data=ticket_keys`), and a
-- restored fleet makes new ones.

create table ticket_keys (
    -- Random, so that no two databases give two keys one name.
    id bigint primary key check (id > 0),
    listener text not null,
    key_sealed bytea not null,
    made_at timestamptz not null,
    -- Since when tickets are made with it, and since when no more.
    encrypting_at timestamptz,
    replaced_at timestamptz,
    check (replaced_at is null or encrypting_at is not null)
);
-- The schedule never wants two; whatever it does, there are none.
create unique index ticket_keys_one_encrypts on ticket_keys (listener)
    where encrypting_at is not null and replaced_at is null;
create unique index ticket_keys_one_next on ticket_keys (listener) where encrypting_at is null;

-- Grows with every change of a ticket key; apart from `change`, since no snapshot
-- depends on it.
alter table cluster add column ticket_keys bigint not null default 0;

-- The ticket keys that the agent has said it holds, in its live session.
alter table agents add column ticket_keys bigint[];

-- The listeners of a snapshot that end TLS: the agent gets their ticket keys.
alter table snapshots add column terminates text[] not null default '{}';
update snapshots set terminates = array(
    select l ->> 'name' from jsonb_array_elements(convert_from(bytes, 'UTF8')::jsonb -> 'listeners') l
    where l -> 'work' ? 'terminate'
);
