-- The listeners that hand out session tickets, and so have keys for them: those that end
-- TLS, unless their document says `tickets: false`.
create view ticket_listeners as
select name from listeners
where role = 'terminator' and coalesce((spec #>> '{tls,tickets}')::boolean, true);
