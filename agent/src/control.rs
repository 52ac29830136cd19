//! Where snapshots come from, and putting them to work. Standalone the source
//! is a file; in a fleet it is the control plane, over the link.
//!
//! The link, in the order an agent goes through it: `enroll` (token for
//! identity), `dial`, `session` (what to run), with `renew` and `report` (of a
//! size that `fit` sees to) beside it; `fleet` dials again, and carries out what the session is told.

pub(crate) mod apply;
pub(crate) mod cache;
mod dial;
mod enroll;
#[cfg(test)]
mod fake;
mod fit;
pub(crate) mod fleet;
mod identity;
mod link_tls;
mod renew;
mod report;
mod session;
pub(crate) mod standalone;
mod state_dir;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};

/// A random number from 0 up to, not including, 1. For jitter, not for secrets.
pub(crate) fn draw() -> f64 {
    (draw_bits() >> 11) as f64 / (1_u64 << 53) as f64
}

/// As [`draw`], any 64 bits.
pub(crate) fn draw_bits() -> u64 {
    // Each RandomState has keys of its own.
    RandomState::new().hash_one(())
}

/// What went wrong last with each control plane, so that the same is said once.
#[derive(Default)]
struct Failures(HashMap<String, String>);

impl Failures {
    /// Logs it, unless it is what was logged last.
    fn note(&mut self, control_plane: &str, error: &impl Display, what: &str) {
        let said = error.to_string();
        if self.0.get(control_plane) == Some(&said) {
            tracing::debug!(control_plane, error = said, "{what}");
        } else {
            tracing::warn!(control_plane, error = said, "{what}");
            self.0.insert(control_plane.to_owned(), said);
        }
    }

    /// It went right meanwhile.
    fn clear(&mut self) {
        self.0.clear();
    }
}

/// What kind of error a control plane says it is.
fn reason_of(status: &tonic::Status) -> Option<&str> {
    status.metadata().get(tidegate_proto::REASON)?.to_str().ok()
}

/// An error with all that caused it; transports say little themselves.
fn in_full(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        next = cause.source();
    }
    words
}

#[cfg(test)]
mod draws {
    #[test]
    fn draws_differ_and_stay_below_one() {
        let draws: Vec<f64> = (0..100).map(|_| super::draw()).collect();
        assert!(draws.iter().all(|d| (0.0..1.0).contains(d)));
        assert!(draws.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
