//! What handshakes on a listener come to, in numbers. Whatever clients choose freely is
//! counted under names that we know: nobody can make the numbers more.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::Error;

use super::agreed::Agreed;
use super::handshake::Failure;

/// Upper bounds of how long handshakes take, in milliseconds. On one continent the client's
/// round trip makes the most of it.
pub(crate) const BOUNDS_MS: [u64; 10] = [1, 2, 5, 10, 25, 50, 100, 250, 1000, 5000];
/// Names of servers that are counted by themselves.
const MOST_NAMES: usize = 1000;

/// Handshakes of a listener.
#[derive(Debug, Default)]
pub(crate) struct Handshakes(Mutex<Counted>);

/// The counts themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) full: u64,
    pub(crate) resumed: u64,
    /// By why.
    pub(crate) failed: BTreeMap<&'static str, u64>,
    pub(crate) versions: BTreeMap<&'static str, u64>,
    pub(crate) suites: BTreeMap<&'static str, u64>,
    pub(crate) groups: BTreeMap<&'static str, u64>,
    /// By name as a certificate has it, `other` for those that none has, `none`.
    pub(crate) names: BTreeMap<String, u64>,
    pub(crate) times: Times,
}

/// How long handshakes took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    /// How many took up to each of [`BOUNDS_MS`] and no less, and how many longer.
    pub(crate) counts: [u64; BOUNDS_MS.len() + 1],
    pub(crate) sum: Duration,
}

impl Handshakes {
    /// Counts one that has come to something; `name` is the certificate's for the host.
    pub(crate) fn shaken(&self, agreed: &Agreed, name: Option<&str>, took: Duration) {
        let mut counted = self.lock();
        match agreed.resumed {
            true => counted.resumed += 1,
            false => counted.full += 1,
        }
        *counted.versions.entry(agreed.version()).or_default() += 1;
        *counted.suites.entry(agreed.suite()).or_default() += 1;
        let group = agreed.group().unwrap_or("none");
        *counted.groups.entry(group).or_default() += 1;
        let name = match (&agreed.server_name, name) {
            (None, _) => "none",
            (Some(_), Some(name)) => name,
            (Some(_), None) => "other",
        };
        match counted.names.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                let is_full = counted.names.len() >= MOST_NAMES;
                let name = if is_full { "other" } else { name };
                *counted.names.entry(name.to_owned()).or_default() += 1;
            }
        }
        counted.times.add(took);
    }

    /// Counts one that has come to nothing.
    pub(crate) fn failed(&self, why: &'static str) {
        *self.lock().failed.entry(why).or_default() += 1;
    }

    /// How many have come to something so far.
    pub(crate) fn shaken_so_far(&self) -> u64 {
        let counted = self.lock();
        counted.full + counted.resumed
    }

    /// How many of these resumed a session.
    pub(crate) fn resumed_so_far(&self) -> u64 {
        self.lock().resumed
    }

    /// How many have come to nothing.
    pub(crate) fn failed_so_far(&self) -> u64 {
        self.lock().failed.values().sum()
    }

    /// What was counted so far.
    pub(crate) fn counted(&self) -> Counted {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Times {
    fn add(&mut self, took: Duration) {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let place = BOUNDS_MS.partition_point(|&bound| bound < millis);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.sum += took;
    }
}

impl Failure {
    /// Why, in one word of a few.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken(_) => "reset",
            Self::UnknownName => "unknown_name",
            Self::TooLong => "malformed",
            Self::Refused(error) => match error {
                Error::PeerIncompatible(_) | Error::NoApplicationProtocol => "nothing_in_common",
                Error::NoCertificatesPresented | Error::InvalidCertificate(_) => {
                    "client_certificate"
                }
                // It does not like our certificate, mostly.
                Error::AlertReceived(_) => "refused_by_client",
                Error::InvalidMessage(_) => "malformed",
                Error::PeerMisbehaved(_)
                | Error::InappropriateMessage { .. }
                | Error::InappropriateHandshakeMessage { .. }
                | Error::DecryptError
                | Error::PeerSentOversizedRecord => "misbehaved",
                _ => "internal",
            },
        }
    }
}
