//! What connected agents are told to do once and at once. A command is a row per
//! agent, taken by the control plane the agent is connected to, whichever that is,
//! and answered in the same row. It is no change of what should run: it takes no
//! number of the cluster's, and who is not connected is not told.

use std::time::Duration;

use tidegate_core::document::{BackendName, Name};
use tidegate_proto::convert::CutBackend;
use uuid::Uuid;

use super::{CHANNEL, Store, StoreError, broken, signed, unsigned};
use crate::model::{AgentId, Author, Command};

/// How old a command may be when it is said: what was meant for now must not
/// happen later.
const FRESH: Duration = Duration::from_secs(10);

/// What came of a command on one agent.
#[derive(Clone, Debug)]
pub(crate) struct CommandOutcome {
    pub(crate) agent: Uuid,
    /// Whether it has answered.
    pub(crate) done: bool,
    /// Why it was not done.
    pub(crate) error: Option<String>,
    /// How many connections it cut.
    pub(crate) connections: u64,
}

impl Store {
    /// Tells every connected agent, or the one, to cut its connections to a backend;
    /// the numbers of the commands, one for each that is told.
    ///
    /// # Errors
    /// When the database does not answer; nobody is told then.
    pub(crate) async fn cut_backend(
        &self,
        author: &Author,
        pool: &Name,
        backend: &BackendName,
        agent: Option<AgentId>,
    ) -> Result<Vec<i64>, StoreError> {
        let (pool, backend, agent) = (pool.as_str(), backend.as_str(), agent.map(|a| a.0));
        let mut transaction = self.begin("begin").await?;
        let numbers = sqlx::query_scalar!(
            "insert into commands (agent, pool, backend)
             select id, $1, $2 from agents
             where session is not null and revoked_at is null and ($3::uuid is null or id = $3)
             returning number",
            pool,
            backend,
            agent
        )
        .fetch_all(&mut *transaction)
        .await?;
        let subject = match agent {
            Some(agent) => format!("pools/{pool}/backends/{backend} on {agent}"),
            None => format!("pools/{pool}/backends/{backend}"),
        };
        sqlx::query!(
            "insert into audit (author, action, subject) values ($1, 'kill', $2)",
            author.0,
            subject
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!("select pg_notify($1, 'command')", CHANNEL)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(numbers)
    }

    /// Takes the commands for these agents: nobody else says them then.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn take_commands(
        &self,
        connected: impl FnOnce() -> Vec<AgentId>,
    ) -> Result<Vec<(AgentId, Command)>, StoreError> {
        let fresh = FRESH.as_secs_f64();
        // Mostly there is none, and then nobody is counted up.
        let any = sqlx::query_scalar!(
            r#"select exists (select from commands where taken_at is null
                              and at > now() - make_interval(secs => $1)) as "any!""#,
            fresh
        )
        .fetch_one(&self.pool)
        .await?;
        if !any {
            return Ok(Vec::new());
        }
        let agents: Vec<Uuid> = connected().into_iter().map(|agent| agent.0).collect();
        let rows = sqlx::query!(
            "update commands set taken_at = now()
             where taken_at is null and at > now() - make_interval(secs => $1)
               and agent = any($2)
             returning number, agent, pool, backend",
            fresh,
            &agents
        )
        .fetch_all(&self.pool)
        .await?;
        let bad = |why| broken("a command", why);
        rows.into_iter()
            .map(|row| {
                let cut = CutBackend {
                    pool: row.pool.parse().map_err(bad)?,
                    backend: row.backend.parse().map_err(bad)?,
                };
                let number = unsigned(row.number);
                Ok((AgentId(row.agent), Command { number, cut }))
            })
            .collect()
    }

    /// Writes down what an agent made of a command: how many connections it cut, or
    /// why it did not.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn command_done(
        &self,
        agent: AgentId,
        number: u64,
        outcome: Result<u64, &str>,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "update commands set done_at = now(), connections = $3, error = $4
             where number = $1 and agent = $2 and done_at is null",
            signed(number),
            agent.0,
            outcome.ok().map(signed),
            outcome.err()
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// What came of commands so far, by agent.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn command_outcomes(
        &self,
        numbers: &[i64],
    ) -> Result<Vec<CommandOutcome>, StoreError> {
        let rows = sqlx::query!(
            r#"select agent, done_at is not null as "done!", error, connections
               from commands where number = any($1) order by agent"#,
            numbers
        )
        .fetch_all(&self.pool)
        .await?;
        let outcomes = rows.into_iter().map(|row| CommandOutcome {
            agent: row.agent,
            done: row.done,
            error: row.error,
            connections: row.connections.map_or(0, unsigned),
        });
        Ok(outcomes.collect())
    }
}
