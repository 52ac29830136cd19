//! TLS towards clients. rustls shakes hands (`handshake`, with the `certificates` and
//! `keys` that `terms` puts together for a listener); what follows is ours: `record`,
//! `session` and the `stream` that connections read and write (ADR 009).

mod agreed;
mod certificates;
mod counts;
mod handshake;
mod keys;
mod record;
mod session;
mod stream;
mod terms;

pub(crate) use self::agreed::Agreed;
pub(crate) use self::certificates::{Identities, identities};
pub(crate) use self::counts::{BOUNDS_MS, Counted, Handshakes, Times};
pub(crate) use self::handshake::{Failure, Terms, Unshaken, shake};
pub(crate) use self::keys::Keys;
pub(crate) use self::stream::Stream;
pub(crate) use self::terms::terms;
