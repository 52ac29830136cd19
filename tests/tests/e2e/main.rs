//! What users get, end to end: the real agent before real Node.js processes and
//! before backends that misbehave. One module per promise; names are statements.
//!
//! `cargo build --workspace --bins && cargo nextest run -p tidegate-tests`; each
//! test has a network of its own, so any number of them may run at once.

mod algorithms;
mod announce;
mod attacks;
mod backends;
mod beside_haproxy;
mod bounds;
mod causes;
mod certificates;
mod changes;
mod checks;
mod client_first;
mod clients;
mod dashboard;
mod dev;
mod documents;
mod early;
mod faults;
mod fleet_documents;
mod fleet_drain;
mod fleet_join;
mod fleet_link;
mod fleet_outage;
mod fleet_replicas;
mod fleet_secrets;
mod fleet_stats;
mod fleet_traffic;
mod h2;
mod health;
mod hostile;
mod http_mode;
mod kept;
mod listener_each;
mod page;
mod peers;
mod policy;
mod queue;
mod readme;
mod redirect;
mod routes;
mod scale;
mod scanners;
mod shutdown;
mod smuggling;
mod socket_io;
mod sockets;
mod starved;
mod tickets;
mod tiers;
mod timers;
mod tls;
mod transfers;
mod transparent;
mod websockets;
mod whoami;
