//! The last hour in numbers, in memory: of the fleet, and of each agent, listener,
//! pool and backend, a point every [`STEP`]. `observer` adds points, the API reads
//! them. Each control plane keeps its own, and begins anew when it starts.
//!
//! A series costs at most [`POINTS`] points of four bytes for each measure; there are
//! at most [`MOST`] of them, and one that got no point for an hour is forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

/// Between two points.
pub(crate) const STEP: Duration = Duration::from_secs(5);
/// An hour.
const POINTS: usize = 720;
/// 5,000 agents, as many backends, and what is beside them.
const MOST: usize = 20_000;

/// What a series is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Of {
    Fleet,
    Agent(Uuid),
    Listener(String),
    Pool(String),
    /// Of a pool, by name.
    Backend(String, String),
}

impl Of {
    /// What is measured, in the order in which points say it.
    pub(crate) fn measures(&self) -> &'static [&'static str] {
        match self {
            Self::Fleet => &[
                "live",
                "accept_rate",
                "byte_rate",
                "handshake_rate",
                "resumed_rate",
                "agents",
                "agents_connected",
                "agents_in_sync",
            ],
            Self::Agent(_) | Self::Listener(_) => &[
                "live",
                "accept_rate",
                "byte_rate",
                "handshake_rate",
                "resumed_rate",
            ],
            Self::Pool(_) => &["live", "connect_rate", "up", "down", "queued"],
            Self::Backend(..) => &["live", "connect_rate", "up", "down"],
        }
    }
}

/// One point: a value for each of [`Of::measures`].
pub(crate) type Point = Vec<f64>;

/// All series.
#[derive(Default)]
pub(crate) struct Series(Mutex<BTreeMap<Of, Ring>>);

/// What is known of the last hour.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct History {
    /// When the last point was taken; absent where there is none.
    pub(crate) to: Option<OffsetDateTime>,
    /// By measure, oldest first, all of one length; `None` where nothing was known.
    pub(crate) measures: Vec<(&'static str, Vec<Option<f32>>)>,
}

/// The points of one series, one after the other without a gap.
struct Ring {
    /// Of the last point.
    tick: i64,
    /// How many measures.
    width: usize,
    /// Oldest first, all measures of a point one after the other; NaN where nothing was
    /// known.
    values: VecDeque<f32>,
}

/// Which point a moment belongs to.
fn tick(at: OffsetDateTime) -> i64 {
    let step = i64::try_from(STEP.as_secs()).unwrap_or(1).max(1);
    at.unix_timestamp().div_euclid(step)
}

/// Whether a point is of a time that has yet to come: the clock was set back, and what
/// was taken by the wrong one says nothing.
fn is_ahead(point: i64, now: i64) -> bool {
    point.saturating_sub(now) > 1
}

impl Series {
    /// Whether the point of this moment is still to be added.
    pub(crate) fn is_due(&self, now: OffsetDateTime) -> bool {
        let all = self.lock();
        let fleet = all.get(&Of::Fleet);
        fleet.is_none_or(|ring| ring.tick < tick(now) || is_ahead(ring.tick, tick(now)))
    }

    /// Adds a point to each of these, and forgets what got none for an hour. Answers
    /// how many there was no room for.
    pub(crate) fn add(
        &self,
        now: OffsetDateTime,
        points: impl IntoIterator<Item = (Of, Point)>,
    ) -> usize {
        let tick = tick(now);
        let mut all = self.lock();
        all.retain(|_, ring| {
            let old = tick.saturating_sub(ring.tick) >= POINTS as i64;
            !old && !is_ahead(ring.tick, tick)
        });
        let mut refused = 0;
        for (of, point) in points {
            let room = all.len() < MOST;
            match all.get_mut(&of) {
                Some(ring) => ring.add(tick, &point),
                None if room => {
                    all.insert(of, Ring::begin(tick, &point));
                }
                None => refused += 1,
            }
        }
        refused
    }

    /// What is known of one, up to now.
    pub(crate) fn of(&self, of: &Of, now: OffsetDateTime) -> History {
        let all = self.lock();
        let ring = all.get(of);
        let ring = ring.filter(|ring| tick(now).saturating_sub(ring.tick) < POINTS as i64);
        let measure = |(place, name): (usize, &&'static str)| {
            let all = ring.iter().flat_map(|ring| {
                let of_measure = ring.values.iter().skip(place);
                of_measure.step_by(ring.width.max(1))
            });
            let known = all.map(|value| Some(*value).filter(|value| !value.is_nan()));
            (*name, known.collect())
        };
        let end = |ring: &Ring| {
            let seconds = ring.tick.saturating_mul(STEP.as_secs() as i64);
            OffsetDateTime::from_unix_timestamp(seconds).ok()
        };
        History {
            to: ring.and_then(end),
            measures: of.measures().iter().enumerate().map(measure).collect(),
        }
    }

