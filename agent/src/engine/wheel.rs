//! A hierarchical timing wheel (Varghese and Lauck, 1987): setting and removing
//! a timer take the same few steps however many there are, and an hour's idle
//! timer that is removed after a millisecond leaves nothing behind.
//!
//! Pure: ticks come from outside. A timer that is due is told of once, and stays
//! its owner's until it is removed.

use slab::Slab;

/// Slots of a level, and ticks of a slot of the level below.
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 6;
/// Two years of milliseconds: short of a whole turn of the last level, so that no
/// timer comes round to the slot that is now. What is later is due then.
const HORIZON: u64 = 62 << (BITS * 5);
const NONE: u32 = u32::MAX;
/// Where an entry is that is due: on no level.
const DUE: u8 = u8::MAX;
/// Room that is kept when the last timer has gone.
const KEPT: usize = 1024;

/// Timers with a value each.
pub(super) struct Wheel<T> {
    now: u64,
    entries: Slab<Entry<T>>,
    /// The first entry of each slot.
    heads: [[u32; SLOTS]; LEVELS],
    /// Which slots have entries, a bit each.
    occupied: [u64; LEVELS],
}

struct Entry<T> {
    at: u64,
    value: T,
    level: u8,
    slot: u8,
    before: u32,
    after: u32,
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Self {
            now: 0,
            entries: Slab::new(),
            heads: [[NONE; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
        }
    }
}

impl<T> Wheel<T> {
    /// Sets a timer for a tick, the next one at the earliest; the answer removes it.
    pub(super) fn insert(&mut self, at: u64, value: T) -> u32 {
        let at = at.clamp(self.now + 1, self.now + HORIZON);
        let key = self.entries.insert(Entry {
            at,
            value,
            level: 0,
            slot: 0,
            before: NONE,
            after: NONE,
        });
        let key = u32::try_from(key).unwrap_or(NONE);
        self.link(key);
        key
    }

    /// Removes a timer, due or not.
    pub(super) fn remove(&mut self, key: u32) {
        if self.is_set(key) {
            self.unlink(key);
        }
        if let Ok(key) = usize::try_from(key) {
            self.entries.try_remove(key);
        }
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries = Slab::new();
        }
    }

    /// Whether a timer is still to come.
    pub(super) fn is_set(&mut self, key: u32) -> bool {
        self.entry(key).is_some_and(|entry| entry.level != DUE)
    }

    /// The value of a timer.
    pub(super) fn value(&mut self, key: u32) -> Option<&mut T> {
        Some(&mut self.entry(key)?.value)
    }

    /// No timer is due before this tick.
    pub(super) fn next(&self) -> Option<u64> {
        self.first().map(|(_, _, at)| at)
    }

    /// Goes on to a tick; hands out the values of what is due by then.
    pub(super) fn advance(&mut self, to: u64, due: &mut Vec<T>)
    where
        T: Clone,
    {
        while let Some((level, slot, at)) = self.first()
            && at <= to
        {
            self.now = at;
            let mut key = self.empty(level, slot);
            while key != NONE {
                let Some(entry) = self.entry(key) else { break };
                let after = entry.after;
                if entry.at <= at {
                    entry.level = DUE;
                    due.push(entry.value.clone());
                } else {
                    self.link(key);
                }
                key = after;
            }
        }
        self.now = self.now.max(to);
    }

    /// The first occupied slot, and the tick at which it begins. Lower levels end
    /// before the current slot of higher ones does.
    fn first(&self) -> Option<(usize, usize, u64)> {
        let levels = self.occupied.iter().enumerate();
        let (level, occupied) = levels.into_iter().find(|(_, occupied)| **occupied != 0)?;
        let shift = BITS * u32::try_from(level).ok()?;
        let current = u32::try_from((self.now >> shift) % SLOTS as u64).ok()?;
        let ahead = occupied.rotate_right(current).trailing_zeros();
        let slot = (current + ahead) % u32::try_from(SLOTS).ok()?;
        let turn = 1 << (shift + BITS);
        let mut at = (self.now - self.now % turn) + (u64::from(slot) << shift);
        if at <= self.now {
            // Only the last level goes round.
            at += turn;
        }
        Some((level, usize::try_from(slot).ok()?, at))
    }

    fn link(&mut self, key: u32) {
        let now = self.now;
        let Some(entry) = self.entry(key) else { return };
        let (level, slot) = place(now, entry.at);
        (entry.level, entry.slot) = (level, slot);
        entry.before = NONE;
        let (level, slot) = (usize::from(level), usize::from(slot));
        let Some(head) = self.heads.get_mut(level).and_then(|l| l.get_mut(slot)) else {
            return;
        };
        let after = std::mem::replace(head, key);
        if let Some(occupied) = self.occupied.get_mut(level) {
            *occupied |= 1 << slot;
        }
        if let Some(next) = self.entry(after) {
            next.before = key;
        }
        if let Some(entry) = self.entry(key) {
            entry.after = after;
        }
    }

