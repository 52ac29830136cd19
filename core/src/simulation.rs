//! A seeded simulation of what the balancer's decisions come to together: checks,
//! ejection, slow start, admin states, picks, retries, limits and a queue, over
//! random pools and histories. Each decision has its own tests beside it; here are
//! the promises that hold across them.
//!
//! A failure prints its seed; [`run`] with it repeats the history. A fuzzer writes
//! histories of its own ([`follow`]).

use std::collections::VecDeque;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use crate::document::AdminState;
use crate::ejection::{self, Ejection, may_eject};
use crate::health::{Health, Outcome, Start, Thresholds, Transition, ramp};
#[cfg(test)]
use crate::keyed::mix;
use crate::keyed::{HashKey, below};
use crate::pick::{
    AllDown, Ask, Backups, Choice, Entry, Method, Picker, Rules, SourceTable, Tier, View,
};

#[cfg(test)]
const SEEDS: u64 = 400;
const STEPS: u64 = 1_500;
const SLOW_START: Duration = Duration::from_secs(20);
const RETRIES: usize = 3;

#[test]
fn the_promises_hold_in_every_history() {
    let mut seen = Seen::default();
    for seed in 0..SEEDS {
        println!("seed {seed}");
        run(seed, &mut seen);
    }
    println!("{seen:?}");
    // Promises about what never happens would be worth nothing.
    let Seen {
        picked,
        full,
        nobody,
        backup,
        fail_open,
        ejected,
        ejected_used,
        retried,
        dequeued,
    } = seen;
    for count in [
        picked,
        full,
        nobody,
        backup,
        fail_open,
        ejected,
        ejected_used,
        retried,
        dequeued,
    ] {
        assert!(count > 500, "{seen:?}");
    }
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    picked: u32,
    full: u32,
    nobody: u32,
    backup: u32,
    fail_open: u32,
    ejected: u32,
    ejected_used: u32,
    retried: u32,
    dequeued: u32,
}

#[cfg(test)]
fn run(seed: u64, seen: &mut Seen) {
    let mut world = World::new(Draws::Seeded(mix(seed)));
    for _ in 0..STEPS {
        world.step(seen);
        world.limits_hold();
    }
    world.wind_down(seen);
}

/// The history that these bytes tell, to their end.
///
/// # Panics
/// When a promise does not hold.
#[cfg_attr(test, expect(unreachable_pub, reason = "public for fuzz targets"))]
pub fn follow(bytes: Vec<u8>) {
    let mut seen = Seen::default();
    let mut world = World::new(Draws::Told(bytes.into_iter()));
    for _ in 0..STEPS {
        if world.draws.are_over() {
            break;
        }
        world.step(&mut seen);
        world.limits_hold();
    }
    world.wind_down(&mut seen);
}

/// What is left to chance, or to whoever wrote the bytes.
enum Draws {
    #[cfg(test)]
    Seeded(u64),
    Told(std::vec::IntoIter<u8>),
}

impl Draws {
    fn any(&mut self) -> u64 {
        match self {
            #[cfg(test)]
            Self::Seeded(state) => {
                *state = state.wrapping_add(1);
                mix(*state)
            }
            // The high bits are what `below` goes by.
            Self::Told(bytes) => {
                let mut next = || u64::from(bytes.next().unwrap_or(0));
                next() << 56 | next() << 48
            }
        }
    }

