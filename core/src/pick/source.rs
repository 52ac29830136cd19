//! The table of `source_hash`: from a client's hash to a backend, the same on
//! every balancer, and hardly changed when a backend comes or goes.
//!
//! A Maglev table (Eisenbud et al., "Maglev: A Fast and Reliable Software Network
//! Load Balancer", NSDI 2016, section 3.4), filled once per content of a pool and
//! shared by all threads. It holds every backend that is not a backup, whatever
//! its state: who is usable is asked at each choice, so that balancers whose
//! checks disagree for a moment still agree about everybody else.

use std::iter::successors;

use crate::keyed::{Domain, HashKey, mix};

/// With this many slots per backend, shares are within a percent or so of right
/// (section 5.3 of the paper).
const SLOTS_PER_BACKEND: usize = 100;

/// The sizes of tables: primes, 32 KiB, 512 KiB and 2 MiB. They are few and far
/// apart because another size moves all clients: a pool comes to that when it
/// grows over 81 or 1,310 backends, and at no other step. Over 5,242 backends each
/// has fewer than 100 slots (10,000 have 52): two and a half times as many take
/// four times as long to fill, since they leave the processor's cache.
const SIZES: [usize; 3] = [8_191, 131_071, 524_287];

/// Slots looked at for one client. When half the pool is unusable, one client in
/// 65,536 is left to [`SourceTable::standing`].
const PROBES: usize = 16;

/// A backend as the table sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its name in the pool: what its place in the table hangs on.
    pub name: &'a str,
    /// Its share, in any unit; 0 has no slot. As configured: what changes by
    /// itself would change the table, and differ between balancers.
    pub weight: u32,
    /// Whether it is a backup: those have no slots.
    pub backup: bool,
}

/// Which backend serves which client.
#[derive(Debug)]
pub struct SourceTable {
    /// Indexes of backends.
    pub(super) slots: Box<[u32]>,
    /// For each backend, backups included, its own hash and its weight.
    entries: Box<[(u64, u32)]>,
}

