//! What agents see, summed up: by agent, listener, pool and backend. Rows that say
//! nothing about now are left out, or counted as stale.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError, counted};

/// What goes through listeners. Rates a second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    /// Connections now.
    pub(crate) live: u64,
    /// Clients now: one that is on two agents counts twice.
    pub(crate) clients_live: u64,
    pub(crate) accept_rate: f64,
    pub(crate) byte_rate: f64,
    pub(crate) handshake_rate: f64,
    /// Of the handshakes those that resumed a session.
    pub(crate) resumed_rate: f64,
}

/// Backends of a pool as agents see them: a pair of an agent and a backend counts
/// once, under the first of these that holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SeenCounts {
    /// Reports have stopped.
    pub(crate) stale: u64,
    /// In drain or maintenance.
    pub(crate) drained: u64,
    /// Its checks fail.
    pub(crate) down: u64,
    /// Left out for failed connects.
    pub(crate) ejected: u64,
    pub(crate) up: u64,
    /// Connections now.
    pub(crate) live: u64,
    /// A second.
    pub(crate) connect_rate: f64,
}

/// How many agents say that a pool is served so, and how many connections wait there.
#[derive(Clone, Debug)]
pub(crate) struct Serving {
    pub(crate) pool: String,
    /// `primary`, `backup`, `fail_open` or `nobody`.
    pub(crate) serving: String,
    pub(crate) agents: u64,
    pub(crate) queued: u64,
}

impl Store {
    /// What goes through each listener, on all agents.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn listener_sums(
        &self,
        fresh_since: OffsetDateTime,
    ) -> Result<Vec<(String, Traffic)>, StoreError> {
        let rows = sqlx::query!(
            r#"select listener,
                      least(sum(live), 9223372036854775807)::bigint as "live!",
                      least(sum(clients_live), 9223372036854775807)::bigint as "clients_live!",
                      sum(accept_rate) as "accept_rate!", sum(byte_rate) as "byte_rate!",
                      sum(handshake_rate) as "handshake_rate!", sum(resumed_rate) as "resumed_rate!"
               from observed_listeners where at >= $1 group by listener order by listener"#,
            fresh_since
        )
        .fetch_all(&self.pool)
        .await?;
        let sums = rows.into_iter().map(|row| {
            let traffic = Traffic {
                live: counted(row.live),
                clients_live: counted(row.clients_live),
                accept_rate: row.accept_rate,
                byte_rate: row.byte_rate,
                handshake_rate: row.handshake_rate,
                resumed_rate: row.resumed_rate,
            };
            (row.listener, traffic)
        });
        Ok(sums.collect())
    }

    /// What goes through each agent, by all its listeners.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn agent_sums(
        &self,
        fresh_since: OffsetDateTime,
    ) -> Result<Vec<(Uuid, Traffic)>, StoreError> {
        let rows = sqlx::query!(
            r#"select agent,
                      least(sum(live), 9223372036854775807)::bigint as "live!",
                      least(sum(clients_live), 9223372036854775807)::bigint as "clients_live!",
                      sum(accept_rate) as "accept_rate!", sum(byte_rate) as "byte_rate!",
                      sum(handshake_rate) as "handshake_rate!", sum(resumed_rate) as "resumed_rate!"
               from observed_listeners where at >= $1 group by agent order by agent"#,
            fresh_since
        )
        .fetch_all(&self.pool)
        .await?;
        let sums = rows.into_iter().map(|row| {
            let traffic = Traffic {
                live: counted(row.live),
                clients_live: counted(row.clients_live),
                accept_rate: row.accept_rate,
                byte_rate: row.byte_rate,
                handshake_rate: row.handshake_rate,
                resumed_rate: row.resumed_rate,
            };
            (row.agent, traffic)
        });
        Ok(sums.collect())
    }

    /// Each backend of each pool, as all agents see it; by pool and backend.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn backend_sums(
        &self,
        fresh_since: OffsetDateTime,
    ) -> Result<Vec<(String, String, SeenCounts)>, StoreError> {
        let rows = sqlx::query!(
            r#"select pool, backend,
                      count(*) filter (where at < $1) as "stale!",
                      count(*) filter (where at >= $1 and admin <> 'ready') as "drained!",
                      count(*) filter (where at >= $1 and admin = 'ready' and not up) as "down!",
                      count(*) filter (where at >= $1 and admin = 'ready' and up and ejected)
                        as "ejected!",
                      count(*) filter (where at >= $1 and admin = 'ready' and up and not ejected)
                        as "up!",
                      least(coalesce(sum(in_flight) filter (where at >= $1), 0),
                            9223372036854775807)::bigint as "live!",
                      coalesce(sum(connect_rate) filter (where at >= $1), 0) as "connect_rate!"
               from observed_backends group by pool, backend order by pool, backend"#,
            fresh_since
        )
        .fetch_all(&self.pool)
        .await?;
        let sums = rows.into_iter().map(|row| {
            let counts = SeenCounts {
                stale: counted(row.stale),
                drained: counted(row.drained),
                down: counted(row.down),
                ejected: counted(row.ejected),
                up: counted(row.up),
                live: counted(row.live),
                connect_rate: row.connect_rate,
            };
            (row.pool, row.backend, counts)
        });
        Ok(sums.collect())
    }

    /// Who serves each pool, and what waits there.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn serving(
        &self,
        fresh_since: OffsetDateTime,
    ) -> Result<Vec<Serving>, StoreError> {
        let rows = sqlx::query!(
            r#"select pool, serving, count(*) as "agents!",
                      least(sum(queued), 9223372036854775807)::bigint as "queued!"
               from observed_pools where at >= $1
               group by pool, serving order by pool, serving"#,
            fresh_since
        )
        .fetch_all(&self.pool)
        .await?;
        let serving = rows.into_iter().map(|row| Serving {
            pool: row.pool,
            serving: row.serving,
            agents: counted(row.agents),
            queued: counted(row.queued),
        });
        Ok(serving.collect())
    }
}

impl SeenCounts {
    /// Of several backends together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            stale: self.stale.saturating_add(other.stale),
            drained: self.drained.saturating_add(other.drained),
            down: self.down.saturating_add(other.down),
            ejected: self.ejected.saturating_add(other.ejected),
            up: self.up.saturating_add(other.up),
            live: self.live.saturating_add(other.live),
            connect_rate: self.connect_rate + other.connect_rate,
        }
    }
}

impl Traffic {
    /// Of several listeners together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            live: self.live.saturating_add(other.live),
            clients_live: self.clients_live.saturating_add(other.clients_live),
            accept_rate: self.accept_rate + other.accept_rate,
            byte_rate: self.byte_rate + other.byte_rate,
            handshake_rate: self.handshake_rate + other.handshake_rate,
            resumed_rate: self.resumed_rate + other.resumed_rate,
        }
    }
}
