//! How often: new connections per second, of a whole listener and of each client.
//!
//! Owns the arithmetic and a table of fixed size for clients. What happens to the
//! surplus is the agent's: a listener's waits in the kernel's backlog, a client's
//! is refused ([`Refusal::TooFast`](crate::admit::Refusal::TooFast)). Times are
//! durations since an epoch of the agent's choice.
//!
//! The algorithm is GCRA (ITU-T I.371; "virtual scheduling"): one number says when
//! everything admitted so far would have been due at the steady rate.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// So many new connections per second, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenRate", into = "WrittenRate")]
pub struct Rate {
    /// In the long run. Kept as an interval of whole nanoseconds, rounded up.
    pub per_second: NonZeroU32,
    /// In one instant, after a pause of at least `burst / per_second` seconds; as many
    /// as in a second unless written.
    pub burst: NonZeroU32,
}

/// A rate as people write it.
#[derive(Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { per_second: 10, burst: 20 }"
)]
struct WrittenRate {
    per_second: NonZeroU32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<NonZeroU32>,
}

impl From<WrittenRate> for Rate {
    fn from(written: WrittenRate) -> Self {
        Self {
            per_second: written.per_second,
            burst: written.burst.unwrap_or(written.per_second),
        }
    }
}

impl From<Rate> for WrittenRate {
    fn from(rate: Rate) -> Self {
        Self {
            per_second: rate.per_second,
            burst: Some(rate.burst),
        }
    }
}

impl Rate {
    /// From one to the next.
    fn interval(self) -> u64 {
        1_000_000_000u64.div_ceil(self.per_second.get().into())
    }

    /// When all is due if one more comes now, or how long to wait for it.
    fn next(self, due: u64, now: u64) -> Result<u64, Duration> {
        let next = due.max(now).saturating_add(self.interval());
        // At most 2^32 * 10^9.
        let burst = self.interval().saturating_mul(self.burst.get().into());
        let early = (next - now).saturating_sub(burst);
        if early == 0 {
            Ok(next)
        } else {
            Err(Duration::from_nanos(early))
        }
    }
}

/// One thing's rate.
#[derive(Clone, Copy, Debug)]
pub struct Gcra {
    rate: Rate,
    due: u64,
}

impl Gcra {
    /// Nothing was admitted yet.
    pub fn new(rate: Rate) -> Self {
        Self { rate, due: 0 }
    }

    /// Admits one now, if it may come.
    ///
    /// # Errors
    /// How long until one may, if no other takes its place.
    pub fn admit(&mut self, now: Duration) -> Result<(), Duration> {
        self.due = self.rate.next(self.due, nanos(now))?;
        Ok(())
    }

    /// Another rate from a new snapshot. What was admitted stays so.
    pub fn retune(&mut self, rate: Rate) {
        self.rate = rate;
    }
}

/// Slots of one set: where a client may be is decided by its hash.
const WAYS: usize = 4;

/// The rates of clients, in fixed memory: 16 bytes a slot.
///
/// When there are more clients than slots, the one that is closest to having its
/// whole burst again is forgotten, and begins anew when it returns. So a flood of
/// addresses weakens the limit and never makes it stricter: no client is refused
/// for another one's connections, unless two have the same 64-bit hash, which for
/// a million clients has a probability of 3 in 10^8.
#[derive(Clone, Debug)]
pub struct RateTable {
    rate: Rate,
    sets: Box<[[Slot; WAYS]]>,
}

/// A client. A free slot is one that is due at 0, whatever its hash.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: u64,
    due: u64,
}

impl RateTable {
    /// A table of at least so many slots. Twice the clients that come within
    /// `burst / per_second` seconds leave hardly any forgotten.
    pub fn new(rate: Rate, slots: usize) -> Self {
        let sets = slots.div_ceil(WAYS).max(1);
        Self {
            rate,
            sets: vec![[Slot::default(); WAYS]; sets].into(),
        }
    }

