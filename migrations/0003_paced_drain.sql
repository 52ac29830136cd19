-- How fast the live connections of a backend in drain or maintenance are closed:
-- so many a second, or all of them between two moments; without either they end
-- by themselves. The moments are written when the operator says it, by this
-- database's clock, so that planning again moves neither.
--
-- Nothing here says that a ready backend has no pace: a control plane that does
-- not know these columns leaves them as they are. Planning looks at the state.

alter table admin_states
    add column pace_per_second integer check (pace_per_second > 0),
    add column pace_since timestamptz,
    add column pace_until timestamptz check (pace_until > pace_since),
    add check ((pace_since is null) = (pace_until is null)),
    add check (pace_per_second is null or pace_since is null);
