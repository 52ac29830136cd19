//! The whole at a glance, and who did what.

use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::signed;
use super::{Store, StoreError, counted, unsigned};
use crate::model::Numbers;

/// Counts over the whole fleet.
#[derive(Clone, Debug)]
pub(crate) struct Overview {
    pub(crate) numbers: Numbers,
    pub(crate) replicas: Vec<ReplicaSeen>,
    pub(crate) agents: AgentCounts,
    pub(crate) backends: BackendCounts,
    pub(crate) connections: ConnectionCounts,
}

/// A control plane that lives.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ReplicaSeen {
    pub(crate) id: Uuid,
    /// Where agents reach it.
    pub(crate) address: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) seen_at: OffsetDateTime,
}

/// Agents that were not removed.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct AgentCounts {
    /// Enrolled, not revoked; the others below are of these.
    pub(crate) total: u64,
    pub(crate) connected: u64,
    /// Run what is wanted of them.
    pub(crate) in_sync: u64,
    /// Cannot run what is wanted of them.
    pub(crate) failed: u64,
    /// Revoked, beside `total`.
    pub(crate) revoked: u64,
}

/// Backends as agents see them: one that two agents see counts twice.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct BackendCounts {
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// Out by an operator's word: drain or maintenance.
    pub(crate) drained: u64,
}

/// Clients' connections, where they enter the fleet: each counts once.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct ConnectionCounts {
    pub(crate) live: u64,
    /// A second.
    pub(crate) accept_rate: f64,
}

/// Something that was done.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct AuditRow {
    pub(crate) number: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) at: OffsetDateTime,
    pub(crate) author: String,
    pub(crate) action: String,
    /// What it was done to: `pools/game`, `agents/<uuid>`.
    pub(crate) subject: String,
    /// The number it took; absent when agents run nothing else for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) change: Option<u64>,
}

impl Store {
    /// The whole at a glance; connections are counted at `edge`, the listeners
    /// where clients come in.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn overview(
        &self,
        edge: &[String],
        fresh_since: OffsetDateTime,
    ) -> Result<Overview, StoreError> {
        Ok(Overview {
            numbers: self.numbers().await?,
            replicas: self.replicas().await?,
            agents: self.agent_counts().await?,
            backends: self.backend_counts(fresh_since).await?,
            connections: self.connection_counts(edge, fresh_since).await?,
        })
    }

    async fn replicas(&self) -> Result<Vec<ReplicaSeen>, StoreError> {
        let rows = sqlx::query_as!(
            ReplicaSeen,
            "select id, address, seen_at from replicas order by started_at, id"
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }

    /// How many agents there are, and how they stand.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn agent_counts(&self) -> Result<AgentCounts, StoreError> {
        let row = sqlx::query!(
            r#"select count(*) filter (where revoked_at is null) as "total!",
                      count(*) filter (where revoked_at is null and session is not null)
                        as "connected!",
                      count(*) filter (where revoked_at is null and d.hash = a.applied_hash)
                        as "in_sync!",
                      count(*) filter (where revoked_at is null and d.hash = a.failed_hash
                        and d.hash is distinct from a.applied_hash) as "failed!",
                      count(*) filter (where revoked_at is not null) as "revoked!"
               from agents a left join desired d on d.agent = a.id where removed_at is null"#
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(AgentCounts {
            total: counted(row.total),
            connected: counted(row.connected),
            in_sync: counted(row.in_sync),
            failed: counted(row.failed),
            revoked: counted(row.revoked),
        })
    }

    async fn backend_counts(
        &self,
        fresh_since: OffsetDateTime,
    ) -> Result<BackendCounts, StoreError> {
        let row = sqlx::query!(
            r#"select count(*) filter (where up and admin = 'ready') as "up!",
                      count(*) filter (where not up and admin = 'ready') as "down!",
                      count(*) filter (where admin <> 'ready') as "drained!"
               from observed_backends where at >= $1"#,
            fresh_since
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(BackendCounts {
            up: counted(row.up),
            down: counted(row.down),
            drained: counted(row.drained),
        })
    }

    async fn connection_counts(
        &self,
        edge: &[String],
        fresh_since: OffsetDateTime,
    ) -> Result<ConnectionCounts, StoreError> {
        let row = sqlx::query!(
            r#"select least(coalesce(sum(live), 0), 9223372036854775807)::bigint as "live!",
                      coalesce(sum(accept_rate), 0) as "accept_rate!"
               from observed_listeners where at >= $1 and listener = any($2)"#,
            fresh_since,
            edge
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(ConnectionCounts {
            live: counted(row.live),
            accept_rate: row.accept_rate,
        })
    }

    /// What was done last, before number `before`; youngest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn audit(
        &self,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let rows = sqlx::query!(
            "select number, at, author, action, subject, change from audit
             where number < $1 order by number desc limit $2",
            before.map_or(i64::MAX, signed),
            i64::from(limit)
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| AuditRow {
                number: unsigned(row.number),
                at: row.at,
                author: row.author,
                action: row.action,
                subject: row.subject,
                change: row.change.map(unsigned),
            })
            .collect())
    }
}
