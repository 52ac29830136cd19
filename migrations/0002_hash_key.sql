-- The key by which balancers spread clients over a pool with `source_hash` (ADR
-- 008). One for the cluster, made once, and by the database: every balancer has
-- to use the same, whichever control plane plans for it, and a restored backup
-- keeps every client where it was.

alter table cluster
    -- Of the 244 random bits of two UUIDs.
    add column hash_key bytea not null default
        substring(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) from 1 for 16)
        check (octet_length(hash_key) = 16);
