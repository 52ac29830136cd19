//! Rise and fall: when a row of check results makes a backend up or down, as in
//! HAProxy (`rise`, `fall` and the counter behind them), how soon the next check
//! comes, and how slowly a backend that is up again gets its share.
//!
//! Owns that state machine and nothing else: probing is the agent's, passive
//! detection [`ejection`](crate::ejection)'s, and what comes of all these together
//! with admin states is decided in [`pick`](crate::pick). One [`Health`] lives as long as
//! the backend's identity and survives new snapshots through [`Health::retune`].

use std::num::NonZeroU8;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many results in a row change a backend's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Thresholds {
    /// Consecutive passes that make a backend that is down up.
    pub rise: NonZeroU8,
    /// Consecutive failures that make a backend that is up down.
    pub fall: NonZeroU8,
}

/// From the start of one check to the start of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Normally (HAProxy's `inter`).
    pub interval: Duration,
    /// While a change is in the air (`fastinter`); `interval` when absent.
    pub fast: Option<Duration>,
    /// While it is down (`downinter`); `interval` when absent.
    pub down: Option<Duration>,
}

/// What is believed of a backend before its first result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Up, at the lowest notch: the first result decides, one failure takes it
    /// down and one pass confirms it. For backends present at start-up, which
    /// must serve before the first round of checks.
    PresumedUp,
    /// Down until `rise` passes. For backends that join later.
    Down,
}

/// The result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend answered as expected.
    Pass,
    /// It did not, in time.
    Fail,
}

/// A change of state, for the log and for whoever picks backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// It was down and is up.
    Up,
    /// It was up and is down.
    Down,
}

/// Up or down, and how close to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    thresholds: Thresholds,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    PresumedUp,
    /// Failures in a row so far.
    Up(u8),
    /// Passes in a row so far.
    Down(u8),
}

impl Health {
    /// A backend without results yet.
    pub fn new(thresholds: Thresholds, start: Start) -> Self {
        let state = match start {
            Start::PresumedUp => State::PresumedUp,
            Start::Down => State::Down(0),
        };
        Self { thresholds, state }
    }

    /// Whether it may get new connections, as far as checks go.
    pub fn is_up(&self) -> bool {
        !matches!(self.state, State::Down(_))
    }

    /// Takes one result; `Some` exactly when [`is_up`](Self::is_up) changes.
    pub fn observe(&mut self, outcome: Outcome) -> Option<Transition> {
        let Thresholds { rise, fall } = self.thresholds;
        let (state, transition) = match (self.state, outcome) {
            (State::PresumedUp | State::Up(_), Outcome::Pass) => (State::Up(0), None),
            (State::PresumedUp, Outcome::Fail) => (State::Down(0), Some(Transition::Down)),
            (State::Up(failures), Outcome::Fail) => match failures.saturating_add(1) {
                failures if failures >= fall.get() => (State::Down(0), Some(Transition::Down)),
                failures => (State::Up(failures), None),
            },
            (State::Down(passes), Outcome::Pass) => match passes.saturating_add(1) {
                passes if passes >= rise.get() => (State::Up(0), Some(Transition::Up)),
                passes => (State::Down(passes), None),
            },
            (State::Down(_), Outcome::Fail) => (State::Down(0), None),
        };
        self.state = state;
        transition
    }

    /// How long until the next check: fast while results are neither those of a
    /// backend that is up nor of one that is down, before the first result included.
    pub fn pace(&self, pace: &Pace) -> Duration {
        let special = match self.state {
            State::Up(0) => None,
            State::Down(0) => pace.down,
            State::PresumedUp | State::Up(_) | State::Down(_) => pace.fast,
        };
        special.unwrap_or(pace.interval)
    }

    /// New thresholds from a new snapshot. Never a transition by itself: results
    /// counted so far stand, and the next one is judged by the new numbers.
    pub fn retune(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }
}

