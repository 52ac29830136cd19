//! Agents: what each is, should run, says it runs, holds and sees.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tidegate_core::document::{Labels, Role};
use tidegate_core::snapshot::Fingerprint;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Store, StoreError, Writing, broken, counted, facts, fingerprint, is_stale, unsigned};
use crate::model::{AgentId, Desired};

/// An agent, with everything that is known of it.
pub(crate) struct AgentRow {
    pub(crate) id: Uuid,
    pub(crate) roles: Vec<Role>,
    pub(crate) labels: Labels,
    pub(crate) address: IpAddr,
    pub(crate) health_port: u16,
    pub(crate) version: String,
    pub(crate) connected: bool,
    pub(crate) seen_at: Option<OffsetDateTime>,
    pub(crate) enrolled_at: OffsetDateTime,
    pub(crate) join_token: String,
    pub(crate) revoked_at: Option<OffsetDateTime>,
    pub(crate) revoked_by: Option<String>,
    pub(crate) certificate_not_after: Option<OffsetDateTime>,
    pub(crate) desired: Option<Desired>,
    pub(crate) applied: Option<RunVersion>,
    /// As the agent says, `applying`, `applied` or `failed`; absent before it did.
    pub(crate) state: Option<String>,
    pub(crate) mistakes: Vec<AgentMistake>,
    pub(crate) held: Vec<HeldKey>,
    pub(crate) listeners: Vec<ListenerSeen>,
}

/// What an agent says it runs.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct RunVersion {
    /// The database's incarnation: numbers of two epochs are never compared.
    pub(crate) epoch: Uuid,
    pub(crate) change: u64,
    pub(crate) revision: u64,
    /// SHA-256 of the content.
    #[schema(value_type = String)]
    pub(crate) hash: Fingerprint,
}

/// Why an agent cannot run what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AgentMistake {
    /// Where in the document, by name: `/listeners/edge/bind`.
    pub(crate) pointer: String,
    pub(crate) message: String,
}

/// A private key that was sent to an agent.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct HeldKey {
    /// The certificate.
    pub(crate) name: String,
    /// Which version of it: SHA-256 of its chain.
    #[schema(value_type = String)]
    pub(crate) fingerprint: Fingerprint,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) first_sent_at: OffsetDateTime,
}

/// A listener as an agent sees it. Amounts since the agent's start, rates a second.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ListenerSeen {
    pub(crate) listener: String,
    pub(crate) role: String,
    /// Connections now.
    pub(crate) live: u64,
    /// Clients (IPv4 address or IPv6 /64) now.
    pub(crate) clients_live: u64,
    pub(crate) accepted: u64,
    pub(crate) accept_rate: f64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) byte_rate: f64,
    pub(crate) handshakes: u64,
    pub(crate) handshakes_failed: u64,
    pub(crate) handshake_rate: f64,
    /// Of the handshakes those that resumed a session.
    pub(crate) resumed: u64,
    pub(crate) resumed_rate: f64,
    pub(crate) requests: u64,
    pub(crate) requests_failed: u64,
    pub(crate) refused: u64,
    /// When it was reported.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) at: OffsetDateTime,
    /// Reports have stopped: this says nothing about now.
    pub(crate) stale: bool,
}

/// Who runs what is wanted of it.
#[derive(Debug, Default)]
pub(crate) struct Rollout {
    pub(crate) applied: Vec<Uuid>,
    pub(crate) failed: Vec<(Uuid, Vec<AgentMistake>)>,
    pub(crate) pending: Vec<Uuid>,
    pub(crate) offline: Vec<Uuid>,
}