impl SourceTable {
    /// The table of a pool, for backends in the order in which the picker will
    /// know them. Another order makes another table with the same answers.
    ///
    /// Takes tens of nanoseconds per slot, of which there are 8,191 for up to 81
    /// backends, 131,071 up to 1,310, and 524,287 for more.
    pub fn new<'a>(key: &HashKey, backends: impl IntoIterator<Item = Entry<'a>>) -> Self {
        let backends: Vec<Entry<'a>> = backends.into_iter().collect();
        let entry = |b: &Entry<'_>| (key.hash(Domain::Standing, b.name.as_bytes()), b.weight);
        Self {
            entries: backends.iter().map(entry).collect(),
            slots: fill(walks(key, &backends)),
        }
    }

    /// The backends for this client, in order of preference; some may come again.
    /// Each further one is where a client drawn anew would go, so that the clients
    /// of an unusable backend spread over all others, and only they move.
    pub(super) fn preferences(&self, client: u64) -> impl Iterator<Item = usize> {
        let slots = self.slots.len() as u64;
        successors(Some(client), |&hash| Some(mix(hash)))
            .take(PROBES)
            .filter_map(move |hash| {
                let slot = usize::try_from(hash.checked_rem(slots)?).ok()?;
                usize::try_from(*self.slots.get(slot)?).ok()
            })
    }

    /// How much this client belongs to this backend; the highest has it
    /// (rendezvous hashing, Thaler and Ravishankar 1998, with weights). For
    /// backups, and for clients whose every preference is unusable.
    #[expect(
        clippy::cast_precision_loss,
        reason = "52 bits of a hash are as good as 64"
    )]
    pub(super) fn standing(&self, client: u64, backend: usize) -> f64 {
        let (own, weight) = self.entries.get(backend).copied().unwrap_or_default();
        // In (0, 1); its logarithm makes shares follow weights.
        let drawn = ((mix(own ^ client) >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
        -f64::from(weight.max(1)) / drawn.ln()
    }
}

/// A backend's way through the slots: all of them, once each, since the number of
/// slots is prime.
struct Walk {
    at: usize,
    step: usize,
    weight: u64,
    taken: u64,
    backend: u32,
}

/// The walks, in an order that depends on nothing but the backends' names.
fn walks(key: &HashKey, backends: &[Entry<'_>]) -> (usize, Vec<Walk>) {
    let has_slots = |b: &Entry<'_>| !b.backup && b.weight > 0;
    let count = backends.iter().filter(|b| has_slots(b)).count();
    let slots = slots_for(count);
    let below = |bound: usize, domain, name: &str| {
        let hash = key.hash(domain, name.as_bytes()) % (bound as u64);
        usize::try_from(hash).unwrap_or_default()
    };
    let mut walks: Vec<_> = (0..)
        .zip(backends)
        .filter(|(_, b)| has_slots(b))
        .map(|(backend, b)| {
            let walk = Walk {
                at: below(slots, Domain::Offset, b.name),
                step: 1 + below(slots - 1, Domain::Step, b.name),
                weight: b.weight.into(),
                taken: 0,
                backend,
            };
            (b.name, walk)
        })
        .collect();
    walks.sort_unstable_by(|(a, one), (b, other)| {
        (one.at, one.step, a).cmp(&(other.at, other.step, b))
    });
    (slots, walks.into_iter().map(|(_, walk)| walk).collect())
}

/// Turn by turn each backend takes the next free slot on its way, in each round as
/// often as its weight says: once or twice on average. What a weight is worth in a
/// round is a power of two, so that it seldom changes with the pool.
fn fill((slots, mut walks): (usize, Vec<Walk>)) -> Box<[u32]> {
    let total: u64 = walks.iter().map(|walk| walk.weight).sum();
    let Some(mean) = total.checked_div(walks.len() as u64) else {
        return Box::default();
    };
    let unit = mean.ilog2();
    let mut table = Table::new(slots);
    for round in 1.. {
        for walk in &mut walks {
            let due = (round * walk.weight) >> unit;
            while walk.taken < due {
                if table.free == 0 {
                    return table.slots;
                }
                table.give_next(walk);
                walk.taken += 1;
            }
        }
    }
    table.slots
}

/// A table being filled.
struct Table {
    slots: Box<[u32]>,
    /// One bit per slot: most steps find a slot taken, and these bits stay in the
    /// processor's cache where the slots do not.
    taken: Box<[u64]>,
    free: usize,
}

impl Table {
    fn new(slots: usize) -> Self {
        Self {
            slots: vec![0; slots].into(),
            taken: vec![0; slots.div_ceil(64)].into(),
            free: slots,
        }
    }

    fn give_next(&mut self, walk: &mut Walk) {
        let size = self.slots.len();
        loop {
            let slot = walk.at;
            walk.at += walk.step;
            if walk.at >= size {
                walk.at -= size;
            }
            let Some(word) = self.taken.get_mut(slot / 64) else {
                return;
            };
            let bit = 1 << (slot % 64);
            if *word & bit == 0 {
                *word |= bit;
                self.free -= 1;
                if let Some(given) = self.slots.get_mut(slot) {
                    *given = walk.backend;
                }
                return;
            }
        }
    }
}

/// The smallest size with enough slots.
fn slots_for(backends: usize) -> usize {
    let enough = backends.saturating_mul(SLOTS_PER_BACKEND);
    let [small, middle, large] = SIZES;
    match enough {
        _ if enough <= small => small,
        _ if enough <= middle => middle,
        _ => large,
    }
}

/// For sizes of a table: over 2.
const fn is_prime(size: usize) -> bool {
    let mut factor = 2;
    while factor * factor <= size {
        if size.is_multiple_of(factor) {
            return false;
        }
        factor += 1;
    }
    true
}

// Of any other size some walk would never find its slot.
const _: () = assert!(is_prime(SIZES[0]) && is_prime(SIZES[1]) && is_prime(SIZES[2]));
