//! What keeps the database in order by itself: replicas say that they live, one
//! of them at a time forgets agents that are gone and rows that are old.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError, WriteError};
use crate::model::{AgentId, Author};

impl Store {
    /// Writes down that this control plane lives.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn replica_lives(
        &self,
        replica: Uuid,
        address: &str,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into replicas (id, address) values ($1, $2)
             on conflict (id) do update set seen_at = now(), address = excluded.address",
            replica,
            address
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// This control plane ends in order: its agents are nobody's.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn replica_ends(&self, replica: Uuid) -> Result<(), StoreError> {
        sqlx::query!("delete from replicas where id = $1", replica)
            .execute(&self.pool)
            .await?;
        sqlx::query!(
            "update agents set session = null, replica = null where replica = $1",
            replica
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Takes or keeps the lease on some work, until `patience` from now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn lease(
        &self,
        work: &str,
        replica: Uuid,
        patience: Duration,
    ) -> Result<bool, StoreError> {
        let taken = sqlx::query!(
            "insert into leases as l (name, holder, until)
             values ($1, $2, now() + make_interval(secs => $3))
             on conflict (name) do update set holder = excluded.holder, until = excluded.until
             where l.holder = excluded.holder or l.until < now()
             returning holder",
            work,
            replica,
            patience.as_secs_f64()
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(taken.is_some())
    }

    /// Ends the sessions of control planes that died without a word.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn bury_replicas(&self, silent: Duration) -> Result<(), StoreError> {
        let dead = sqlx::query_scalar!(
            "delete from replicas where seen_at < now() - make_interval(secs => $1) returning id",
            silent.as_secs_f64()
        )
        .fetch_all(&self.pool)
        .await?;
        sqlx::query!(
            "update agents set session = null, replica = null
             where replica = any($1)
                or (replica is not null and replica not in (select id from replicas))",
            &dead
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Agents that have been away for longer than `patience` while some control
    /// plane was there to notice (`since`), taken out of the fleet.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn forget_agents(
        &self,
        patience: Duration,
        since: OffsetDateTime,
    ) -> Result<Vec<AgentId>, WriteError> {
        let gone = sqlx::query_scalar!(
            "select id from agents
             where revoked_at is null and session is null
               and greatest(seen_at, $2) < now() - make_interval(secs => $1)",
            patience.as_secs_f64(),
            since
        )
        .fetch_all(&self.pool)
        .await?;
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let mut writing = self.write(&Author::control_plane()).await?;
        let mut forgotten = Vec::new();
        for id in gone {
            if writing.remove_agent(AgentId(id)).await? {
                forgotten.push(AgentId(id));
            }
        }
        writing.commit().await?;
        Ok(forgotten)
    }

    /// Snapshots that nobody should run any more, old reports and commands, sessions that
    /// are over, and what agents that left were seen to do.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn sweep(&self) -> Result<(), StoreError> {
        let mut transaction = self.begin("begin").await?;
        // Between commits: one under way may be about to want such a snapshot.
        sqlx::query!("select one from cluster for update")
            .fetch_one(&mut *transaction)
            .await?;
        sqlx::query!(
            "delete from snapshots s where not exists (select from desired d where d.hash = s.hash)"
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        // A repeat comes within minutes; after that nobody asks.
        sqlx::query!("delete from reports where at < now() - interval '1 day'")
            .execute(&self.pool)
            .await?;
        sqlx::query!("delete from commands where at < now() - interval '1 day'")
            .execute(&self.pool)
            .await?;
        sqlx::query!("delete from sessions where expires_at < now()")
            .execute(&self.pool)
            .await?;
        sqlx::query!(
            "delete from observed_backends o where not exists
             (select from agents a where a.id = o.agent and a.revoked_at is null)"
        )
        .execute(&self.pool)
        .await?;
        sqlx::query!(
            "delete from observed_pools o where not exists
             (select from agents a where a.id = o.agent and a.revoked_at is null)"
        )
        .execute(&self.pool)
        .await?;
        sqlx::query!(
            "delete from observed_listeners o where not exists
             (select from agents a where a.id = o.agent and a.revoked_at is null)"
        )
        .execute(&self.pool)
        .await?;
        sqlx::query!(
            "delete from observed_clients o where not exists
             (select from agents a where a.id = o.agent and a.revoked_at is null)"
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