    /// What the lock guards is whole after each single operation.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Of, Ring>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn begin(tick: i64, point: &Point) -> Self {
        Self {
            tick,
            width: point.len(),
            values: narrow(point).collect(),
        }
    }

    fn add(&mut self, tick: i64, point: &Point) {
        if tick <= self.tick {
            // The same moment, or just before it: the first one stays.
            return;
        }
        let missed = usize::try_from(tick - self.tick - 1).unwrap_or(POINTS);
        let gap = std::iter::repeat_n(f32::NAN, missed.min(POINTS) * self.width);
        self.values.extend(gap);
        self.values.extend(narrow(point));
        let surplus = self.values.len().saturating_sub(POINTS * self.width);
        self.values.drain(..surplus);
        self.tick = tick;
    }
}

/// Seven digits are more than a picture shows.
#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
fn narrow(point: &Point) -> impl Iterator<Item = f32> {
    point.iter().map(|value| *value as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_800_000_000;

    fn at(step: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(START + 5 * step + 3).unwrap()
    }

    fn pool(name: &str) -> Of {
        Of::Backend(name.to_owned(), "b".to_owned())
    }

    fn live(history: &History) -> Vec<Option<f32>> {
        assert_eq!(history.measures[0].0, "live");
        history.measures[0].1.clone()
    }

    #[test]
    fn points_stand_in_their_order_and_what_was_missed_is_unknown() {
        let series = Series::default();
        for (step, value) in [(0, 1.0), (1, 2.0), (4, 5.0)] {
            series.add(at(step), [(pool("p"), vec![value, 0.0, 0.0, 0.0])]);
        }
        let history = series.of(&pool("p"), at(5));
        assert_eq!(
            live(&history),
            [Some(1.0), Some(2.0), None, None, Some(5.0)]
        );
        assert_eq!(history.to.unwrap().unix_timestamp(), START + 20);
        assert!(history.measures.iter().all(|(_, values)| values.len() == 5));
        assert_eq!(live(&series.of(&pool("q"), at(5))), []);
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let series = Series::default();
        for step in 0..2000_u16 {
            series.add(
                at(step.into()),
                [(pool("p"), vec![f64::from(step), 0.0, 0.0, 0.0])],
            );
        }
        let kept = live(&series.of(&pool("p"), at(2000)));
        assert_eq!(kept.len(), 720);
        assert_eq!((kept[0], kept[719]), (Some(1280.0), Some(1999.0)));
    }

    #[test]
    fn a_long_gap_costs_no_more_than_an_hour() {
        let series = Series::default();
        series.add(at(0), [(pool("p"), vec![1.0; 4])]);
        series.add(at(719), [(pool("p"), vec![2.0; 4])]);
        assert_eq!(live(&series.of(&pool("p"), at(719))).len(), 720);
        series.add(at(10_000_000), [(pool("p"), vec![3.0; 4])]);
        assert_eq!(live(&series.of(&pool("p"), at(10_000_000))), [Some(3.0)]);
    }

    #[test]
    fn a_clock_that_was_set_back_begins_anew() {
        let series = Series::default();
        series.add(
            at(100),
            [(Of::Fleet, vec![1.0; 8]), (pool("p"), vec![1.0; 4])],
        );
        assert!(series.is_due(at(3)));
        series.add(
            at(3),
            [(Of::Fleet, vec![2.0; 8]), (pool("p"), vec![2.0; 4])],
        );
        assert_eq!(live(&series.of(&pool("p"), at(3))), [Some(2.0)]);
        // A step back by less than two is the same moment.
        series.add(at(2), [(pool("p"), vec![3.0; 4])]);
        assert_eq!(live(&series.of(&pool("p"), at(3))), [Some(2.0)]);
    }

    #[test]
    fn a_series_costs_what_is_said() {
        let series = Series::default();
        for step in 0..2000_u16 {
            series.add(at(step.into()), [(Of::Agent(Uuid::nil()), vec![1.0; 5])]);
        }
        let bytes = series.lock()[&Of::Agent(Uuid::nil())].values.capacity() * 4;
        assert!(bytes <= 20 << 10, "{bytes}");
    }

    #[test]
    fn what_gets_no_point_for_an_hour_is_forgotten() {
        let series = Series::default();
        series.add(at(0), [(pool("p"), vec![1.0; 4])]);
        assert_eq!(series.of(&pool("p"), at(720)).to, None);
        series.add(at(720), [(pool("q"), vec![1.0; 4])]);
        assert_eq!(series.lock().len(), 1);
    }

    #[test]
    fn there_is_a_bound_and_those_that_are_there_go_on() {
        let series = Series::default();
        let many = |count: usize| (0..count).map(|n| (pool(&n.to_string()), vec![1.0; 4]));
        assert_eq!(series.add(at(0), many(MOST + 7)), 7);
        assert_eq!(series.add(at(1), many(MOST)), 0);
        assert_eq!(live(&series.of(&pool("0"), at(1))).len(), 2);
    }

    #[test]
    fn a_point_is_due_once_a_step() {
        let series = Series::default();
        assert!(series.is_due(at(0)));
        series.add(at(0), [(Of::Fleet, vec![0.0; 8])]);
        assert!(!series.is_due(at(0)));
        assert!(series.is_due(at(1)));
    }
}
