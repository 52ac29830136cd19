//! Choosing by load: the least loaded of all, the less loaded of two, and who is
//! over a bound. Pure functions of what is eligible; nothing is remembered.

use std::cmp::Ordering;

use super::{Candidate, Load};
use crate::keyed::{below, mix};

/// Compares (in flight + 1) / weight, the load a backend *would* have with this
/// connection; idle ones come first and are equal, whatever their weight. Both as
/// HAProxy does (`leastconn`): a light backend is not left out for as long as
/// clients come one at a time.
fn compare(one: Load, other: Load) -> Ordering {
    let cost = |load: Load| match load.in_flight {
        0 => 0,
        connections => u64::from(connections) + 1,
    };
    // a/b < c/d as a*d < c*b: 33 bits by 32 bits need more than 64.
    let left = u128::from(cost(one)) * u128::from(other.weight);
    let right = u128::from(cost(other)) * u128::from(one.weight);
    left.cmp(&right)
}

/// The least loaded; the first of equals.
pub(super) fn least<'a>(eligible: impl Iterator<Item = &'a Candidate>) -> Option<usize> {
    eligible
        .min_by(|one, other| compare(one.load, other.load))
        .map(|least| least.index)
}

/// Two different ones drawn by weight, and the less loaded of them: close to the
/// least of all, while balancers that cannot see each other's connections do not
/// all run to the same backend (Mitzenmacher, "The Power of Two Choices", 2001).
pub(super) fn of_two(eligible: &[Candidate], draw: u64) -> Option<usize> {
    let total = eligible.iter().map(|c| u64::from(c.load.weight)).sum();
    let one = at_share(eligible.iter(), below(draw, total))?;
    let others = || eligible.iter().filter(|c| c.index != one.index);
    let left = total - u64::from(one.load.weight);
    match at_share(others(), below(mix(draw), left)) {
        Some(other) if compare(other.load, one.load).is_lt() => Some(other.index),
        _ => Some(one.index),
    }
}

/// Whose share `at` falls into, when the shares are laid end to end.
fn at_share<'a>(
    mut among: impl Iterator<Item = &'a Candidate>,
    mut at: u64,
) -> Option<&'a Candidate> {
    among.find(|candidate| {
        let share = u64::from(candidate.load.weight);
        let here = at < share;
        at = at.saturating_sub(share);
        here
    })
}

/// The bound of consistent hashing with bounded loads (Mirrokni, Thorup and
/// Zadimoghaddam, SODA 2018): nobody gets more than so many percent of the mean.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    /// Connections if this one is made, times the percentage.
    allowed: u128,
    weight: u64,
}

impl Bound {
    /// Among `eligible`; below 100 percent nobody might be left, so 100 is the
    /// least. The mean counts the connection that is being placed.
    pub(super) fn new(eligible: &[Candidate], percent: u16) -> Self {
        let in_flight: u64 = eligible.iter().map(|c| u64::from(c.load.in_flight)).sum();
        Self {
            allowed: u128::from(in_flight + 1) * u128::from(percent.max(100)),
            weight: eligible.iter().map(|c| u64::from(c.load.weight)).sum(),
        }
    }

    /// Whether one more connection stays within ceil(percent × weighted mean).
    ///
    /// Somebody always does: the bounds sum to more than all connections there are.
    pub(super) fn admits(self, load: Load) -> bool {
        let mean = u128::from(self.weight.max(1)) * 100;
        u128::from(load.in_flight) < (self.allowed * u128::from(load.weight)).div_ceil(mean)
    }
}
