-- What connected agents are told to do once and at once, such as cutting the
-- connections to a backend. Unlike what they should run it is over when it is
-- done, and an agent that comes later is not told. A row per agent: the control
-- plane that the agent is connected to takes it, says it, and writes down what
-- came of it.

create table commands (
    number bigint generated always as identity primary key,
    agent uuid not null references agents on delete cascade,
    pool text not null,
    backend text not null,
    at timestamptz not null default now(),
    -- By a control plane, to be said; by one only.
    taken_at timestamptz,
    -- When the agent answered: why it was not done, or how many connections it cut.
    done_at timestamptz,
    error text,
    connections bigint
);
create index on commands (at) where taken_at is null;
