//! The heaviest clients of a stream, in fixed memory, each with its error bound:
//! Space-Saving (Metwally, Agrawal, El Abbadi: "Efficient Computation of Frequent
//! and Top-k Elements in Data Streams", 2005).
//!
//! Owns one summary of one measure. Exact counts of connected clients, intervals
//! and reports are the agent's, which adds once per connection and event and
//! sweeps now and then; the control plane merges what agents report.

use std::num::NonZeroUsize;

use crate::addr::ClientKey;

/// Entries of a summary unless someone has a reason for more: lists every client
/// with over a thousandth of the total, whatever flood is around it.
pub const DEFAULT_CAPACITY: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// One client's amount as far as the summary knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The client.
    pub client: ClientKey,
    /// At least its true amount.
    pub count: u64,
    /// By how much at most `count` exceeds it.
    pub error: u64,
}

/// The summary: 64 bytes per entry, allocated once, so 64 KiB at
/// [`DEFAULT_CAPACITY`].
///
/// For each listed client, `count - error <= true amount <= count`; for any other,
/// `true amount <= bound()`. Amounts saturate at 2^64 - 1, after which only the
/// ranking means something.
///
/// Clients are found by binary search in a sorted index, not by hash: there is
/// nothing for a flood of chosen addresses to collide in, and no seed to draw. An
/// addition costs O(log capacity) comparisons and, for a client not listed, moves
/// part of the index (2.7 KiB on average at [`DEFAULT_CAPACITY`]).
#[derive(Clone, Debug)]
pub struct Tally {
    capacity: NonZeroUsize,
    total: u64,
    /// The most a client can have that was never listed, were there room for it.
    floor: u64,
    /// An entry keeps its place here, its slot, for life; an evicted one's goes to
    /// its successor.
    entries: Vec<Entry>,
    /// Slots, sorted by client.
    index: Vec<usize>,
    /// Slots, as a binary heap with the smallest count first.
    heap: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Entry {
    row: Row,
    /// Where `heap` has this entry's slot.
    position: usize,
}

impl Tally {
    /// An empty summary of up to `capacity` clients. Any client whose share of
    /// the total is over 1 / `capacity` is sure to be listed.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            capacity,
            total: 0,
            floor: 0,
            entries: Vec::with_capacity(capacity.get()),
            index: Vec::with_capacity(capacity.get()),
            heap: Vec::with_capacity(capacity.get()),
        }
    }

    /// Adds to one client's amount. Does not allocate.
    pub fn add(&mut self, client: ClientKey, amount: u64) {
        if amount == 0 {
            return;
        }
        self.total = self.total.saturating_add(amount);
        match self.find(client) {
            Ok(at) => self.grow(at, amount),
            Err(at) => {
                let error = self.bound();
                let row = Row {
                    client,
                    count: error.saturating_add(amount),
                    error,
                };
                if self.is_full() {
                    self.replace_least(at, row);
                } else {
                    self.list(at, row);
                }
            }
        }
    }

    /// The `n` heaviest, heaviest first; equals by client.
    pub fn top(&self, n: usize) -> Vec<Row> {
        let mut rows: Vec<_> = self.rows().collect();
        rank(&mut rows, n);
        rows
    }

    /// The most a client that is not listed can have.
    pub fn bound(&self) -> u64 {
        let least = self.heap.first().and_then(|&slot| self.entries.get(slot));
        match least {
            Some(least) if self.is_full() => least.row.count,
            _ => self.floor,
        }
    }

    /// The sum of all amounts added, also to clients no longer listed.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Takes in another summary, as if its stream had come here, within the bounds
    /// of both (Agarwal et al.: "Mergeable Summaries", 2012): a client that one of
    /// the two does not list may still have that one's [`bound`](Self::bound).
    pub fn merge(&mut self, other: &Self) {
        let (ours, theirs) = (self.bound(), other.bound());
        let joined = self
            .rows()
            .map(|row| plus(row, other.row_or(row.client, theirs)));
        let mut rows: Vec<_> = joined.collect();
        let unknown = other.rows().filter(|row| self.find(row.client).is_err());
        rows.extend(unknown.map(|row| plus(row, (ours, ours))));
        rank(&mut rows, self.capacity.get());

        let total = self.total.saturating_add(other.total);
        self.clear();
        self.total = total;
        self.floor = ours.saturating_add(theirs);
        for row in rows.into_iter().rev() {
            if let Err(at) = self.find(row.client) {
                self.list(at, row);
            }
        }
    }

    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        (self.total, self.floor) = (0, 0);
        self.entries.clear();
        self.index.clear();
        self.heap.clear();
    }

    fn is_full(&self) -> bool {
        self.entries.len() == self.capacity.get()
    }

    fn rows(&self) -> impl Iterator<Item = Row> {
        self.entries.iter().map(|entry| entry.row)
    }
}

/// (count, error) of a client that may be unlisted.
fn plus(row: Row, (count, error): (u64, u64)) -> Row {
    Row {
        count: row.count.saturating_add(count),
        error: row.error.saturating_add(error),
        ..row
    }
}

