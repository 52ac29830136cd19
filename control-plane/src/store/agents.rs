//! Agents: who is connected where, what each should run and says it runs, and
//! how they leave. Sessions and states are observed: they take no number and
//! notify nobody.

use ipnet::IpNet;
use std::net::IpAddr;
use tidegate_core::document::Mistake;
use tidegate_core::snapshot::Fingerprint;
use tidegate_proto::convert::Version;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError, WriteError, Writing, broken, fingerprint, signed, unsigned};
use crate::model::{AgentId, Applied, Author, Desired, Outcome};

/// Whether an agent may be here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AgentState {
    /// Yes.
    Enrolled,
    /// No more: revoked or removed.
    Revoked,
    /// Nobody by that name, as far as this database knows.
    Unknown,
}

/// What an agent tells of itself when it connects.
#[derive(Clone, Debug)]
pub(crate) struct Presence {
    /// Names the session: only it may end what it began.
    pub(crate) session: Uuid,
    pub(crate) replica: Uuid,
    pub(crate) boot: Uuid,
    pub(crate) address: IpAddr,
    pub(crate) health_port: u16,
    pub(crate) version: String,
    pub(crate) certificate_not_after: OffsetDateTime,
}

impl Store {
    /// Whether an agent may be here.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn agent_state(&self, agent: AgentId) -> Result<AgentState, StoreError> {
        let row = sqlx::query!("select revoked_at from agents where id = $1", agent.0)
            .fetch_optional(&self.pool)
            .await?;
        Ok(match row {
            None => AgentState::Unknown,
            Some(row) if row.revoked_at.is_some() => AgentState::Revoked,
            Some(_) => AgentState::Enrolled,
        })
    }

    /// An agent connects. Where it has another address than before, the fleet is
    /// planned anew.
    ///
    /// # Errors
    /// When the fleet cannot run with its new address.
    pub(crate) async fn agent_connects(
        &self,
        agent: AgentId,
        presence: &Presence,
    ) -> Result<(), WriteError> {
        let address = IpNet::from(presence.address);
        let port = i32::from(presence.health_port);
        // Sessions are numbered by time: one that was overtaken changes nothing.
        sqlx::query!(
            "update agents set session = $2, replica = $3, boot_id = $4, version = $5,
                    certificate_not_after = $6, seen_at = now(), ticket_keys = null
             where id = $1 and (session is null or session <= $2)",
            agent.0,
            presence.session,
            presence.replica,
            presence.boot,
            presence.version,
            presence.certificate_not_after
        )
        .execute(&self.pool)
        .await?;
        let same = sqlx::query_scalar!(
            r#"select address = $2 and health_port = $3 as "same!" from agents where id = $1"#,
            agent.0,
            address,
            port
        )
        .fetch_optional(&self.pool)
        .await?;
        if same.unwrap_or(true) {
            return Ok(());
        }
        let mut writing = self.write(&Author(format!("agent {agent}"))).await?;
        sqlx::query!(
            "update agents set address = $2, health_port = $3 where id = $1",
            agent.0,
            address,
            port
        )
        .execute(&mut *writing.transaction)
        .await?;
        writing.note("move", &format!("agents/{agent}"));
        writing.commit().await?;
        Ok(())
    }

    /// A session ends. If another has begun meanwhile, it stays.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn agent_leaves(
        &self,
        agent: AgentId,
        session: Uuid,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "update agents set session = null, replica = null, seen_at = now()
             where id = $1 and session = $2",
            agent.0,
            session
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Writes down that these sessions live on this replica, also after another
    /// one took it for dead.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn agents_seen(
        &self,
        replica: Uuid,
        live: &[(AgentId, Uuid)],
    ) -> Result<(), StoreError> {
        let (agents, sessions): (Vec<Uuid>, Vec<Uuid>) = live
            .iter()
            .map(|(agent, session)| (agent.0, *session))
            .unzip();
        sqlx::query!(
            "update agents a set session = t.session, replica = $1, seen_at = now()
             from unnest($2::uuid[], $3::uuid[]) as t(agent, session)
             where a.id = t.agent and (a.session is null or a.session <= t.session)",
            replica,
            &agents,
            &sessions
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// A renewed certificate.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn agent_renewed(
        &self,
        agent: AgentId,
        not_after: OffsetDateTime,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "update agents set certificate_not_after = $2, seen_at = now() where id = $1",
            agent.0,
            not_after
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// What an agent should run.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn desired(&self, agent: AgentId) -> Result<Option<Desired>, StoreError> {
        let rows = self.desired_since(&[agent], 0).await?;
        Ok(rows.into_iter().next().map(|(_, desired)| desired))
    }

    /// What changed after number `change` for these agents.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn desired_since(
        &self,
        agents: &[AgentId],
        change: u64,
    ) -> Result<Vec<(AgentId, Desired)>, StoreError> {
        let ids: Vec<Uuid> = agents.iter().map(|agent| agent.0).collect();
        let rows = sqlx::query!(
            "select agent, change, revision, hash from desired
             where change > $1 and agent = any($2)",
            signed(change),
            &ids
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                let desired = Desired {
                    change: unsigned(row.change),
                    revision: unsigned(row.revision),
                    hash: fingerprint(&row.hash)?,
                };
                Ok((AgentId(row.agent), desired))
            })
            .collect()
    }

    /// Those among `agents` that were revoked.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn revoked_among(
        &self,
        agents: &[AgentId],
    ) -> Result<Vec<AgentId>, StoreError> {
        let ids: Vec<Uuid> = agents.iter().map(|agent| agent.0).collect();
        let revoked = sqlx::query_scalar!(
            "select id from agents where id = any($1) and revoked_at is not null",
            &ids
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(revoked.into_iter().map(AgentId).collect())
    }

    /// The canonical bytes of a snapshot, and the certificates it names.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn snapshot(
        &self,
        hash: Fingerprint,
    ) -> Result<Option<(Vec<u8>, Vec<Fingerprint>)>, StoreError> {
        let row = sqlx::query!(
            "select bytes, fingerprints from snapshots where hash = $1",
            hash.as_bytes().as_slice()
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let named = row.fingerprints.iter().map(|f| fingerprint(f));
        Ok(Some((row.bytes, named.collect::<Result<_, _>>()?)))
    }

    /// What an agent says of a snapshot.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn agent_says(
        &self,
        agent: AgentId,
        applied: &Applied,
    ) -> Result<(), StoreError> {
        let Applied { version, outcome } = applied;
        match outcome {
            Outcome::Applying => self.agent_is(agent, "applying").await,
            Outcome::Applied => self.agent_runs(agent, version).await,
            Outcome::Failed(mistakes) => self.agent_failed(agent, version, mistakes).await,
        }
    }

    async fn agent_is(&self, agent: AgentId, state: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "update agents set state = $2, state_at = now() where id = $1",
            agent.0,
            state
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn agent_runs(&self, agent: AgentId, version: &Version) -> Result<(), StoreError> {
        sqlx::query!(
            "update agents set state = 'applied', state_at = now(), mistakes = '[]',
                    failed_hash = null, applied_epoch = $2, applied_change = $3,
                    applied_revision = $4, applied_hash = $5
             where id = $1",
            agent.0,
            version.epoch,
            signed(version.change),
            signed(version.revision),
            version.hash.as_bytes().as_slice()
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn agent_failed(
        &self,
        agent: AgentId,
        version: &Version,
        mistakes: &[Mistake],
    ) -> Result<(), StoreError> {
        let mistakes = serde_json::to_value(mistakes).map_err(|why| broken("mistakes", why))?;
        sqlx::query!(
            "update agents set state = 'failed', state_at = now(), failed_hash = $2, mistakes = $3
             where id = $1",
            agent.0,
            version.hash.as_bytes().as_slice(),
            mistakes
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

impl Writing {
    /// Takes an agent out of the fleet for ever; whether there was one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn revoke_agent(&mut self, agent: AgentId) -> Result<bool, StoreError> {
        let revoked = sqlx::query!(
            "update agents set revoked_at = coalesce(revoked_at, now()),
                    revoked_by = coalesce(revoked_by, $2)
             where id = $1 and removed_at is null
             returning (select old.revoked_at is null from agents old where old.id = $1) as \"newly!\"",
            agent.0,
            self.author().0.clone()
        )
        .fetch_optional(&mut *self.transaction)
        .await?;
        if revoked.as_ref().is_some_and(|row| row.newly) {
            self.note("revoke", &format!("agents/{agent}"));
        }
        Ok(revoked.is_some())
    }

    /// Hides an agent from lists, and revokes it; whether there was one. Its row
    /// stays, so that it is told when it comes back.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn remove_agent(&mut self, agent: AgentId) -> Result<bool, StoreError> {
        let there = self.revoke_agent(agent).await?;
        if there {
            sqlx::query!(
                "update agents set removed_at = now() where id = $1",
                agent.0
            )
            .execute(&mut *self.transaction)
            .await?;
            self.note("remove", &format!("agents/{agent}"));
        }
        Ok(there)
    }
}