/// One unit of a document's weight, as [`View::weight`](crate::pick::View::weight)
/// counts them.
pub const WEIGHT_UNIT: u32 = 256;

/// A backend's weight at this moment, in 1/256ths of a unit (slow start, HAProxy's
/// `slowstart`): from next to nothing when it recovers up to `weight`, in a straight
/// line over `slow_start`, so that a process with cold caches is not met with its
/// whole share.
///
/// `since_recovery` is the time since its checks made it up; `None` for one that
/// was never seen down, which takes its whole share: at the start of an agent all
/// backends are such, and would only be slow together. Never 0 unless `weight` is.
pub fn ramp(weight: u32, since_recovery: Option<Duration>, slow_start: Duration) -> u32 {
    let full = weight.saturating_mul(WEIGHT_UNIT);
    match since_recovery {
        Some(since) if since < slow_start => {
            // Below 2^32, since the fraction is below 1; 2^32 * 2^94 fits.
            let part = u128::from(full) * since.as_nanos() / slow_start.as_nanos();
            u32::try_from(part).unwrap_or(full).max(full.min(1))
        }
        _ => full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn thresholds(rise: u8, fall: u8) -> Thresholds {
        Thresholds {
            rise: NonZeroU8::new(rise).unwrap(),
            fall: NonZeroU8::new(fall).unwrap(),
        }
    }

    /// `+` passes, `-` fails; answers `U` and `D` for transitions, `.` for none.
    fn play(health: &mut Health, results: &str) -> String {
        results
            .chars()
            .map(|result| {
                let outcome = if result == '+' {
                    Outcome::Pass
                } else {
                    Outcome::Fail
                };
                match health.observe(outcome) {
                    Some(Transition::Up) => 'U',
                    Some(Transition::Down) => 'D',
                    None => '.',
                }
            })
            .collect()
    }

    #[test]
    fn rows_of_results_make_transitions() {
        use Start::{Down, PresumedUp};
        for (start, results, transitions) in [
            (PresumedUp, "-", "D"),
            (PresumedUp, "+--+---", "......D"),
            (PresumedUp, "-++", "D.U"),
            (Down, "++", ".U"),
            (Down, "+-+-++", ".....U"),
            (Down, "++---", ".U..D"),
            (Down, "++--+--+", ".U......"),
            (Down, "----", "...."),
        ] {
            let mut health = Health::new(thresholds(2, 3), start);
            assert_eq!(
                play(&mut health, results),
                transitions,
                "{start:?} {results}"
            );
        }
    }

    #[test]
    fn the_largest_thresholds_are_reached() {
        let mut health = Health::new(thresholds(255, 255), Start::Down);
        assert_eq!(play(&mut health, &"+".repeat(255)), ".".repeat(254) + "U");
        assert_eq!(play(&mut health, &"-".repeat(255)), ".".repeat(254) + "D");
    }

    #[test]
    fn new_thresholds_wait_for_the_next_result() {
        let mut health = Health::new(thresholds(2, 9), Start::Down);
        assert_eq!(play(&mut health, "++-----"), ".U.....");
        health.retune(thresholds(2, 2));
        assert!(health.is_up());
        assert_eq!(play(&mut health, "-"), "D");
    }

    const PACE: Pace = Pace {
        interval: Duration::from_secs(2),
        fast: Some(Duration::from_secs(1)),
        down: Some(Duration::from_secs(5)),
    };

    #[test]
    fn checks_are_fast_in_transition_and_slow_when_down() {
        use Start::{Down, PresumedUp};
        for (start, results, seconds) in [
            (PresumedUp, "", 1),
            (PresumedUp, "+", 2),
            (PresumedUp, "-", 5),
            (PresumedUp, "+-", 1),
            (PresumedUp, "+-+", 2),
            (PresumedUp, "+---", 5),
            (Down, "", 5),
            (Down, "+", 1),
            (Down, "+-", 5),
            (Down, "++", 2),
        ] {
            let mut health = Health::new(thresholds(2, 3), start);
            play(&mut health, results);
            let expected = Duration::from_secs(seconds);
            assert_eq!(health.pace(&PACE), expected, "{start:?} {results}");
            let plain = Pace {
                fast: None,
                down: None,
                ..PACE
            };
            assert_eq!(health.pace(&plain), PACE.interval);
        }
    }

    #[test]
    fn a_recovered_backend_gets_its_share_in_a_straight_line() {
        let minute = Duration::from_mins(1);
        let since = |seconds| Some(Duration::from_secs(seconds));
        for (weight, since, share) in [
            (10, None, 2_560),
            (10, since(0), 1),
            (10, since(15), 640),
            (10, since(30), 1_280),
            (10, since(59), 2_517),
            (10, since(60), 2_560),
            (10, since(999), 2_560),
            (1, since(1), 4),
            (0, since(30), 0),
            (0, None, 0),
            (u32::MAX, since(59), 4_223_384_506),
        ] {
            assert_eq!(ramp(weight, since, minute), share, "{weight} {since:?}");
        }
        assert_eq!(ramp(3, since(0), Duration::ZERO), 768);
        assert_eq!(ramp(1, Some(Duration::MAX - minute), Duration::MAX), 255);
    }

    #[test]
    fn a_presumption_survives_new_thresholds() {
        let mut health = Health::new(thresholds(1, 1), Start::PresumedUp);
        health.retune(thresholds(5, 5));
        assert_eq!(play(&mut health, "-"), "D");
    }

    /// HAProxy's own formulation (`src/check.c`): one counter, up from `rise`.
    struct Counter {
        rise: u16,
        fall: u16,
        health: u16,
    }

    impl Counter {
        fn observe(&mut self, outcome: Outcome) {
            match outcome {
                Outcome::Pass => {
                    self.health += 1;
                    if self.health >= self.rise {
                        self.health = self.rise + self.fall - 1;
                    }
                }
                Outcome::Fail if self.health > self.rise => self.health -= 1,
                Outcome::Fail => self.health = 0,
            }
        }

        /// `srv_getinter`.
        fn pace(&self) -> Duration {
            if self.health == self.rise + self.fall - 1 {
                PACE.interval
            } else if self.health == 0 {
                PACE.down.unwrap()
            } else {
                PACE.fast.unwrap()
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_haproxys_counter(
            rise in 1u8..6,
            fall in 1u8..6,
            presumed_up in any::<bool>(),
            passes in proptest::collection::vec(any::<bool>(), 0..80),
        ) {
            let start = if presumed_up { Start::PresumedUp } else { Start::Down };
            let mut health = Health::new(thresholds(rise, fall), start);
            let (rise, fall) = (u16::from(rise), u16::from(fall));
            let mut model = Counter { rise, fall, health: if presumed_up { rise } else { 0 } };
            for pass in passes {
                let was_up = health.is_up();
                let outcome = if pass { Outcome::Pass } else { Outcome::Fail };
                let transition = health.observe(outcome);
                model.observe(outcome);
                prop_assert_eq!(health.is_up(), model.health >= rise);
                let expected = match (was_up, health.is_up()) {
                    (false, true) => Some(Transition::Up),
                    (true, false) => Some(Transition::Down),
                    _ => None,
                };
                prop_assert_eq!(transition, expected);
                prop_assert_eq!(health.pace(&PACE), model.pace());
            }
        }

        #[test]
        fn retuning_never_changes_the_state(
            steps in proptest::collection::vec((any::<bool>(), 1u8..=255, 1u8..=255), 0..80),
        ) {
            let mut health = Health::new(thresholds(2, 3), Start::PresumedUp);
            for (pass, rise, fall) in steps {
                health.observe(if pass { Outcome::Pass } else { Outcome::Fail });
                let was_up = health.is_up();
                health.retune(thresholds(rise, fall));
                prop_assert_eq!(health.is_up(), was_up);
            }
        }
    }
}
