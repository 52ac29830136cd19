//! Who does most: one bounded summary for each measure, listener and data
//! thread, taken and merged for every report. Memory is fixed whatever addresses
//! clients come from: all summaries of a thread share [`ENTRIES`].
//!
//! A client is counted once in a fleet: its connections and bytes where it
//! comes in, its failed handshakes where they fail, refusals where they are made.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroUsize;
use std::sync::Arc;

use serde::Serialize;
use tidegate_core::addr::ClientKey;
use tidegate_core::document::{Name, Role};
use tidegate_core::tally::{DEFAULT_CAPACITY, Row, Tally};

use crate::facts::ListenerFacts;
use crate::state::State;

/// Of all summaries of a thread together, 64 bytes each: 1 MiB. With up to four
/// listeners each has full summaries; more of them share.
const ENTRIES: usize = 16 * DEFAULT_CAPACITY.get();

/// What clients are ranked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    Connections,
    Bytes,
    HandshakeFailures,
    Refused,
}

impl Measure {
    pub(crate) const ALL: [Self; 4] = [
        Self::Connections,
        Self::Bytes,
        Self::HandshakeFailures,
        Self::Refused,
    ];
}

/// What one data thread has counted since it was taken last.
pub(crate) struct Tallies {
    /// Knows how many listeners share.
    state: Arc<State>,
    /// Entries that no summary has yet.
    left: usize,
    counted: Counted,
}

/// Summaries by measure and listener.
#[derive(Clone, Default)]
pub(crate) struct Counted {
    connections: HashMap<Name, Ranked>,
    bytes: HashMap<Name, Ranked>,
    handshake_failures: HashMap<Name, Ranked>,
    refused: HashMap<Name, Ranked>,
}

/// The summary of one measure of one listener.
#[derive(Clone)]
pub(crate) struct Ranked {
    pub(crate) role: Role,
    pub(crate) tally: Tally,
}

impl Tallies {
    /// Nothing yet.
    pub(crate) fn new(state: &Arc<State>) -> Self {
        Self {
            state: Arc::clone(state),
            left: ENTRIES,
            counted: Counted::default(),
        }
    }

    /// Adds to a client's amount.
    pub(crate) fn add(
        &mut self,
        listener: &ListenerFacts,
        measure: Measure,
        client: ClientKey,
        amount: u64,
    ) {
        let listeners = self.counted.of_mut(measure);
        if let Some(ranked) = listeners.get_mut(&listener.name) {
            ranked.tally.add(client, amount);
            return;
        }
        let sharing = self.state.active().listeners.len();
        // With nothing left, a listener that came since the last report waits for
        // the next one.
        let Some(capacity) = share(sharing, self.left) else {
            return;
        };
        self.left -= capacity.get();
        let mut tally = Tally::new(capacity);
        tally.add(client, amount);
        let role = listener.role;
        listeners.insert(listener.name.clone(), Ranked { role, tally });
    }

    /// What was counted; from here on it is counted afresh.
    pub(crate) fn take(&mut self) -> Counted {
        self.left = ENTRIES;
        std::mem::take(&mut self.counted)
    }

    /// What was counted so far.
    pub(crate) fn counted(&self) -> &Counted {
        &self.counted
    }
}

impl Counted {
    /// The summaries of a measure.
    pub(crate) fn of(&self, measure: Measure) -> &HashMap<Name, Ranked> {
        match measure {
            Measure::Connections => &self.connections,
            Measure::Bytes => &self.bytes,
            Measure::HandshakeFailures => &self.handshake_failures,
            Measure::Refused => &self.refused,
        }
    }

    fn of_mut(&mut self, measure: Measure) -> &mut HashMap<Name, Ranked> {
        match measure {
            Measure::Connections => &mut self.connections,
            Measure::Bytes => &mut self.bytes,
            Measure::HandshakeFailures => &mut self.handshake_failures,
            Measure::Refused => &mut self.refused,
        }
    }

    /// Takes in what another thread counted.
    pub(crate) fn merge(&mut self, mut other: Self) {
        for measure in Measure::ALL {
            let ours = self.of_mut(measure);
            for (name, theirs) in other.of_mut(measure).drain() {
                match ours.entry(name) {
                    Entry::Occupied(mut there) => there.get_mut().tally.merge(&theirs.tally),
                    Entry::Vacant(free) => {
                        free.insert(theirs);
                    }
                }
            }
        }
    }
}

/// All listeners together, since the agent started: what the debug page shows.
#[derive(Clone)]
pub(crate) struct Summary {
    connections: Tally,
    bytes: Tally,
    handshake_failures: Tally,
    refused: Tally,
}

impl Default for Summary {
    fn default() -> Self {
        let tally = || Tally::new(DEFAULT_CAPACITY);
        Self {
            connections: tally(),
            bytes: tally(),
            handshake_failures: tally(),
            refused: tally(),
        }
    }
}