    fn unlink(&mut self, key: u32) -> Option<()> {
        let entry = self.entry(key)?;
        let (before, after) = (entry.before, entry.after);
        let (level, slot) = (usize::from(entry.level), usize::from(entry.slot));
        if let Some(next) = self.entry(after) {
            next.before = before;
        }
        if let Some(last) = self.entry(before) {
            last.after = after;
            return Some(());
        }
        *self.heads.get_mut(level)?.get_mut(slot)? = after;
        if after == NONE {
            *self.occupied.get_mut(level)? &= !(1 << slot);
        }
        Some(())
    }

    /// Takes a slot's entries off the wheel.
    fn empty(&mut self, level: usize, slot: usize) -> u32 {
        if let Some(occupied) = self.occupied.get_mut(level) {
            *occupied &= !(1 << slot);
        }
        let head = self.heads.get_mut(level).and_then(|l| l.get_mut(slot));
        head.map_or(NONE, |head| std::mem::replace(head, NONE))
    }

    fn entry(&mut self, key: u32) -> Option<&mut Entry<T>> {
        self.entries.get_mut(usize::try_from(key).ok()?)
    }
}

/// The level is that of the highest bit in which the two differ: the entry's slot
/// there begins after the current one has ended.
fn place(now: u64, at: u64) -> (u8, u8) {
    let differ = (now ^ at) | (SLOTS as u64 - 1);
    let level = ((u64::BITS - 1 - differ.leading_zeros()) / BITS).min(5);
    let slot = (at >> (level * BITS)) % SLOTS as u64;
    (
        u8::try_from(level).unwrap_or(0),
        u8::try_from(slot).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Remove(usize),
        Advance(u64),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let far = (0u32..38).prop_map(|bits| 1u64 << bits);
        let ahead = || prop_oneof![0u64..200, far.clone(), 0u64..100_000_000];
        prop_oneof![
            4 => ahead().prop_map(Step::Insert),
            1 => any::<usize>().prop_map(Step::Remove),
            3 => prop_oneof![0u64..100, 0u64..10_000_000].prop_map(Step::Advance),
        ]
    }

    proptest! {
        /// Against a sorted map: nothing early, nothing late, nothing lost.
        #[test]
        fn what_is_due_is_handed_out_and_nothing_else(
            steps in proptest::collection::vec(any_step(), 1..200),
        ) {
            let mut wheel = Wheel::default();
            let mut model: BTreeMap<usize, (u64, u32)> = BTreeMap::new();
            let mut now = 0;
            for (name, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(ahead) => {
                        let key = wheel.insert(now + ahead, name);
                        let at = (now + ahead).clamp(now + 1, now + HORIZON);
                        model.insert(name, (at, key));
                    }
                    Step::Remove(pick) if !model.is_empty() => {
                        let name = *model.keys().nth(pick % model.len()).unwrap();
                        let (_, key) = model.remove(&name).unwrap();
                        prop_assert_eq!(wheel.value(key), Some(&mut name.clone()));
                        wheel.remove(key);
                    }
                    Step::Remove(_) => {}
                    Step::Advance(by) => {
                        now += by;
                        let mut due = Vec::new();
                        wheel.advance(now, &mut due);
                        due.sort_unstable();
                        let expected: Vec<_> = model.iter()
                            .filter(|(_, (at, _))| *at <= now).map(|(name, _)| *name).collect();
                        prop_assert_eq!(due, expected);
                        model.retain(|_, (at, key)| {
                            let set = *at > now;
                            assert_eq!(wheel.is_set(*key), set);
                            if !set {
                                wheel.remove(*key);
                            }
                            set
                        });
                    }
                }
                let first = model.values().map(|(at, _)| *at).min();
                prop_assert_eq!(wheel.next().is_some(), first.is_some());
                if let (Some(next), Some(first)) = (wheel.next(), first) {
                    prop_assert!(now < next && next <= first);
                }
            }
        }
    }

    #[test]
    fn a_slot_is_looked_at_once_on_the_way_down() {
        let mut wheel = Wheel::default();
        wheel.insert(3_600_000, "idle");
        let mut due = Vec::new();
        let mut looks = 0;
        while let Some(next) = wheel.next() {
            wheel.advance(next, &mut due);
            looks += 1;
        }
        assert_eq!(due, ["idle"]);
        assert!(looks <= LEVELS, "{looks}");
    }
}
