//! Where snapshots come from, and putting them to work. Standalone the source
//! is a file; the control plane will be another.

pub(crate) mod apply;
pub(crate) mod standalone;

use std::hash::{BuildHasher, RandomState};

/// A random number from 0 up to, not including, 1. For jitter, not for secrets.
pub(crate) fn draw() -> f64 {
    // Each RandomState has keys of its own.
    let bits = RandomState::new().hash_one(()) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    #[test]
    fn draws_differ_and_stay_below_one() {
        let draws: Vec<f64> = (0..100).map(|_| super::draw()).collect();
        assert!(draws.iter().all(|d| (0.0..1.0).contains(d)));
        assert!(draws.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