    /// Admits one connection of the client with this hash, if it may come.
    ///
    /// The hash must be keyed ([`HashKey::client`](crate::keyed::HashKey::client)),
    /// or clients could choose whom they make the table forget.
    ///
    /// # Errors
    /// How long until this client may connect.
    pub fn admit(&mut self, hash: u64, now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        let Some(slot) = self.slot(hash) else {
            return Ok(());
        };
        let due = if slot.hash == hash { slot.due } else { 0 };
        let due = self.rate.next(due, now)?;
        if let Some(slot) = self.slot(hash) {
            *slot = Slot { hash, due };
        }
        Ok(())
    }

    /// Another rate from a new snapshot. What was admitted stays so.
    pub fn retune(&mut self, rate: Rate) {
        self.rate = rate;
    }

    /// This client's slot, or the one it may take.
    fn slot(&mut self, hash: u64) -> Option<&mut Slot> {
        let sets = u64::try_from(self.sets.len()).ok()?;
        let set = usize::try_from(crate::keyed::below(hash, sets)).ok()?;
        // A free slot looks like one of hash 0, which may have its own.
        let order = |slot: &&mut Slot| match slot.hash == hash {
            true => (false, u64::MAX - slot.due),
            false => (true, slot.due),
        };
        self.sets.get_mut(set)?.iter_mut().min_by_key(order)
    }
}

