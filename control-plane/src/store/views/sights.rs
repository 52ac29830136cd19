//! How the fleet stands, row by row and in few words: what is compared from one look
//! to the next, and what is searched for trouble.

use std::net::IpAddr;

use tidegate_core::plan;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{AgentMistake, SeenCounts, Serving, Store, StoreError, Traffic, broken};
use crate::journal::BackendEvent;

/// What agents see and how they stand, put together.
pub(crate) struct Sights {
    /// Those that planning counts on.
    pub(crate) fleet: Vec<plan::Agent>,
    pub(crate) agents: Vec<AgentSight>,
    /// By name.
    pub(crate) listeners: Vec<(String, Traffic)>,
    /// By pool and name.
    pub(crate) backends: Vec<(String, String, SeenCounts)>,
    pub(crate) serving: Vec<Serving>,
}

/// How an agent of the fleet stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AgentSight {
    pub(crate) id: Uuid,
    pub(crate) address: IpAddr,
    pub(crate) stand: Stand,
    /// When it last gave a sign of life.
    pub(crate) seen_at: Option<OffsetDateTime>,
    /// Why it cannot run what is wanted of it.
    pub(crate) mistakes: Vec<AgentMistake>,
}

/// What there is to say first of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// It holds no session with a control plane.
    Offline,
    /// It cannot run what is wanted of it, and goes on as before.
    Failed,
    /// It has not said yet that it runs what is wanted of it.
    Behind,
    /// It runs what is wanted, and has stopped to report what it sees.
    Silent,
    Serving,
}

/// How an agent sees a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackendSight {
    pub(crate) of: BackendEvent,
    pub(crate) up: bool,
    pub(crate) ejected: bool,
    pub(crate) admin: String,
}

/// A backend that gets nothing new from an agent, though it should.
#[derive(Clone, Debug)]
pub(crate) struct BackendOut {
    pub(crate) of: BackendEvent,
    /// Left out for failed connects; else its checks fail.
    pub(crate) ejected: bool,
    /// What its last check said.
    pub(crate) words: Option<String>,
}

/// A backend that was taken out of use a while ago.
#[derive(Clone, Debug)]
pub(crate) struct LongSaid {
    pub(crate) pool: String,
    pub(crate) backend: String,
    /// On this one alone; on all when absent.
    pub(crate) agent: Option<Uuid>,
    /// `drain` or `maintenance`.
    pub(crate) state: String,
    pub(crate) set_by: String,
    pub(crate) set_at: OffsetDateTime,
}

impl Store {
    /// How everything stands.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn sights(&self, fresh_since: OffsetDateTime) -> Result<Sights, StoreError> {
        Ok(Sights {
            fleet: self.fleet().await?,
            agents: self.agent_sights(fresh_since).await?,
            listeners: self.listener_sums(fresh_since).await?,
            backends: self.backend_sums(fresh_since).await?,
            serving: self.serving(fresh_since).await?,
        })
    }

    /// How each agent of the fleet stands, by id.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn agent_sights(
        &self,
        fresh_since: OffsetDateTime,
    ) -> Result<Vec<AgentSight>, StoreError> {
        let rows = sqlx::query!(
            r#"select a.id, a.address, a.session is not null as "connected!", a.seen_at, a.mistakes,
                      d.hash is not distinct from a.applied_hash as "applied!",
                      d.hash is not distinct from a.failed_hash as "failed!",
                      coalesce((select max(o.at) < $1 from observed_listeners o
                                where o.agent = a.id), false) as "silent!"
               from agents a join desired d on d.agent = a.id
               where a.revoked_at is null order by a.id"#,
            fresh_since
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                let stand = match (row.connected, row.applied, row.failed, row.silent) {
                    (false, ..) => Stand::Offline,
                    (true, false, true, _) => Stand::Failed,
                    (true, false, false, _) => Stand::Behind,
                    (true, true, _, true) => Stand::Silent,
                    (true, true, _, false) => Stand::Serving,
                };
                let mistakes = serde_json::from_value(row.mistakes);
                Ok(AgentSight {
                    id: row.id,
                    address: row.address.addr(),
                    stand,
                    seen_at: row.seen_at,
                    mistakes: match stand {
                        Stand::Failed => {
                            mistakes.map_err(|why| broken("an agent's mistakes", why))?
                        }
                        _ => Vec::new(),
                    },
                })
            })
            .collect()
    }

    /// How agents see backends now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn backend_sights(
        &self,
        fresh_since: OffsetDateTime,
    ) -> Result<Vec<BackendSight>, StoreError> {
        let rows = sqlx::query!(
            "select pool, backend, agent, up, ejected, admin from observed_backends where at >= $1",
            fresh_since
        )
        .fetch_all(&self.pool)
        .await?;
        let sights = rows.into_iter().map(|row| BackendSight {
            of: BackendEvent {
                pool: row.pool,
                backend: row.backend,
                agent: row.agent,
            },
            up: row.up,
            ejected: row.ejected,
            admin: row.admin,
        });
        Ok(sights.collect())
    }

    /// Backends that get nothing new from an agent, though nobody said so; `limit` of
    /// them, by pool and backend.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn backends_out(
        &self,
        fresh_since: OffsetDateTime,
        limit: u32,
    ) -> Result<Vec<BackendOut>, StoreError> {
        let rows = sqlx::query!(
            "select pool, backend, agent, up, check_words from observed_backends
             where at >= $1 and admin = 'ready' and (ejected or not up)
             order by pool, backend, agent limit $2",
            fresh_since,
            i64::from(limit)
        )
        .fetch_all(&self.pool)
        .await?;
        let out = rows.into_iter().map(|row| BackendOut {
            of: BackendEvent {
                pool: row.pool,
                backend: row.backend,
                agent: row.agent,
            },
            ejected: row.up,
            words: row.check_words,
        });
        Ok(out.collect())
    }

    /// What was said of backends before a moment and still holds, oldest first; `limit`
    /// of them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn said_before(
        &self,
        before: OffsetDateTime,
        limit: u32,
    ) -> Result<Vec<LongSaid>, StoreError> {
        let rows = sqlx::query_as!(
            LongSaid,
            "select pool, backend, agent, state, set_by, set_at from admin_states
             where set_at < $1 and state <> 'ready' order by set_at, pool, backend limit $2",
            before,
            i64::from(limit)
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }

    /// The number of the audit's last row; 0 when there is none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn last_audit(&self) -> Result<u64, StoreError> {
        let last = sqlx::query_scalar!(r#"select coalesce(max(number), 0) as "last!" from audit"#)
            .fetch_one(&self.pool)
            .await?;
        Ok(super::counted(last))
    }
}