impl Store {
    /// All agents that were not removed, or the one; by id.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn agents(
        &self,
        one: Option<AgentId>,
        fresh_since: OffsetDateTime,
    ) -> Result<Vec<AgentRow>, StoreError> {
        let mut agents = self.agent_rows(one).await?;
        let ids: Vec<Uuid> = agents.iter().map(|agent| agent.id).collect();
        let mut held = self.held_keys(&ids).await?;
        let mut listeners = self.listeners_seen(&ids, fresh_since).await?;
        for agent in &mut agents {
            agent.held = held.remove(&agent.id).unwrap_or_default();
            agent.listeners = listeners.remove(&agent.id).unwrap_or_default();
        }
        Ok(agents)
    }

    async fn agent_rows(&self, one: Option<AgentId>) -> Result<Vec<AgentRow>, StoreError> {
        let rows = sqlx::query!(
            r#"select a.id, a.roles, a.labels, a.address, a.health_port, a.version,
                      a.session is not null as "connected!", a.seen_at, a.enrolled_at, a.join_token,
                      a.revoked_at, a.revoked_by, a.certificate_not_after, a.state, a.mistakes,
                      a.applied_epoch, a.applied_change, a.applied_revision, a.applied_hash,
                      d.change as "change?", d.revision as "revision?", d.hash as "hash?"
               from agents a left join desired d on d.agent = a.id
               where a.removed_at is null and ($1::uuid is null or a.id = $1)
               order by a.id"#,
            one.map(|agent| agent.0)
        )
        .fetch_all(&self.pool)
        .await?;
        let mut agents = Vec::with_capacity(rows.len());
        for row in rows {
            let health_port = u16::try_from(row.health_port);
            agents.push(AgentRow {
                id: row.id,
                roles: facts::roles(&row.roles)?.into_iter().collect(),
                labels: facts::labels(&row.labels)?,
                address: row.address.addr(),
                health_port: health_port.map_err(|why| broken("a port", why))?,
                version: row.version,
                connected: row.connected,
                seen_at: row.seen_at,
                enrolled_at: row.enrolled_at,
                join_token: row.join_token,
                revoked_at: row.revoked_at,
                revoked_by: row.revoked_by,
                certificate_not_after: row.certificate_not_after,
                desired: desired(row.change, row.revision, row.hash)?,
                applied: applied(
                    row.applied_epoch,
                    row.applied_change,
                    row.applied_revision,
                    row.applied_hash,
                )?,
                state: row.state,
                mistakes: mistakes(row.mistakes)?,
                held: Vec::new(),
                listeners: Vec::new(),
            });
        }
        Ok(agents)
    }

    async fn held_keys(&self, agents: &[Uuid]) -> Result<HashMap<Uuid, Vec<HeldKey>>, StoreError> {
        let rows = sqlx::query!(
            "select agent, name, fingerprint, first_sent_at from key_deliveries
             where agent = any($1) order by agent, name, first_sent_at",
            agents
        )
        .fetch_all(&self.pool)
        .await?;
        let mut held: HashMap<Uuid, Vec<HeldKey>> = HashMap::new();
        for row in rows {
            held.entry(row.agent).or_default().push(HeldKey {
                name: row.name,
                fingerprint: fingerprint(&row.fingerprint)?,
                first_sent_at: row.first_sent_at,
            });
        }
        Ok(held)
    }

    async fn listeners_seen(
        &self,
        agents: &[Uuid],
        fresh_since: OffsetDateTime,
    ) -> Result<HashMap<Uuid, Vec<ListenerSeen>>, StoreError> {
        let rows = sqlx::query!(
            "select agent, listener, role, live, clients_live, accepted, bytes_in, bytes_out,
                    handshakes, handshakes_failed, requests, requests_failed, refused, accept_rate,
                    byte_rate, handshake_rate, resumed, resumed_rate, at
             from observed_listeners where agent = any($1) order by agent, listener",
            agents
        )
        .fetch_all(&self.pool)
        .await?;
        let mut listeners: HashMap<Uuid, Vec<ListenerSeen>> = HashMap::new();
        for row in rows {
            listeners.entry(row.agent).or_default().push(ListenerSeen {
                listener: row.listener,
                role: row.role,
                live: counted(row.live),
                clients_live: counted(row.clients_live),
                accepted: counted(row.accepted),
                accept_rate: row.accept_rate,
                bytes_in: counted(row.bytes_in),
                bytes_out: counted(row.bytes_out),
                byte_rate: row.byte_rate,
                handshakes: counted(row.handshakes),
                handshakes_failed: counted(row.handshakes_failed),
                handshake_rate: row.handshake_rate,
                resumed: counted(row.resumed),
                resumed_rate: row.resumed_rate,
                requests: counted(row.requests),
                requests_failed: counted(row.requests_failed),
                refused: counted(row.refused),
                at: row.at,
                stale: is_stale(row.at, fresh_since),
            });
        }
        Ok(listeners)
    }

    /// How many connected agents have not yet said what they made of what is
    /// wanted of them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn agents_pending(&self) -> Result<i64, StoreError> {
        let pending = sqlx::query_scalar!(
            r#"select count(*) as "pending!" from agents a join desired d on d.agent = a.id
               where a.revoked_at is null and a.session is not null
                 and d.hash is distinct from a.applied_hash
                 and d.hash is distinct from a.failed_hash"#
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(pending)
    }

    /// Who runs what is wanted of it, by id.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn rollout(&self) -> Result<Rollout, StoreError> {
        let rows = sqlx::query!(
            r#"select a.id, a.session is not null as "connected!",
                      d.hash is not distinct from a.applied_hash as "applied!",
                      d.hash is not distinct from a.failed_hash as "failed!", a.mistakes
               from agents a join desired d on d.agent = a.id
               where a.revoked_at is null order by a.id"#
        )
        .fetch_all(&self.pool)
        .await?;
        let mut rollout = Rollout::default();
        for row in rows {
            match (row.connected, row.applied, row.failed) {
                (false, ..) => rollout.offline.push(row.id),
                (true, true, _) => rollout.applied.push(row.id),
                (true, false, true) => rollout.failed.push((row.id, mistakes(row.mistakes)?)),
                (true, false, false) => rollout.pending.push(row.id),
            }
        }
        Ok(rollout)
    }
}

impl Writing {
    /// What writes can change of an agent that was not removed: when and by whom it
    /// was revoked.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn revoked(
        &mut self,
        agent: AgentId,
    ) -> Result<Option<Option<OffsetDateTime>>, StoreError> {
        let row = sqlx::query!(
            "select revoked_at from agents where id = $1 and removed_at is null",
            agent.0
        )
        .fetch_optional(&mut *self.transaction)
        .await?;
        Ok(row.map(|row| row.revoked_at))
    }
}

fn desired(
    change: Option<i64>,
    revision: Option<i64>,
    hash: Option<Vec<u8>>,
) -> Result<Option<Desired>, StoreError> {
    let (Some(change), Some(revision), Some(hash)) = (change, revision, hash) else {
        return Ok(None);
    };
    Ok(Some(Desired {
        change: unsigned(change),
        revision: unsigned(revision),
        hash: fingerprint(&hash)?,
    }))
}

fn applied(
    epoch: Option<Uuid>,
    change: Option<i64>,
    revision: Option<i64>,
    hash: Option<Vec<u8>>,
) -> Result<Option<RunVersion>, StoreError> {
    let (Some(epoch), Some(change), Some(revision), Some(hash)) = (epoch, change, revision, hash)
    else {
        return Ok(None);
    };
    Ok(Some(RunVersion {
        epoch,
        change: unsigned(change),
        revision: unsigned(revision),
        hash: fingerprint(&hash)?,
    }))
}

fn mistakes(stored: serde_json::Value) -> Result<Vec<AgentMistake>, StoreError> {
    serde_json::from_value(stored).map_err(|why| broken("an agent's mistakes", why))
}
