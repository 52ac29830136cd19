//! Balancing: which of a pool's backends gets the next connection.
//!
//! Owns the two algorithms and their memory, one [`Picker`] per pool and thread;
//! knows backends only as indexes. Who is eligible, and how many connections are
//! in flight, is the agent's to say, once per backend and call. Called once per
//! connection and per retry; allocates only when the number of backends changes.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

/// How a pool spreads connections over its backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// To the backend with the fewest connections for its weight. The default:
    /// WebSockets stay, so past connections say little about present load.
    #[default]
    LeastConnections,
    /// In turn, as often as the weight says.
    RoundRobin,
    /// To the less loaded of two drawn by weight.
    RandomTwo,
    /// By the client's address: the same client to the same backend.
    SourceHash,
}

/// What is asked about one eligible backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Its share relative to the others'.
    pub weight: NonZeroU16,
    /// Connections it has or is being given now.
    pub in_flight: u32,
}

/// The choice, with what it must remember between two of them.
#[derive(Clone, Debug)]
pub struct Picker {
    balance: Balance,
    /// Where the next scan begins: after the last choice, so that equals take turns.
    next: usize,
    /// Round robin only; one per backend.
    turns: Vec<Turn>,
}

/// A backend in the smooth weighted round robin of nginx
/// (`ngx_http_upstream_get_peer`).
///
/// Invariant while weights stay: the credits sum to zero, whoever is eligible.
/// So, with T the sum of all weights of `n` backends, each is within
/// `±T * (n - 1)` whatever the sequence of eligible subsets.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    credit: i64,
    /// As last seen; 0 before.
    weight: u16,
}

impl Picker {
    /// `start` is the index where the first scan begins; give each thread its
    /// own, or all of them send their first connections to the same backend.
    pub fn new(balance: Balance, start: usize) -> Self {
        Self {
            balance,
            next: start,
            turns: Vec::new(),
        }
    }

    /// One of the indexes below `len` for which `load` answers `Some`, or `None`
    /// when it does so for no index. `load` is called once per index.
    pub fn pick(&mut self, len: usize, load: impl Fn(usize) -> Option<Load>) -> Option<usize> {
        let start = self.next.checked_rem(len)?;
        let eligible = (start..len)
            .chain(0..start)
            .filter_map(|i| load(i).map(|load| (i, load)));
        let picked = match self.balance {
            Balance::LeastConnections | Balance::RandomTwo | Balance::SourceHash => {
                least_loaded(eligible)
            }
            Balance::RoundRobin => {
                if self.turns.len() != len {
                    self.turns.clear();
                    self.turns.resize(len, Turn::default());
                }
                take_turn(&mut self.turns, eligible)
            }
        }?;
        self.next = picked + 1;
        Some(picked)
    }
}

/// Compares (in flight + 1) / weight, as HAProxy does: the load a backend *would*
/// have with this connection. Without the 1 all idle backends look alike, and one
/// of weight 1 would get as many first connections as one of weight 100. (HAProxy
/// puts idle servers first whatever their weight; that is left out.)
fn least_loaded(eligible: impl Iterator<Item = (usize, Load)>) -> Option<usize> {
    let cost = |load: Load| u64::from(load.in_flight) + 1;
    let mut least: Option<(usize, Load)> = None;
    for (index, load) in eligible {
        // a/b < c/d as a*d < c*b: 33 bits by 16 bits fits.
        let lighter = least.is_none_or(|(_, best)| {
            cost(load) * u64::from(best.weight.get()) < cost(best) * u64::from(load.weight.get())
        });
        if lighter {
            least = Some((index, load));
        }
    }
    least.map(|(index, _)| index)
}