impl Summary {
    /// Takes in what was counted meanwhile.
    pub(crate) fn merge(&mut self, counted: &Counted) {
        for measure in Measure::ALL {
            let tally = self.of_mut(measure);
            for ranked in counted.of(measure).values() {
                tally.merge(&ranked.tally);
            }
        }
    }

    /// The first `n` of each measure.
    pub(crate) fn top(&self, n: usize) -> TopOfEach {
        TopOfEach {
            connections: Top::of(&self.connections, n),
            bytes: Top::of(&self.bytes, n),
            handshake_failures: Top::of(&self.handshake_failures, n),
            refused: Top::of(&self.refused, n),
        }
    }

    fn of_mut(&mut self, measure: Measure) -> &mut Tally {
        match measure {
            Measure::Connections => &mut self.connections,
            Measure::Bytes => &mut self.bytes,
            Measure::HandshakeFailures => &mut self.handshake_failures,
            Measure::Refused => &mut self.refused,
        }
    }
}

/// The debug page of clients.
#[derive(Serialize)]
pub(crate) struct TopOfEach {
    connections: Top,
    bytes: Top,
    handshake_failures: Top,
    refused: Top,
}

/// The top of one measure.
#[derive(Serialize)]
struct Top {
    /// Of all clients together, exact.
    total: u64,
    /// The most that a client not listed can have.
    bound: u64,
    /// The true count of each is between `count - error` and `count`.
    top: Vec<TopRow>,
}

#[derive(Serialize)]
struct TopRow {
    client: String,
    count: u64,
    error: u64,
}

impl Top {
    fn of(tally: &Tally, n: usize) -> Self {
        let row = |row: Row| TopRow {
            client: row.client.to_string(),
            count: row.count,
            error: row.error,
        };
        let top: Vec<TopRow> = tally.top(n).into_iter().map(row).collect();
        // A client that the summary knows but this page leaves out is bounded
        // by the page's last row.
        let cut = top
            .last()
            .filter(|_| top.len() == n)
            .map_or(0, |last| last.count);
        Self {
            total: tally.total(),
            bound: tally.bound().max(cut),
            top,
        }
    }
}

/// Entries for a new summary, when `sharing` listeners share and `left` are left.
fn share(sharing: usize, left: usize) -> Option<NonZeroUsize> {
    let even = ENTRIES / Measure::ALL.len() / sharing.max(1);
    NonZeroUsize::new(even.clamp(1, DEFAULT_CAPACITY.get()).min(left))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::state::tests::two_backends;
    use crate::tls::Keys;

    fn client(n: u32) -> ClientKey {
        ClientKey::new(Ipv4Addr::from(n).into())
    }

    #[test]
    fn a_flood_on_many_listeners_takes_no_more_entries_than_there_are() {
        let state = Arc::new(State::new(1));
        let ready = state.prepare(two_backends(), &Keys::default(), |b| b.start);
        state.swap(ready.unwrap());
        let mut tallies = Tallies::new(&state);
        for listener in 0..100 {
            let name = format!("l{listener}").parse().unwrap();
            let facts = state.facts().listener(&name, Role::Balancer);
            for measure in Measure::ALL {
                (0..2000).for_each(|n| tallies.add(&facts, measure, client(n), 1));
            }
        }
        let entries = |counted: &Counted| -> usize {
            let all = Measure::ALL.into_iter();
            let tallies = all.flat_map(|m| counted.of(m).values());
            tallies.map(|r| r.tally.top(usize::MAX).len()).sum()
        };
        assert_eq!(entries(tallies.counted()), ENTRIES);
        let taken = tallies.take();
        assert_eq!((entries(&taken), entries(tallies.counted())), (ENTRIES, 0));
    }

    #[test]
    fn listeners_that_are_known_share_evenly() {
        assert_eq!(share(1, ENTRIES), Some(DEFAULT_CAPACITY));
        assert_eq!(share(4, ENTRIES), Some(DEFAULT_CAPACITY));
        assert_eq!(share(64, ENTRIES).unwrap().get(), 64);
        assert_eq!(share(1_000_000, ENTRIES).unwrap().get(), 1);
        assert_eq!(share(1, 0), None);
    }

    #[test]
    fn threads_and_intervals_add_up() {
        let state = Arc::new(State::new(2));
        let (mut one, mut two) = (Tallies::new(&state), Tallies::new(&state));
        let facts = state
            .facts()
            .listener(&"edge".parse().unwrap(), Role::Balancer);
        let mut summary = Summary::default();
        for _ in 0..3 {
            one.add(&facts, Measure::Bytes, client(1), 10);
            two.add(&facts, Measure::Bytes, client(1), 1);
            two.add(&facts, Measure::Bytes, client(2), 5);
            let mut both = one.take();
            both.merge(two.take());
            assert_eq!(both.of(Measure::Bytes)[&facts.name].tally.total(), 16);
            assert!(both.of(Measure::Connections).is_empty());
            summary.merge(&both);
        }
        let top = summary.top(10).bytes;
        assert_eq!(
            (top.total, top.top[0].count, top.top[1].count),
            (48, 33, 15)
        );
    }
}
