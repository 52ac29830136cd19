//! A drain with a pace: how many of a backend's live connections are closed now.
//!
//! Pure. The agent asks a few times a second, closes as many as it is told, and
//! says how many are left; which ones they are is its own choice.

use crate::keyed::below;
use crate::snapshot::DrainPace;

/// One backend's drain under way.
#[derive(Clone, Debug)]
pub struct Drain {
    pace: DrainPace,
    /// Until when its pace has been followed, in milliseconds since 1970.
    at: u64,
    /// What has been earned and not been used, in thousandths of a connection.
    earned: u64,
}

impl Drain {
    /// One that begins to be followed at `now`, in milliseconds since 1970. Where it
    /// began earlier (this agent was started again) what is left is spread over the
    /// time that is left.
    pub fn new(pace: DrainPace, now: u64) -> Self {
        Self {
            pace,
            at: now,
            earned: 0,
        }
    }

    /// Its pace.
    pub fn pace(&self) -> DrainPace {
        self.pace
    }

    /// How many of `live` connections are closed by `now`. `draw` is random: agents and
    /// backends that drain together do not close together.
    pub fn step(&mut self, now: u64, live: usize, draw: u64) -> usize {
        let passed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        match self.pace {
            DrainPace::PerSecond(rate) => {
                let earned = u64::from(rate.get()).saturating_mul(passed);
                self.earned = self.earned.saturating_add(earned);
                let due = usize::try_from(self.earned / 1000).unwrap_or(usize::MAX);
                self.earned %= 1000;
                due.min(live)
            }
            DrainPace::Until { since, until } => {
                if now >= until {
                    return live;
                }
                // Of what is left, the part of the time left that has passed; the
                // fraction by chance.
                let passed = passed.min(now.saturating_sub(since));
                let time = passed.saturating_add(until - now).max(1);
                let share = u128::from(passed) * live as u128;
                let (whole, part) = (share / u128::from(time), share % u128::from(time));
                let one_more = u128::from(below(draw, time)) < part;
                let due = whole + u128::from(one_more);
                usize::try_from(due).unwrap_or(live).min(live)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyed::mix;
    use proptest::prelude::*;

    /// How many are left after each step of `every` milliseconds.
    fn left(pace: DrainPace, mut live: usize, every: u64, steps: u64) -> Vec<usize> {
        let mut drain = Drain::new(pace, 1_000);
        (1..=steps)
            .map(|step| {
                live -= drain.step(1_000 + step * every, live, mix(step));
                live
            })
            .collect()
    }

    #[test]
    fn a_rate_is_kept_to_whatever_the_steps() {
        let rate = DrainPace::PerSecond(3.try_into().unwrap());
        assert_eq!(left(rate, 10, 1_000, 4), [7, 4, 1, 0]);
        assert_eq!(left(rate, 10, 250, 8)[7], 4);
    }

    #[test]
    fn a_deadline_is_met_and_not_at_once() {
        let until = DrainPace::Until {
            since: 1_000,
            until: 11_000,
        };
        let left = left(until, 1_000, 250, 40);
        assert_eq!(left[39], 0);
        for (step, left) in left.iter().enumerate() {
            let even = 1_000 - (step + 1) * 25;
            assert!(left.abs_diff(even) < 40, "{left} after step {step}");
        }
    }

    #[test]
    fn a_drain_that_is_over_closes_what_is_left_and_one_to_come_nothing() {
        let over = DrainPace::Until {
            since: 0,
            until: 500,
        };
        assert_eq!(Drain::new(over, 1_000).step(1_000, 7, 0), 7);
        let later = DrainPace::Until {
            since: 5_000,
            until: 9_000,
        };
        assert_eq!(Drain::new(later, 1_000).step(4_000, 7, u64::MAX), 0);
    }

    proptest! {
        #[test]
        fn never_more_than_there_are_and_at_the_deadline_none_is_left(
            live in 0usize..5_000,
            since in 0u64..10_000,
            length in 0u64..100_000,
            steps in proptest::collection::vec((0u64..5_000, any::<u64>()), 0..50),
        ) {
            let until = since + length;
            let mut drain = Drain::new(DrainPace::Until { since, until }, since);
            let (mut now, mut left) = (since, live);
            for (passed, draw) in steps {
                now += passed;
                let due = drain.step(now, left, draw);
                prop_assert!(due <= left);
                left -= due;
            }
            left -= drain.step(now.max(until), left, 0);
            prop_assert_eq!(left, 0);
        }
    }
}
