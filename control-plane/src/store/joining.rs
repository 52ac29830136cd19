//! Join tokens, and the agents they make. A token is counted and an agent made
//! in the transaction that plans for it: an agent that exists has something to
//! run, even if that is nothing.

use sqlx::types::ipnet::IpNet;
use tidegate_core::document::{Labels, Role};
use tidegate_core::join_token::JoinToken;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError, WriteError, Writing, broken, facts};
use crate::model::{AgentId, Author, Joining, StoredJoinToken};

/// Why a token gives no identity. The agent adds what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JoinRefusal {
    /// No such token, or another secret: which of them is nobody's business.
    #[error("this join token is not known here")]
    Unknown,
    /// It is over.
    #[error("this join token ended at {0}")]
    Expired(OffsetDateTime),
    /// It is used up.
    #[error("this join token was used as often as it may be ({0})")]
    Used(i32),
    /// It does not give what is asked for.
    #[error("this join token does not make a {0}")]
    Role(Role),
    /// The agent it made was revoked.
    #[error(
        "the agent that this join token made was revoked: make another one with `tidegate token \
         create`"
    )]
    Revoked,
}

/// An agent's identity.
#[derive(Clone, Debug)]
pub(crate) struct Enrolled {
    pub(crate) agent: AgentId,
    pub(crate) roles: std::collections::BTreeSet<Role>,
    /// Whether it was there before: the same token and key again.
    pub(crate) again: bool,
}

impl Store {
    /// Keeps a new token; answers it as lists will.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn add_join_token(
        &self,
        author: &Author,
        token: &JoinToken,
        roles: &[Role],
        labels: &Labels,
        uses: i32,
        expires_at: OffsetDateTime,
    ) -> Result<StoredJoinToken, StoreError> {
        let names: Vec<String> = roles.iter().map(Role::to_string).collect();
        let hash = token.secret_hash();
        let mut transaction = self.begin("begin").await?;
        let row = sqlx::query!(
            "insert into join_tokens (id, secret_hash, roles, labels, uses, expires_at, created_by)
             values ($1, $2, $3, $4, $5, $6, $7)
             returning created_at, expires_at",
            token.id,
            hash.as_bytes().as_slice(),
            &names,
            serde_json::to_value(labels).map_err(|why| broken("labels", why))?,
            uses,
            expires_at,
            author.0
        )
        .fetch_one(&mut *transaction)
        .await?;
        audit(
            &mut transaction,
            author,
            "create",
            &format!("join-tokens/{}", token.id),
        )
        .await?;
        transaction.commit().await?;
        Ok(StoredJoinToken {
            id: token.id.clone(),
            roles: roles.iter().copied().collect(),
            labels: labels.clone(),
            uses,
            used: 0,
            expires_at: row.expires_at,
            created_by: author.0.clone(),
            created_at: row.created_at,
        })
    }

    /// All tokens, youngest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn join_tokens(&self) -> Result<Vec<StoredJoinToken>, StoreError> {
        let rows = sqlx::query!(
            "select id, roles, labels, uses, used, expires_at, created_by, created_at
             from join_tokens order by created_at desc, id"
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(StoredJoinToken {
                    id: row.id,
                    roles: facts::roles(&row.roles)?,
                    labels: facts::labels(&row.labels)?,
                    uses: row.uses,
                    used: row.used,
                    expires_at: row.expires_at,
                    created_by: row.created_by,
                    created_at: row.created_at,
                })
            })
            .collect()
    }

    /// Removes a token; agents that it made stay. Whether there was one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn remove_join_token(
        &self,
        author: &Author,
        id: &str,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin("begin").await?;
        let removed = sqlx::query!("delete from join_tokens where id = $1", id)
            .execute(&mut *transaction)
            .await?
            .rows_affected()
            > 0;
        if removed {
            audit(
                &mut transaction,
                author,
                "remove",
                &format!("join-tokens/{id}"),
            )
            .await?;
            transaction.commit().await?;
        }
        Ok(removed)
    }

    /// Redeems a token: a new agent, or the one that the same token and key made
    /// before.
    ///
    /// # Errors
    /// When the fleet cannot run with it; nothing is used up then.
    pub(crate) async fn enroll(
        &self,
        token: &JoinToken,
        joining: &Joining,
        now: OffsetDateTime,
    ) -> Result<Result<Enrolled, JoinRefusal>, WriteError> {
        // First without the cluster's row: anybody may come with anything, and must
        // not be in the way of those who write.
        let mut connection = self.pool.acquire().await?;
        if let Err(refusal) = given(&mut connection, token, joining, now).await? {
            return Ok(Err(refusal));
        }
        drop(connection);
        let author = Author(format!("join token {}", token.id));
        let mut writing = self.write(&author).await?;
        let enrolled = match writing.redeem(token, joining, now).await? {
            Ok(enrolled) => enrolled,
            Err(refusal) => return Ok(Err(refusal)),
        };
        writing.commit().await?;
        Ok(Ok(enrolled))
    }
}

