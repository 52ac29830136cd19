//! Reads that put rows together for people: agents with what they run and see,
//! backends as each agent sees them, clients by what they did, the whole at a
//! glance. A few queries each, however many agents there are.
//!
//! What agents see is reported every few seconds. A row that is older than
//! `fresh_since` is `stale`: shown with its time, and left out of sums.

mod agents;
mod backends;
mod clients;
mod overview;
mod pools;
mod sights;
mod sums;

use tidegate_core::plan;
use time::OffsetDateTime;

use super::{Store, StoreError, Writing, broken, facts, fingerprint, unsigned};

pub(crate) use agents::{AgentMistake, AgentRow, HeldKey, ListenerSeen, Rollout, RunVersion};
pub(crate) use backends::{AdminRow, BackendSeen, LiveTo};
pub(crate) use clients::{LiveAt, Ranked, WindowSum};
pub(crate) use overview::{AgentCounts, AuditRow, BackendCounts, ConnectionCounts, ReplicaSeen};
pub(crate) use pools::PoolSeen;
pub(crate) use sights::{AgentSight, BackendOut, BackendSight, LongSaid, Sights, Stand};
pub(crate) use sums::{SeenCounts, Serving, Traffic};

impl Store {
    /// The agents that planning counts on: enrolled, not revoked.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn fleet(&self) -> Result<Vec<plan::Agent>, StoreError> {
        facts::agents(&mut *self.pool.acquire().await?).await
    }
}

impl Writing {
    /// As [`Store::fleet`], in this write.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn fleet(&mut self) -> Result<Vec<plan::Agent>, StoreError> {
        facts::agents(&mut self.transaction).await
    }
}

/// A number of bytes, connections or the like, as counted by agents.
fn counted(number: i64) -> u64 {
    unsigned(number)
}

/// Whether a row says nothing any more about now.
fn is_stale(at: OffsetDateTime, fresh_since: OffsetDateTime) -> bool {
    at < fresh_since
}