fn rank(rows: &mut Vec<Row>, n: usize) {
    rows.sort_unstable_by(|a, b| b.count.cmp(&a.count).then(a.client.cmp(&b.client)));
    rows.truncate(n);
}

/// Slots, index and heap. `index` and `heap` are permutations of the slots at all
/// times, and `entries[heap[p]].position == p`.
#[expect(
    clippy::indexing_slicing,
    reason = "slots and positions are made here, all below len"
)]
impl Tally {
    /// Where `index` has this client, or should have.
    fn find(&self, client: ClientKey) -> Result<usize, usize> {
        self.index
            .binary_search_by(|&slot| self.entries[slot].row.client.cmp(&client))
    }

    fn row_or(&self, client: ClientKey, unlisted: u64) -> (u64, u64) {
        self.find(client).map_or((unlisted, unlisted), |at| {
            let row = self.entries[self.index[at]].row;
            (row.count, row.error)
        })
    }

    fn grow(&mut self, at: usize, amount: u64) {
        let entry = &mut self.entries[self.index[at]];
        entry.row.count = entry.row.count.saturating_add(amount);
        let position = entry.position;
        self.sink(position);
    }

    fn list(&mut self, at: usize, row: Row) {
        let (slot, position) = (self.entries.len(), self.heap.len());
        self.entries.push(Entry { row, position });
        self.index.insert(at, slot);
        self.heap.push(slot);
        self.rise(position);
    }

    /// The least entry's slot goes to `row`, and in the index from the place of the
    /// one to that of the other.
    fn replace_least(&mut self, at: usize, row: Row) {
        let slot = self.heap[0];
        if let Ok(from) = self.find(self.entries[slot].row.client) {
            if from < at {
                self.index[from..at].rotate_left(1);
            } else {
                self.index[at..=from].rotate_right(1);
            }
        }
        self.entries[slot].row = row;
        self.sink(0);
    }