/// What a token gives.
struct Given {
    roles: Vec<String>,
    labels: serde_json::Value,
    /// The agent that it made of this key before.
    again: Option<AgentId>,
}

/// What a token gives to this key, now; nothing is used up.
async fn given(
    connection: &mut sqlx::PgConnection,
    token: &JoinToken,
    joining: &Joining,
    now: OffsetDateTime,
) -> Result<Result<Given, JoinRefusal>, StoreError> {
    let row = sqlx::query!(
        "select secret_hash, roles, labels, uses, used, expires_at from join_tokens where id = $1",
        token.id
    )
    .fetch_optional(&mut *connection)
    .await?;
    let hash = token.secret_hash();
    let is_right = |stored: &[u8]| {
        bool::from(subtle::ConstantTimeEq::ct_eq(
            hash.as_bytes().as_slice(),
            stored,
        ))
    };
    let Some(row) = row.filter(|row| is_right(&row.secret_hash)) else {
        return Ok(Err(JoinRefusal::Unknown));
    };
    let roles = facts::roles(&row.roles)?;
    if let Some(missing) = joining.roles.difference(&roles).next() {
        return Ok(Err(JoinRefusal::Role(*missing)));
    }
    let known = sqlx::query!(
        "select id, revoked_at from agents where join_token = $1 and join_key = $2",
        token.id,
        joining.key.as_bytes().as_slice()
    )
    .fetch_optional(connection)
    .await?;
    // Before the bounds: a lost answer may be asked for again until the token is
    // removed.
    let refusal = match &known {
        Some(agent) if agent.revoked_at.is_some() => Some(JoinRefusal::Revoked),
        Some(_) => None,
        None if row.expires_at <= now => Some(JoinRefusal::Expired(row.expires_at)),
        None if row.used >= row.uses => Some(JoinRefusal::Used(row.uses)),
        None => None,
    };
    Ok(match refusal {
        Some(refusal) => Err(refusal),
        None => Ok(Given {
            roles: row.roles,
            labels: row.labels,
            again: known.map(|agent| AgentId(agent.id)),
        }),
    })
}

impl Writing {
    async fn redeem(
        &mut self,
        token: &JoinToken,
        joining: &Joining,
        now: OffsetDateTime,
    ) -> Result<Result<Enrolled, JoinRefusal>, StoreError> {
        let given = match given(&mut self.transaction, token, joining, now).await? {
            Ok(given) => given,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let agent = given.again.unwrap_or_else(|| AgentId(Uuid::now_v7()));
        if given.again.is_none() {
            self.add_agent(agent, token, joining, &given.roles, &given.labels)
                .await?;
        }
        Ok(Ok(Enrolled {
            agent,
            roles: facts::roles(&given.roles)?,
            again: given.again.is_some(),
        }))
    }

    async fn add_agent(
        &mut self,
        agent: AgentId,
        token: &JoinToken,
        joining: &Joining,
        roles: &[String],
        labels: &serde_json::Value,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "update join_tokens set used = used + 1 where id = $1",
            token.id
        )
        .execute(&mut *self.transaction)
        .await?;
        sqlx::query!(
            "insert into agents
             (id, join_token, join_key, roles, labels, address, health_port, version, seen_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, now())",
            agent.0,
            token.id,
            joining.key.as_bytes().as_slice(),
            roles,
            labels,
            IpNet::from(joining.address),
            i32::from(joining.health_port),
            joining.version
        )
        .execute(&mut *self.transaction)
        .await?;
        self.note("join", &format!("agents/{agent}"));
        Ok(())
    }
}

/// An audit row of what changes nothing that agents run.
pub(super) async fn audit(
    connection: &mut sqlx::PgConnection,
    author: &Author,
    action: &str,
    subject: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into audit (author, action, subject) values ($1, $2, $3)",
        author.0,
        action,
        subject
    )
    .execute(connection)
    .await?;
    Ok(())
}
