//! Pools as each agent sees them.

use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Store, StoreError, counted, is_stale};

/// A pool as an agent sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct PoolSeen {
    pub(crate) agent: Uuid,
    /// Connections that wait for a backend with room.
    pub(crate) queued: u64,
    /// Who serves: `primary`, `backup`, `fail_open` (all are down, and any is tried) or
    /// `nobody`; as of the last change of a check, or the last connection.
    pub(crate) serving: String,
    /// When it was reported.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) at: OffsetDateTime,
    /// Reports have stopped: this says nothing about now.
    pub(crate) stale: bool,
}

impl Store {
    /// A pool as agents see it, by agent.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn pool_seen(
        &self,
        pool: &str,
        fresh_since: OffsetDateTime,
    ) -> Result<Vec<PoolSeen>, StoreError> {
        let rows = sqlx::query!(
            "select agent, queued, serving, at from observed_pools where pool = $1 order by agent",
            pool
        )
        .fetch_all(&self.pool)
        .await?;
        let seen = rows.into_iter().map(|row| PoolSeen {
            agent: row.agent,
            queued: counted(row.queued),
            serving: row.serving,
            at: row.at,
            stale: is_stale(row.at, fresh_since),
        });
        Ok(seen.collect())
    }
}
