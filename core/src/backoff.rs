//! How long to wait before trying again: exponential back-off with full jitter
//! ("Exponential Backoff and Jitter", AWS Architecture Blog, 2015), which spreads
//! a fleet that lost its server at one moment over the whole interval.
//!
//! The draw is an argument. Counting attempts, and when to forget them, is the
//! caller's: the agent's control link and its accept loops.

use std::time::Duration;

/// Waits that double from `base` up to `max`, each drawn from zero upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
}

impl Backoff {
    /// `base` bounds the first wait, `max` every wait.
    pub const fn new(base: Duration, max: Duration) -> Self {
        Self { base, max }
    }

    /// The wait before retry number `attempt` (the first is 0): uniform in
    /// `[0, min(max, base * 2^attempt)]` for a uniform `random` in `[0, 1)`.
    ///
    /// Total: the power stops at 2^32 - 1, a draw outside `[0, 1]` counts as the
    /// nearer end, and one that is not a number as 1.
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let ceiling = self
            .base
            .saturating_mul(2u32.saturating_pow(attempt))
            .min(self.max);
        let drawn = ceiling.as_secs_f64() * random.clamp(0.0, 1.0);
        Duration::try_from_secs_f64(drawn)
            .unwrap_or(ceiling)
            .min(ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        for (attempt, random, millis) in [
            (0, 0.0, 0),
            (0, 0.5, 50),
            (0, 1.0, 100),
            (1, 1.0, 200),
            (3, 0.5, 400),
            (8, 1.0, 25_600),
            (9, 1.0, 30_000),
            (u32::MAX, 0.5, 15_000),
        ] {
            assert_eq!(
                backoff.delay(attempt, random),
                Duration::from_millis(millis),
                "attempt {attempt}, draw {random}"
            );
        }
    }

    #[test]
    fn extremes_neither_overflow_nor_panic() {
        let longest = Backoff::new(Duration::MAX, Duration::MAX);
        assert_eq!(longest.delay(u32::MAX, 1.0), Duration::MAX);
        assert_eq!(longest.delay(0, f64::NAN), Duration::MAX);
        assert_eq!(longest.delay(7, f64::NEG_INFINITY), Duration::ZERO);
        assert_eq!(
            Backoff::new(Duration::ZERO, Duration::MAX).delay(99, 0.9),
            Duration::ZERO
        );
    }

    proptest! {
        #[test]
        fn a_delay_stays_under_both_bounds(
            base in any::<Duration>(),
            max in any::<Duration>(),
            attempt in any::<u32>(),
            random in any::<f64>(),
        ) {
            let delay = Backoff::new(base, max).delay(attempt, random);
            prop_assert!(delay <= max);
            prop_assert!(delay <= base.saturating_mul(2u32.saturating_pow(attempt)));
        }

        #[test]
        fn a_larger_draw_never_waits_less(attempt in 0u32..40, a in 0.0..1.0, b in 0.0..1.0) {
            let backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(60));
            let (less, more) = (f64::min(a, b), f64::max(a, b));
            prop_assert!(backoff.delay(attempt, less) <= backoff.delay(attempt, more));
        }
    }
}
