//! Passive detection: a backend that refuses a row of real connections is ejected
//! for a while, between two checks or without any.
//!
//! Owns that state machine, one [`Ejection`] per backend, and the bound on a pool.
//! What ejection means for a choice is [`pick`](crate::pick)'s: the least of all
//! that is known of a backend, and ignored rather than having nobody. The agent
//! calls it after each connect. Times are durations since an epoch of its choice.

use std::num::NonZeroU8;
use std::time::Duration;

/// When a backend is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Consecutive failed connects that eject it.
    pub failures: NonZeroU8,
    /// How long the first time. Each further time takes twice as long.
    pub base: Duration,
    /// At most this long.
    pub longest: Duration,
}

impl Default for Rules {
    /// 3 failures, 10 seconds, 5 minutes.
    fn default() -> Self {
        Self {
            failures: NonZeroU8::MIN.saturating_add(2),
            base: Duration::from_secs(10),
            longest: Duration::from_mins(5),
        }
    }
}

/// What a backend's connects say of it.
///
/// An ejection takes `base * 2^n`, where n counts the ejections before it, less one
/// for each `base` that has passed since the last one ended: as Envoy's outlier
/// detection lets its multiplier fall by one in each interval without ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    rules: Rules,
    /// Failures in a row so far, while it is not ejected.
    failures: u8,
    /// n, as it was when the last ejection ended.
    times: u32,
    /// When the last ejection ends or ended; zero before the first.
    until: Duration,
}

impl Ejection {
    /// A backend about which nothing is known.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            failures: 0,
            times: 0,
            until: Duration::ZERO,
        }
    }

    /// Takes a failed connect; `Some` with its end when that ejects the backend.
    ///
    /// `may_eject` is [`may_eject`]'s answer: without it failures are remembered,
    /// and the next one asks again. Failures during an ejection are those of
    /// connects begun before it, or of a choice that had nobody else, and change
    /// nothing.
    pub fn failed(&mut self, now: Duration, may_eject: bool) -> Option<Duration> {
        if self.is_ejected(now) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < self.rules.failures.get() || !may_eject {
            return None;
        }
        let times = self.times_at(now);
        let doubled = 2u32.saturating_pow(times);
        let time = self.rules.base.saturating_mul(doubled);
        self.failures = 0;
        self.times = times.saturating_add(1);
        self.until = now.saturating_add(time.min(self.rules.longest));
        Some(self.until)
    }

    /// Takes a connect that succeeded: the row of failures is over. An ejection is
    /// not: a backend that takes every other connection is none to keep.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Whether it is ejected.
    pub fn is_ejected(&self, now: Duration) -> bool {
        now < self.until
    }

    /// New rules from a new snapshot; they hold from the next failure on.
    pub fn retune(&mut self, rules: Rules) {
        self.rules = rules;
    }

    fn times_at(&self, now: Duration) -> u32 {
        let survived = now.saturating_sub(self.until).as_nanos();
        let less = survived.checked_div(self.rules.base.as_nanos());
        // Without a base nothing is ever remembered.
        let less = less.map_or(u32::MAX, |less| u32::try_from(less).unwrap_or(u32::MAX));
        self.times.saturating_sub(less)
    }
}