/// Everyone eligible earns its weight, the richest is chosen and pays what all
/// earned. With one set from the start no credit falls to -T, so that over T picks
/// each is chosen exactly as often as its weight says; after other sets it may be
/// out by what credit is left, once, at most 2 * (n - 1) picks.
fn take_turn(turns: &mut [Turn], eligible: impl Iterator<Item = (usize, Load)>) -> Option<usize> {
    let (mut earned, mut reweighted) = (0, false);
    let mut richest: Option<(usize, i64)> = None;
    for (index, Load { weight, .. }) in eligible {
        let turn = turns.get_mut(index)?;
        reweighted |= turn.weight != weight.get();
        turn.weight = weight.get();
        turn.credit += i64::from(turn.weight);
        earned += i64::from(turn.weight);
        if richest.is_none_or(|(_, credit)| turn.credit > credit) {
            richest = Some((index, turn.credit));
        }
    }
    let (picked, _) = richest?;
    turns.get_mut(picked)?.credit -= earned;
    if reweighted {
        // Credit earned under heavier weights would starve others for as many
        // picks as the old weights were large; one round's worth may stay.
        let total = turns.iter().map(|turn| i64::from(turn.weight)).sum::<i64>();
        for turn in turns {
            turn.credit = turn.credit.clamp(-total, total);
        }
    }
    Some(picked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load(weight: u16, in_flight: u32) -> Load {
        Load {
            weight: NonZeroU16::new(weight).unwrap(),
            in_flight,
        }
    }

    fn picks(picker: &mut Picker, loads: &[Option<Load>], count: usize) -> Vec<usize> {
        (0..count)
            .filter_map(|_| picker.pick(loads.len(), |i| loads[i]))
            .collect()
    }

    fn weighted(weights: &[u16]) -> Vec<Option<Load>> {
        weights
            .iter()
            .map(|&weight| Some(load(weight, 0)))
            .collect()
    }

    #[test]
    fn nobody_eligible_is_none() {
        for balance in [Balance::LeastConnections, Balance::RoundRobin] {
            let mut picker = Picker::new(balance, 7);
            assert_eq!(picker.pick(0, |_| Some(load(1, 0))), None);
            assert_eq!(picker.pick(3, |_| None), None);
            assert_eq!(picker.pick(3, |i| (i == 2).then_some(load(1, 0))), Some(2));
        }
    }

    #[test]
    fn least_is_least_for_its_weight() {
        for (loads, least) in [
            (vec![load(1, 3), load(1, 2), load(1, 4)], 1),
            (vec![load(1, 0), load(100, 0)], 1),
            (vec![load(1, 0), load(100, 98)], 1),
            (vec![load(1, 0), load(100, 100)], 0),
            (
                vec![load(u16::MAX, u32::MAX), load(u16::MAX, u32::MAX - 1)],
                1,
            ),
            (vec![load(1, u32::MAX), load(u16::MAX, u32::MAX)], 1),
        ] {
            let mut picker = Picker::new(Balance::LeastConnections, 0);
            assert_eq!(
                picker.pick(loads.len(), |i| Some(loads[i])),
                Some(least),
                "{loads:?}"
            );
        }
    }

    #[test]
    fn round_robin_is_smooth() {
        for (weights, start, order) in [
            (vec![5, 1, 1], 0, vec![0, 0, 1, 0, 2, 0, 0]),
            (vec![1, 1, 1], 0, vec![0, 1, 2, 0, 1, 2]),
            (vec![1, 1, 1], 2, vec![2, 0, 1, 2, 0, 1]),
            (vec![2, 1], 10, vec![0, 1, 0]),
            (vec![7], 3, vec![0, 0]),
        ] {
            let mut picker = Picker::new(Balance::RoundRobin, start);
            assert_eq!(
                picks(&mut picker, &weighted(&weights), order.len()),
                order,
                "{weights:?}"
            );
        }
    }

    #[test]
    fn a_pool_that_grows_goes_on_after_its_last_pick() {
        let mut picker = Picker::new(Balance::RoundRobin, 0);
        assert_eq!(picks(&mut picker, &weighted(&[1, 1]), 1), [0]);
        assert_eq!(picks(&mut picker, &weighted(&[1, 1, 1]), 4), [1, 2, 0, 1]);
        assert_eq!(picks(&mut picker, &weighted(&[1]), 2), [0, 0]);
    }

    #[test]
    fn a_lower_weight_does_not_leave_anyone_starving() {
        let mut picker = Picker::new(Balance::RoundRobin, 0);
        let uneven = [
            Some(load(u16::MAX, 0)),
            Some(load(u16::MAX - 1, 0)),
            Some(load(1, 0)),
        ];
        picks(&mut picker, &uneven, 50_001);
        let counts = tally(&picks(&mut picker, &weighted(&[1, 1, 1]), 30), 3);
        assert!(
            counts.iter().all(|count| (8..=12).contains(count)),
            "{counts:?}"
        );
    }

    fn tally(picks: &[usize], len: usize) -> Vec<usize> {
        (0..len)
            .map(|i| picks.iter().filter(|&&picked| picked == i).count())
            .collect()
    }

    fn any_load() -> impl Strategy<Value = Option<Load>> {
        proptest::option::weighted(0.7, (1u16..=300, 0u32..50).prop_map(|(w, n)| load(w, n)))
    }

    proptest! {
        #[test]
        fn only_the_eligible_are_picked(
            round_robin in any::<bool>(),
            start in any::<usize>(),
            pools in proptest::collection::vec(proptest::collection::vec(any_load(), 0..6), 1..40),
        ) {
            let balance = if round_robin { Balance::RoundRobin } else { Balance::LeastConnections };
            let mut picker = Picker::new(balance, start);
            for loads in pools {
                match picker.pick(loads.len(), |i| loads[i]) {
                    Some(picked) => prop_assert!(loads[picked].is_some()),
                    None => prop_assert!(loads.iter().all(Option::is_none)),
                }
            }
        }

        #[test]
        fn nobody_is_less_loaded_than_the_least(
            loads in proptest::collection::vec(any_load(), 1..12),
            start in any::<usize>(),
        ) {
            let picked = Picker::new(Balance::LeastConnections, start).pick(loads.len(), |i| loads[i]);
            let cost = |load: Load| {
                f64::from(load.in_flight + 1) / f64::from(load.weight.get())
            };
            let least = loads.iter().flatten().map(|&l| cost(l)).min_by(f64::total_cmp);
            prop_assert_eq!(picked.map(|i| cost(loads[i].unwrap())), least);
        }

        #[test]
        fn ties_are_spread_evenly(
            mut tied in proptest::collection::vec(any::<bool>(), 1..12),
            start in any::<usize>(),
            rounds in 1usize..5,
        ) {
            tied[0] = true;
            let loads: Vec<_> = tied.iter().map(|&t| Some(load(2, if t { 3 } else { 9 }))).collect();
            let equals = tied.iter().filter(|&&t| t).count();
            let mut picker = Picker::new(Balance::LeastConnections, start);
            let counts = tally(&picks(&mut picker, &loads, equals * rounds), loads.len());
            for (count, tied) in counts.into_iter().zip(tied) {
                prop_assert_eq!(count, if tied { rounds } else { 0 });
            }
        }

        #[test]
        fn a_full_cycle_gives_each_its_weight(
            loads in proptest::collection::vec(any_load(), 1..10),
            start in any::<usize>(),
        ) {
            let weight = |load: &Option<Load>| load.map_or(0, |l| usize::from(l.weight.get()));
            let cycle = loads.iter().map(weight).sum();
            let mut picker = Picker::new(Balance::RoundRobin, start);
            for _ in 0..2 {
                let counts = tally(&picks(&mut picker, &loads, cycle), loads.len());
                prop_assert_eq!(counts, loads.iter().map(weight).collect::<Vec<_>>());
            }
        }

        #[test]
        fn credits_stay_bounded_whoever_is_eligible(
            weights in proptest::collection::vec(1u16..100, 1..8),
            subsets in proptest::collection::vec(any::<u8>(), 1..400),
        ) {
            let mut picker = Picker::new(Balance::RoundRobin, 0);
            picks(&mut picker, &weighted(&weights), 1);
            let total: i64 = weights.iter().map(|&w| i64::from(w)).sum();
            let bound = total * i64::try_from(weights.len() - 1).unwrap();
            for subset in subsets {
                picker.pick(weights.len(), |i| (subset >> i & 1 == 1).then(|| load(weights[i], 0)));
                prop_assert_eq!(picker.turns.iter().map(|turn| turn.credit).sum::<i64>(), 0);
                prop_assert!(picker.turns.iter().all(|turn| turn.credit.abs() <= bound));
            }
        }

        #[test]
        fn shares_hold_after_any_history(
            weights in proptest::collection::vec(1u16..20, 2..6),
            subsets in proptest::collection::vec(any::<u8>(), 0..200),
            cycles in 1usize..4,
        ) {
            let mut picker = Picker::new(Balance::RoundRobin, 0);
            for subset in subsets {
                picker.pick(weights.len(), |i| (subset >> i & 1 == 1).then(|| load(weights[i], 0)));
            }
            let cycle: usize = weights.iter().map(|&w| usize::from(w)).sum();
            let counts = tally(&picks(&mut picker, &weighted(&weights), cycle * cycles), weights.len());
            // What the credits' bound is worth, in picks, at both ends.
            let slack = 2 * (weights.len() - 1);
            for (count, weight) in counts.into_iter().zip(weights) {
                prop_assert!(count.abs_diff(cycles * usize::from(weight)) <= slack);
            }
        }
    }
}
