//! `tidegate`: the control plane, and the command line that talks to it.

mod ca;
mod clock;
mod fleet;
mod incoming;
mod ingest;
mod link;
mod model;
mod publish;
mod seal;
mod store;

fn main() {}