/// Whether one more backend of a pool may be ejected: at most half of those that
/// are up, and so never the last one.
///
/// `up` counts the backends that are open and up, ejected or not, so that those
/// which are down do not make room for more; `ejected` those of them that are
/// ejected already.
pub fn may_eject(up: usize, ejected: usize) -> bool {
    ejected < up / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Fails until it is ejected.
    fn eject(ejection: &mut Ejection, now: u64) -> Duration {
        (0..=255)
            .find_map(|_| ejection.failed(seconds(now), true))
            .unwrap()
    }

    #[test]
    fn a_row_of_failures_ejects() {
        let mut ejection = Ejection::new(Rules::default());
        for _ in 0..5 {
            assert_eq!(ejection.failed(seconds(1), true), None);
            assert_eq!(ejection.failed(seconds(1), true), None);
            ejection.succeeded();
        }
        assert!(!ejection.is_ejected(seconds(1)));
        assert_eq!(ejection.failed(seconds(2), true), None);
        assert_eq!(ejection.failed(seconds(2), true), None);
        assert_eq!(ejection.failed(seconds(2), true), Some(seconds(12)));
        assert!(ejection.is_ejected(seconds(11)));
        assert!(!ejection.is_ejected(seconds(12)));
    }

    #[test]
    fn nothing_changes_during_an_ejection() {
        let mut ejection = Ejection::new(Rules::default());
        eject(&mut ejection, 0);
        for _ in 0..9 {
            assert_eq!(ejection.failed(seconds(5), true), None);
        }
        ejection.succeeded();
        assert!(ejection.is_ejected(seconds(9)));
        // Back again, a whole row is needed again.
        assert_eq!(ejection.failed(seconds(10), true), None);
        assert_eq!(ejection.failed(seconds(10), true), None);
        assert!(ejection.failed(seconds(10), true).is_some());
    }

    #[test]
    fn each_time_takes_twice_as_long_up_to_the_longest() {
        let mut ejection = Ejection::new(Rules::default());
        let mut now = 0;
        for time in [10, 20, 40, 80, 160, 300, 300] {
            let until = eject(&mut ejection, now);
            assert_eq!(until, seconds(now + time));
            now = until.as_secs();
        }
    }

    #[test]
    fn each_base_survived_takes_one_time_back() {
        for (survived, time) in [(0, 80), (9, 80), (10, 40), (25, 20), (30, 10), (9_999, 10)] {
            let mut ejection = Ejection::new(Rules::default());
            let mut now = 0;
            for _ in 0..3 {
                now = eject(&mut ejection, now).as_secs();
            }
            now += survived;
            assert_eq!(eject(&mut ejection, now), seconds(now + time), "{survived}");
        }
    }

    #[test]
    fn a_refused_ejection_is_asked_for_again() {
        let mut ejection = Ejection::new(Rules::default());
        for _ in 0..300 {
            assert_eq!(ejection.failed(seconds(1), false), None);
        }
        assert_eq!(ejection.failed(seconds(1), true), Some(seconds(11)));
    }

    #[test]
    fn new_rules_hold_from_the_next_failure() {
        let mut ejection = Ejection::new(Rules::default());
        eject(&mut ejection, 0);
        ejection.retune(Rules {
            failures: NonZeroU8::MIN,
            base: Duration::ZERO,
            longest: Duration::ZERO,
        });
        assert!(ejection.is_ejected(seconds(9)));
        assert_eq!(ejection.failed(seconds(10), true), Some(seconds(10)));
        assert!(!ejection.is_ejected(seconds(10)));
    }

    #[test]
    fn half_of_a_pool_may_be_ejected_and_never_the_last() {
        for (up, most) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (100, 50)] {
            let ejected = (0..).find(|&ejected| !may_eject(up, ejected));
            assert_eq!(ejected, Some(most), "{up}");
            assert!(most < up.max(1));
        }
    }

    proptest! {
        #[test]
        fn an_ejection_is_never_longer_than_the_longest_nor_shorter_than_the_base(
            failures in 1u8..5,
            base in 1u64..100,
            longest in 100u64..500,
            steps in proptest::collection::vec((0u64..60, any::<bool>(), any::<bool>()), 0..300),
        ) {
            let rules = Rules {
                failures: failures.try_into().unwrap(),
                base: seconds(base),
                longest: seconds(longest),
            };
            let (mut ejection, mut now, mut row) = (Ejection::new(rules), Duration::ZERO, 0);
            for (pause, fails, room) in steps {
                now += seconds(pause);
                let was_ejected = ejection.is_ejected(now);
                if !fails {
                    ejection.succeeded();
                    row = 0;
                } else if let Some(until) = ejection.failed(now, room) {
                    prop_assert!(room && !was_ejected && row + 1 >= failures);
                    prop_assert!((rules.base..=rules.longest).contains(&(until - now)));
                    prop_assert!(ejection.is_ejected(now));
                    row = 0;
                } else if !was_ejected {
                    row += 1;
                    prop_assert!(row < failures || !room);
                }
            }
        }
    }
}
