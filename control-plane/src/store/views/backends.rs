//! Backends: what operators say of them, and how each agent sees them.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::PgConnection;
use tidegate_core::plan::Admin;
use tidegate_core::snapshot::Fingerprint;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Store, StoreError, Writing, broken, counted, facts, is_stale};

/// A backend as an agent sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct BackendSeen {
    pub(crate) agent: Uuid,
    /// Where it is, seen from there.
    pub(crate) address: String,
    /// Whether its checks pass.
    pub(crate) up: bool,
    /// Whether it is left out for failed connects, whatever its checks say.
    pub(crate) ejected: bool,
    /// Its share now: less than written while it starts slowly, more where its agent
    /// says that it has several processes. Absent where an older agent does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weight: Option<f64>,
    /// What the agent goes by: `ready`, `drain` or `maintenance`.
    pub(crate) admin: String,
    /// Connections now.
    pub(crate) in_flight: u64,
    /// Since the agent's start.
    pub(crate) connects: u64,
    pub(crate) connects_failed: u64,
    /// A second.
    pub(crate) connect_rate: f64,
    /// Absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_check: Option<CheckSeen>,
    /// When it was reported.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) at: OffsetDateTime,
    /// Reports have stopped: this says nothing about now.
    pub(crate) stale: bool,
}

/// A health check that was made.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CheckSeen {
    pub(crate) passed: bool,
    /// What came back, in words.
    pub(crate) words: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) at: OffsetDateTime,
}

/// How many connections an agent last said that it has to a backend.
#[derive(Clone, Debug)]
pub(crate) struct LiveTo {
    pub(crate) agent: Uuid,
    pub(crate) connections: u64,
    pub(crate) at: OffsetDateTime,
    /// Reports have stopped: this says nothing about now.
    pub(crate) stale: bool,
}

/// What operators say of a backend: on one agent, or on all.
#[derive(Clone, Debug)]
pub(crate) struct AdminRow {
    pub(crate) backend: String,
    pub(crate) agent: Option<Uuid>,
    pub(crate) said: Admin,
    pub(crate) set_by: String,
    pub(crate) set_at: OffsetDateTime,
}

impl Store {
    /// The backends of a pool as agents see them, by backend's name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn backends_seen(
        &self,
        pool: &str,
        fresh_since: OffsetDateTime,
    ) -> Result<HashMap<String, Vec<BackendSeen>>, StoreError> {
        let rows = sqlx::query!(
            "select agent, backend, address, up, admin, in_flight, connects, connects_failed,
                    connect_rate, check_passed, check_words, checked_at, ejected, weight, at
             from observed_backends where pool = $1 order by backend, agent",
            pool
        )
        .fetch_all(&self.pool)
        .await?;
        let mut seen: HashMap<String, Vec<BackendSeen>> = HashMap::new();
        for row in rows {
            let check = row.check_passed.zip(row.checked_at);
            let last_check = check.map(|(passed, at)| CheckSeen {
                passed,
                words: row.check_words.unwrap_or_default(),
                at,
            });
            seen.entry(row.backend).or_default().push(BackendSeen {
                agent: row.agent,
                address: row.address,
                up: row.up,
                ejected: row.ejected,
                weight: row.weight,
                admin: row.admin,
                in_flight: counted(row.in_flight),
                connects: counted(row.connects),
                connects_failed: counted(row.connects_failed),
                connect_rate: row.connect_rate,
                last_check,
                at: row.at,
                stale: is_stale(row.at, fresh_since),
            });
        }
        Ok(seen)
    }

    /// How many connections agents have to one backend, by agent.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn live_to(
        &self,
        pool: &str,
        backend: &str,
        fresh_since: OffsetDateTime,
    ) -> Result<Vec<LiveTo>, StoreError> {
        let rows = sqlx::query!(
            "select agent, in_flight, at from observed_backends
             where pool = $1 and backend = $2 order by agent",
            pool,
            backend
        )
        .fetch_all(&self.pool)
        .await?;
        let seen = rows.into_iter().map(|row| LiveTo {
            agent: row.agent,
            connections: counted(row.in_flight),
            at: row.at,
            stale: is_stale(row.at, fresh_since),
        });
        Ok(seen.collect())
    }

    /// What operators say of the backends of a pool.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn admin_states(&self, pool: &str) -> Result<Vec<AdminRow>, StoreError> {
        admin_states(&mut *self.pool.acquire().await?, pool).await
    }

    /// Which agents were ever sent the key of which chain.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn key_holders(&self) -> Result<Vec<(Fingerprint, Uuid)>, StoreError> {
        let rows = sqlx::query!(
            "select distinct k.fingerprint, k.agent from key_deliveries k join agents a on a.id = k.agent
             where a.removed_at is null order by k.fingerprint, k.agent"
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| Ok((super::fingerprint(&row.fingerprint)?, row.agent)))
            .collect()
    }
}

impl Writing {
    /// As [`Store::admin_states`], in this write.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn admin_states(&mut self, pool: &str) -> Result<Vec<AdminRow>, StoreError> {
        admin_states(&mut self.transaction, pool).await
    }

    /// The chain in use under a name, and when it was uploaded.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn certificate_in_use(
        &mut self,
        name: &str,
    ) -> Result<Option<(Fingerprint, OffsetDateTime)>, StoreError> {
        let row = sqlx::query!(
            "select fingerprint, uploaded_at from certificate_versions where name = $1
             order by number desc limit 1",
            name
        )
        .fetch_optional(&mut *self.transaction)
        .await?;
        row.map(|row| Ok((super::fingerprint(&row.fingerprint)?, row.uploaded_at)))
            .transpose()
    }
}

async fn admin_states(
    connection: &mut PgConnection,
    pool: &str,
) -> Result<Vec<AdminRow>, StoreError> {
    let rows = sqlx::query!(
        "select backend, agent, state, pace_per_second, pace_since, pace_until, set_by, set_at
         from admin_states where pool = $1
         order by backend, agent nulls first",
        pool
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let state = row.state.parse();
            let pace = facts::pace(row.pace_per_second, row.pace_since, row.pace_until)?;
            Ok(AdminRow {
                backend: row.backend,
                agent: row.agent,
                said: Admin {
                    state: state.map_err(|why| broken("an admin state", why))?,
                    pace,
                },
                set_by: row.set_by,
                set_at: row.set_at,
            })
        })
        .collect()
}
