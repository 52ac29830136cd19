//! The time and the dice: everything that decides takes them as arguments, and
//! gets them here.

use std::hash::{BuildHasher, RandomState};

use time::OffsetDateTime;

/// Now.
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// A random number from 0 up to, not including, 1. For jitter, not for secrets.
pub(crate) fn draw() -> f64 {
    // Each RandomState has keys of its own.
    let bits = RandomState::new().hash_one(()) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}