    fn rise(&mut self, mut position: usize) {
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.count_at(parent) <= self.count_at(position) {
                break;
            }
            self.swap(parent, position);
            position = parent;
        }
    }

    fn sink(&mut self, mut position: usize) {
        loop {
            let left = 2 * position + 1;
            let children = left..(left + 2).min(self.heap.len());
            let Some(child) = children.min_by_key(|&child| self.count_at(child)) else {
                break;
            };
            if self.count_at(position) <= self.count_at(child) {
                break;
            }
            self.swap(position, child);
            position = child;
        }
    }

    fn count_at(&self, position: usize) -> u64 {
        self.entries[self.heap[position]].row.count
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.entries[self.heap[a]].position = a;
        self.entries[self.heap[b]].position = b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    fn client(number: u32) -> ClientKey {
        ClientKey::new(Ipv4Addr::from(number.wrapping_mul(0x9e37_79b1)).into())
    }

    fn tally(capacity: usize, stream: &[(u32, u64)]) -> Tally {
        let mut tally = Tally::new(NonZeroUsize::new(capacity).unwrap());
        for &(number, amount) in stream {
            tally.add(client(number), amount);
        }
        tally
    }

    fn exact(streams: &[&[(u32, u64)]]) -> BTreeMap<ClientKey, u64> {
        let mut amounts = BTreeMap::new();
        for &(number, amount) in streams.iter().copied().flatten() {
            *amounts.entry(client(number)).or_default() += amount;
        }
        amounts
    }

    #[test]
    fn few_clients_are_counted_exactly_and_ranked() {
        let tally = tally(4, &[(1, 5), (2, 7), (1, 4), (3, 7)]);
        let mut equals = [client(2), client(3)];
        equals.sort();
        let row = |client, count| Row {
            client,
            count,
            error: 0,
        };
        assert_eq!(
            tally.top(9),
            [row(client(1), 9), row(equals[0], 7), row(equals[1], 7)]
        );
        assert_eq!(tally.top(1).len(), 1);
        assert_eq!((tally.bound(), tally.total()), (0, 23));
    }

    #[test]
    fn a_newcomer_takes_the_least_ones_place_and_count() {
        let tally = tally(2, &[(1, 10), (2, 3), (3, 1)]);
        let row = |number, count, error| Row {
            client: client(number),
            count,
            error,
        };
        assert_eq!(tally.top(2), [row(1, 10, 0), row(3, 4, 3)]);
        assert_eq!((tally.bound(), tally.total()), (4, 14));
    }

    #[test]
    fn nothing_added_changes_nothing() {
        let tally = tally(1, &[(1, 2), (2, 0)]);
        assert_eq!(
            tally.top(1),
            [Row {
                client: client(1),
                count: 2,
                error: 0
            }]
        );
    }

    #[test]
    fn a_flood_of_strangers_uses_no_more_memory_and_hides_no_heavy_client() {
        let mut tally = Tally::new(DEFAULT_CAPACITY);
        let room = |tally: &Tally| {
            (
                tally.entries.capacity(),
                tally.index.capacity(),
                tally.heap.capacity(),
            )
        };
        let before = room(&tally);
        for number in 0..200_000 {
            tally.add(client(number), 1);
            if number % 100 == 0 {
                tally.add(ClientKey::new("192.0.2.1".parse().unwrap()), 1);
            }
        }
        assert_eq!(room(&tally), before);
        assert_eq!(tally.top(1)[0].client.to_string(), "192.0.2.1");
        let entry = size_of::<Entry>() + 2 * size_of::<usize>();
        assert!(entry <= 64, "{entry} bytes per entry");
    }

    #[test]
    fn amounts_saturate() {
        let mut tally = tally(1, &[(1, u64::MAX), (1, 1), (2, 1)]);
        assert_eq!((tally.total(), tally.bound()), (u64::MAX, u64::MAX));
        tally.merge(&tally.clone());
        assert_eq!(tally.top(1)[0].count, u64::MAX);
    }

    #[test]
    fn clearing_starts_over() {
        let mut tally = tally(2, &[(1, 1), (2, 2), (3, 3)]);
        tally.merge(&tally.clone());
        tally.clear();
        assert_eq!((tally.top(9), tally.bound(), tally.total()), (vec![], 0, 0));
        tally.add(client(4), 1);
        assert_eq!(
            tally.top(9),
            [Row {
                client: client(4),
                count: 1,
                error: 0
            }]
        );
    }

    #[test]
    fn a_small_summary_lends_its_bound_to_a_roomy_one() {
        let mut roomy = tally(10, &[(1, 1)]);
        roomy.merge(&tally(1, &[(2, 5), (3, 1)]));
        assert_eq!(roomy.bound(), 6);
        roomy.add(client(2), 1);
        assert_eq!(
            roomy.top(1)[0],
            Row {
                client: client(2),
                count: 7,
                error: 6
            }
        );
    }

    fn check(tally: &Tally, truth: &BTreeMap<ClientKey, u64>) {
        let rows = tally.top(usize::MAX);
        assert!(rows.len() <= tally.capacity.get());
        assert_eq!(tally.total(), truth.values().sum::<u64>());
        for row in &rows {
            let amount = truth.get(&row.client).copied().unwrap_or_default();
            assert!(
                row.count - row.error <= amount && amount <= row.count,
                "{row:?}: {amount}"
            );
        }
        for (client, &amount) in truth {
            let listed = rows.iter().any(|row| row.client == *client);
            assert!(listed || amount <= tally.bound(), "{client}: {amount}");
        }
        assert!(rows.iter().map(|row| row.count - row.error).sum::<u64>() <= tally.total());
        assert!(rows.windows(2).all(|pair| pair[0].count >= pair[1].count));
        check_structure(tally);
    }

    fn check_structure(tally: &Tally) {
        let key = |&slot: &usize| tally.entries[slot].row.client;
        assert!(tally.index.iter().map(key).is_sorted_by(|a, b| a < b));
        assert_eq!(
            (tally.index.len(), tally.heap.len()),
            (tally.entries.len(), tally.entries.len())
        );
        for (position, &slot) in tally.heap.iter().enumerate() {
            assert_eq!(tally.entries[slot].position, position);
            assert!(tally.count_at(position.saturating_sub(1) / 2) <= tally.count_at(position));
        }
    }

    /// Some clients are much heavier than others, as in life.
    fn stream() -> impl Strategy<Value = Vec<(u32, u64)>> {
        let number = prop_oneof![0u32..5, 0u32..40];
        proptest::collection::vec((number, 0u64..9), 0..300)
    }

    proptest! {
        #[test]
        fn counts_are_within_their_errors(capacity in 1usize..20, stream in stream()) {
            let tally = tally(capacity, &stream);
            check(&tally, &exact(&[&stream]));
            let counts = tally.rows().map(|row| row.count).sum::<u64>();
            prop_assert_eq!(counts, tally.total(), "every unit is counted once");
            let share = tally.total() / u64::try_from(capacity).unwrap();
            prop_assert!(tally.bound() <= share);
        }

        #[test]
        fn merging_keeps_the_bounds(
            ours in (1usize..20, stream()),
            theirs in (1usize..20, stream()),
            after in stream(),
        ) {
            let mut merged = tally(ours.0, &ours.1);
            merged.merge(&tally(theirs.0, &theirs.1));
            check(&merged, &exact(&[&ours.1, &theirs.1]));
            for &(number, amount) in &after {
                merged.add(client(number), amount);
            }
            check(&merged, &exact(&[&ours.1, &theirs.1, &after]));
            merged.merge(&tally(theirs.0, &after));
            check(&merged, &exact(&[&ours.1, &theirs.1, &after, &after]));
        }

        #[test]
        fn merging_an_empty_one_changes_nothing(capacity in 1usize..20, stream in stream()) {
            let mut merged = tally(capacity, &stream);
            let before = (merged.top(usize::MAX), merged.bound(), merged.total());
            merged.merge(&tally(3, &[]));
            prop_assert_eq!((merged.top(usize::MAX), merged.bound(), merged.total()), before);
        }
    }
}