/// Enough for 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyed::mix;
    use proptest::prelude::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate {
            per_second: per_second.try_into().unwrap(),
            burst: burst.try_into().unwrap(),
        }
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut gcra = Gcra::new(rate(10, 3));
        for (now, admitted) in [
            (0, Ok(())),
            (0, Ok(())),
            (0, Ok(())),
            (0, Err(millis(100))),
            (70, Err(millis(30))),
            (100, Ok(())),
            (100, Err(millis(100))),
            (200, Ok(())),
            (450, Ok(())),
            (450, Ok(())),
            (450, Err(millis(50))),
        ] {
            assert_eq!(gcra.admit(millis(now)), admitted, "{now}");
        }
    }

    #[test]
    fn another_rate_holds_at_once() {
        let mut gcra = Gcra::new(rate(1, 1));
        assert_eq!(gcra.admit(millis(0)), Ok(()));
        assert_eq!(gcra.admit(millis(0)), Err(millis(1_000)));
        gcra.retune(rate(1, 2));
        assert_eq!(gcra.admit(millis(0)), Ok(()));
        let mut table = RateTable::new(rate(1, 1), 1);
        assert_eq!(table.admit(7, millis(0)), Ok(()));
        table.retune(rate(1, 2));
        assert_eq!(table.admit(7, millis(0)), Ok(()));
        assert!(table.admit(7, millis(0)).is_err());
    }

    #[test]
    fn no_hash_is_free_of_the_rate() {
        for hash in [0, 1, u64::MAX] {
            let mut table = RateTable::new(rate(10, 1), 4);
            assert_eq!(table.admit(hash, millis(1_000)), Ok(()));
            assert_eq!(table.admit(hash, millis(1_000)), Err(millis(100)));
        }
    }

    #[test]
    fn the_largest_numbers_are_no_trouble() {
        let mut gcra = Gcra::new(rate(u32::MAX, u32::MAX));
        assert_eq!(gcra.admit(Duration::MAX), Ok(()));
        let mut gcra = Gcra::new(rate(1, u32::MAX));
        assert_eq!(gcra.admit(Duration::MAX), Ok(()));
        assert!(gcra.admit(Duration::ZERO).is_err());
    }

    #[test]
    fn a_slot_has_16_bytes_and_a_table_at_least_one_set() {
        assert_eq!(size_of::<[Slot; WAYS]>(), 64);
        assert_eq!(RateTable::new(rate(1, 1), 0).sets.len(), 1);
        assert_eq!(RateTable::new(rate(1, 1), 4_097).sets.len(), 1_025);
    }

    #[test]
    fn who_has_recovered_most_is_forgotten() {
        let mut table = RateTable::new(rate(1, 2), 4);
        for (client, now) in [(1, 30), (2, 10), (3, 20), (4, 40), (4, 40)] {
            assert_eq!(table.admit(client, millis(now)), Ok(()));
        }
        // Takes the place of 2.
        assert_eq!(table.admit(5, millis(50)), Ok(()));
        let known = |table: &RateTable| {
            let mut known: Vec<u64> = table.sets[0].iter().map(|slot| slot.hash).collect();
            known.sort_unstable();
            known
        };
        assert_eq!(known(&table), [1, 3, 4, 5]);
        assert!(table.admit(4, millis(60)).is_err());
        // A refused newcomer would not exist: its burst is whole.
        assert_eq!(table.admit(2, millis(60)), Ok(()));
        assert_eq!(known(&table), [1, 2, 4, 5]);
    }

    #[test]
    fn clients_of_a_flood_do_not_refuse_each_other() {
        let mut table = RateTable::new(rate(1, 1), 64);
        for client in 0..10_000 {
            assert_eq!(table.admit(mix(client), millis(client / 100)), Ok(()));
        }
    }

    /// Pauses, most of them short, in microseconds.
    fn pauses() -> impl Strategy<Value = Vec<u64>> {
        proptest::collection::vec(
            prop_oneof![3 => Just(0u64), 3 => 0u64..50_000, 1 => 0u64..5_000_000],
            1..300,
        )
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_the_burst_and_the_rate(
            per_second in 1u32..200,
            burst in 1u32..20,
            pauses in pauses(),
        ) {
            let rate = rate(per_second, burst);
            let (mut one, mut table) = (Gcra::new(rate), RateTable::new(rate, 64));
            let (mut now, mut admitted) = (Duration::ZERO, Vec::new());
            for pause in pauses {
                now += Duration::from_micros(pause);
                let verdict = one.admit(now);
                prop_assert_eq!(table.admit(9, now), verdict, "the table's is the same");
                match verdict {
                    Ok(()) => admitted.push(now),
                    // Exactly then, and no nanosecond before.
                    Err(wait) => {
                        prop_assert!(one.clone().admit(now + wait).is_ok());
                        prop_assert!(one.clone().admit(now + wait - Duration::from_nanos(1)).is_err());
                    }
                }
            }
            for (i, &first) in admitted.iter().enumerate() {
                for (count, &last) in (1..).zip(&admitted[i..]) {
                    let most = f64::from(burst) + (last - first).as_secs_f64() * f64::from(per_second);
                    prop_assert!(f64::from(count) <= most + 1e-6, "{} in {:?}", count, last - first);
                }
            }
        }

        #[test]
        fn who_pauses_has_the_whole_burst_again(
            per_second in 1u32..200,
            burst in 1u32..20,
            pauses in pauses(),
        ) {
            let rate = rate(per_second, burst);
            let mut table = RateTable::new(rate, 4);
            let mut now = Duration::ZERO;
            for pause in pauses {
                now += Duration::from_micros(pause);
                let _ = table.admit(3, now);
            }
            now += Duration::from_nanos(rate.interval() * u64::from(burst));
            for _ in 0..burst {
                prop_assert_eq!(table.admit(3, now), Ok(()));
            }
            prop_assert!(table.admit(3, now).is_err());
        }

        #[test]
        fn no_client_is_refused_for_another(
            clients in proptest::collection::vec((0u64..40, 0u64..2_000), 1..400),
        ) {
            let rate = rate(2, 2);
            let mut table = RateTable::new(rate, 8);
            let mut alone: std::collections::BTreeMap<u64, Gcra> = Default::default();
            let mut now = Duration::ZERO;
            for (client, pause) in clients {
                now += Duration::from_micros(pause);
                let admitted = table.admit(mix(client), now);
                if admitted.is_err() {
                    prop_assert!(alone.entry(client).or_insert(Gcra::new(rate)).admit(now).is_err());
                } else {
                    // May be more than alone, once it was forgotten.
                    let _ = alone.entry(client).or_insert(Gcra::new(rate)).admit(now);
                }
            }
        }
    }
}
