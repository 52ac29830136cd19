//! Who does most: one bounded summary per ranked measure and worker, merged
//! when somebody asks. Memory is fixed whatever addresses clients come from.

use serde::Serialize;
use tidegate_core::addr::ClientKey;
use tidegate_core::tally::{DEFAULT_CAPACITY, Tally};

/// The summaries of one worker.
#[derive(Clone)]
pub(crate) struct Tallies {
    pub(crate) connections: Tally,
    pub(crate) bytes: Tally,
    pub(crate) handshake_failures: Tally,
    pub(crate) refused: Tally,
}

impl Default for Tallies {
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

impl Tallies {
    /// Takes in another worker's.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.connections.merge(&other.connections);
        self.bytes.merge(&other.bytes);
        self.handshake_failures.merge(&other.handshake_failures);
        self.refused.merge(&other.refused);
    }
}

/// The top of one measure, as the debug page shows it.
#[derive(Serialize)]
pub(crate) struct Top {
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
    /// The first `n` of a measure.
    pub(crate) fn of(tally: &Tally, n: usize) -> Self {
        let rows = tally.top(n).into_iter();
        let row = |r: tidegate_core::tally::Row| TopRow {
            client: client(r.client),
            count: r.count,
            error: r.error,
        };
        let top: Vec<TopRow> = rows.map(row).collect();
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

fn client(key: ClientKey) -> String {
    key.to_string()
}