    fn are_over(&self) -> bool {
        match self {
            #[cfg(test)]
            Self::Seeded(_) => false,
            Self::Told(bytes) => bytes.len() == 0,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(below(self.any(), bound as u64)).unwrap()
    }

    /// With a probability of one in `n`.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

struct Backend {
    weight: u32,
    limit: Option<u32>,
    backup: bool,
    admin: AdminState,
    /// The truth, which checks and connects find out.
    alive: bool,
    health: Health,
    recovered: Option<Duration>,
    ejection: Ejection,
    in_flight: u32,
}

impl Backend {
    fn new(draws: &mut Draws) -> Self {
        let thresholds = Thresholds {
            rise: NonZeroU8::new(2).unwrap(),
            fall: NonZeroU8::new(3).unwrap(),
        };
        let start = if draws.one_in(4) {
            Start::Down
        } else {
            Start::PresumedUp
        };
        Self {
            weight: u32::try_from(draws.below(4)).unwrap(),
            limit: draws
                .one_in(2)
                .then(|| 1 + u32::try_from(draws.below(5)).unwrap()),
            backup: draws.one_in(4),
            admin: AdminState::Ready,
            alive: !draws.one_in(4),
            health: Health::new(thresholds, start),
            recovered: None,
            ejection: Ejection::new(ejection::Rules::default()),
            in_flight: 0,
        }
    }

    fn view(&self, now: Duration) -> View {
        let since = self.recovered.map(|at| now - at);
        View {
            open: self.admin == AdminState::Ready,
            up: self.health.is_up(),
            ejected: self.ejection.is_ejected(now),
            weight: ramp(self.weight, since, SLOW_START),
            in_flight: self.in_flight,
            limit: self.limit,
            backup: self.backup,
        }
    }
}

struct World {
    draws: Draws,
    now: Duration,
    rules: Rules,
    backends: Vec<Backend>,
    /// Of two threads.
    pickers: [Picker; 2],
    /// The backend of each live connection.
    connections: Vec<usize>,
    /// Clients that wait for a backend with room.
    queue: VecDeque<u64>,
}

impl World {
    fn new(mut draws: Draws) -> Self {
        let backends: Vec<_> = (0..1 + draws.below(10))
            .map(|_| Backend::new(&mut draws))
            .collect();
        let rules = Rules {
            method: method(&mut draws, &backends),
            backups: if draws.one_in(2) {
                Backups::First
            } else {
                Backups::All
            },
            all_down: match draws.below(3) {
                0 => AllDown::Backup,
                1 => AllDown::FailOpen,
                _ => AllDown::Refuse,
            },
        };
        Self {
            draws,
            now: Duration::from_secs(1),
            pickers: [0, 1].map(|start| Picker::new(rules.clone(), start)),
            rules,
            backends,
            connections: Vec::new(),
            queue: VecDeque::new(),
        }
    }

    fn step(&mut self, seen: &mut Seen) {
        self.now += Duration::from_millis(below(self.draws.any(), 400));
        let index = self.draws.below(self.backends.len());
        match self.draws.below(20) {
            0..6 => self.check(index),
            6 if self.draws.one_in(3) => self.backends[index].alive ^= true,
            7 if self.draws.one_in(5) => {
                self.backends[index].admin = match self.draws.below(4) {
                    0 => AdminState::Drain,
                    1 => AdminState::Maintenance,
                    _ => AdminState::Ready,
                }
            }
            8..14 => {
                let client = self.draws.any();
                self.connect(client, seen);
            }
            _ => self.close_one(seen),
        }
    }

    fn check(&mut self, index: usize) {
        let backend = &mut self.backends[index];
        if backend.admin == AdminState::Maintenance {
            return;
        }
        let outcome = if backend.alive {
            Outcome::Pass
        } else {
            Outcome::Fail
        };
        if backend.health.observe(outcome) == Some(Transition::Up) {
            backend.recovered = Some(self.now);
        }
    }

    fn connect(&mut self, client: u64, seen: &mut Seen) {
        let mut tried = Vec::new();
        while tried.len() <= RETRIES {
            match self.choose(client, &tried) {
                Choice::Backend { index, tier } => {
                    self.chosen_rightly(index, tier, &tried, seen);
                    // Counted before the connect, as others choose meanwhile.
                    self.backends[index].in_flight += 1;
                    if self.backends[index].alive {
                        self.backends[index].ejection.succeeded();
                        self.connections.push(index);
                        return;
                    }
                    self.backends[index].in_flight -= 1;
                    self.failed(index, seen);
                    seen.retried += 1;
                    tried.push(index);
                }
                Choice::Full { tier } => {
                    self.full_rightly(tier, &tried);
                    seen.full += 1;
                    self.queue.push_back(client);
                    return;
                }
                Choice::Nobody => {
                    assert!(self.best_untried(&tried).is_empty());
                    seen.nobody += 1;
                    return;
                }
            }
        }
    }

    fn choose(&mut self, client: u64, tried: &[usize]) -> Choice {
        let views = self.views();
        let ask = Ask {
            hash: client,
            draw: self.draws.any(),
        };
        let picker = &mut self.pickers[usize::from(client.is_multiple_of(2))];
        picker.choose(ask, tried, views.len(), |index| views[index])
    }

    fn failed(&mut self, index: usize, seen: &mut Seen) {
        let (now, backup) = (self.now, self.backends[index].backup);
        let peers = || {
            self.backends
                .iter()
                .map(|b| b.view(now))
                .filter(|v| v.backup == backup)
        };
        let up = peers().filter(|v| v.open && v.up).count();
        let ejected = peers().filter(|v| v.open && v.up && v.ejected).count();
        let counts = self.backends[index].view(now).up;
        let room = counts && may_eject(up, ejected);
        if self.backends[index].ejection.failed(now, room).is_some() {
            seen.ejected += 1;
            assert!((ejected + 1) * 2 <= up, "at most half");
            assert!(up - (ejected + 1) >= 1, "and never the last");
        }
    }

    fn close_one(&mut self, seen: &mut Seen) {
        if self.connections.is_empty() {
            return;
        }
        let at = self.draws.below(self.connections.len());
        let index = self.connections.swap_remove(at);
        self.backends[index].in_flight -= 1;
        if let Some(client) = self.queue.pop_front() {
            seen.dequeued += 1;
            self.connect(client, seen);
        }
    }

    /// Everybody leaves, and nothing is left counted.
    fn wind_down(&mut self, seen: &mut Seen) {
        self.queue.clear();
        while !self.connections.is_empty() {
            self.close_one(seen);
        }
        assert!(self.backends.iter().all(|b| b.in_flight == 0));
    }

    fn views(&self) -> Vec<View> {
        self.backends.iter().map(|b| b.view(self.now)).collect()
    }

    fn limits_hold(&self) {
        for backend in &self.backends {
            assert!(backend.limit.is_none_or(|limit| backend.in_flight <= limit));
        }
    }

    /// Who could be used, were it not for limits, the best of them only.
    fn best_untried(&self, tried: &[usize]) -> Vec<usize> {
        let views = self.views();
        let untried = |usable: &dyn Fn(&View) -> bool| -> Vec<usize> {
            (0..views.len())
                .filter(|i| !tried.contains(i))
                .filter(|&i| views[i].open && views[i].weight > 0 && usable(&views[i]))
                .collect()
        };
        let backups = self.rules.all_down != AllDown::Refuse;
        let fail_open = self.rules.all_down == AllDown::FailOpen;
        [
            untried(&|v| v.up && !v.backup && !v.ejected),
            untried(&|v| v.up && (!v.backup || backups)),
            untried(&|_| fail_open),
        ]
        .into_iter()
        .find(|usable| !usable.is_empty())
        .unwrap_or_default()
    }

    fn chosen_rightly(&self, index: usize, tier: Tier, tried: &[usize], seen: &mut Seen) {
        let views = self.views();
        let view = views[index];
        assert!(
            view.open,
            "never to a drained backend or one in maintenance"
        );
        assert!(view.weight > 0, "never without weight");
        assert!(
            view.limit.is_none_or(|limit| view.in_flight < limit),
            "never over the limit"
        );
        assert!(!tried.contains(&index), "never twice");
        assert!(
            self.best_untried(tried).contains(&index),
            "never while a better one is there"
        );
        let expected = match (view.up, view.backup) {
            (false, _) => Tier::FailOpen,
            (true, true) => Tier::Backup,
            (true, false) => Tier::Primary,
        };
        assert_eq!(tier, expected);
        seen.picked += 1;
        seen.backup += u32::from(tier == Tier::Backup);
        seen.fail_open += u32::from(tier == Tier::FailOpen);
        seen.ejected_used += u32::from(view.up && view.ejected);
    }

    fn full_rightly(&self, tier: Tier, tried: &[usize]) {
        let views = self.views();
        let mut waiting: Vec<View> = self
            .best_untried(tried)
            .into_iter()
            .map(|index| views[index])
            .filter(|view| view.backup == (tier == Tier::Backup) || tier == Tier::FailOpen)
            .collect();
        // Of ejected ones only when there is no other.
        if waiting.iter().any(|view| !view.ejected) && tier != Tier::FailOpen {
            waiting.retain(|view| !view.ejected);
        }
        if tier == Tier::Backup && self.rules.backups == Backups::First {
            waiting.truncate(1);
        }
        assert!(!waiting.is_empty());
        assert!(
            waiting
                .iter()
                .all(|v| v.limit.is_some_and(|limit| v.in_flight >= limit))
        );
    }
}

fn method(draws: &mut Draws, backends: &[Backend]) -> Method {
    match draws.below(5) {
        0 => Method::LeastConnections,
        1 => Method::RoundRobin,
        2 => Method::RandomTwo,
        more => {
            let names: Vec<_> = (0..backends.len()).map(|i| format!("b{i}")).collect();
            let entries = names.iter().zip(backends).map(|(name, backend)| Entry {
                name,
                weight: backend.weight,
                backup: backend.backup,
            });
            Method::SourceHash {
                table: Arc::new(SourceTable::new(&HashKey::new([1; 16]), entries)),
                bounded_load: (more == 4).then_some(125),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_promises_hold_in_every_history_that_bytes_tell(
            bytes in proptest::collection::vec(any::<u8>(), 0..2_000),
        ) {
            super::follow(bytes);
        }
    }
}
