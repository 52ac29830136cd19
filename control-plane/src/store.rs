//! The only SQL. [`Store`] hands out reads, and one kind of write: a [`Writing`]
//! transaction that holds the cluster's row, so that commits come one after the
//! other and their numbers have no gaps (`write`). Model types go in and out.
//!
//! To add a table: a migration, a file here with its queries, `scripts/sqlx` to
//! refresh what is checked at compile time. Not found is `Ok(None)`.

mod agents;
mod api_tokens;
mod commands;
mod document;
mod facts;
mod history;
mod joining;
mod secrets;
mod sessions;
mod stats;
mod tickets;
mod upkeep;
mod views;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::ca::{Authority, CaError};
use crate::model::Numbers;
use crate::seal::{Kek, SealError};

pub(crate) use agents::{AgentState, Presence};
pub(crate) use api_tokens::{KnownApiToken, NewApiToken, StoredApiToken};
pub(crate) use commands::CommandOutcome;
pub(crate) use history::Revision;
pub(crate) use joining::JoinRefusal;
pub(crate) use secrets::NewCertificate;
pub(crate) use sessions::NewSession;
pub(crate) use tickets::{SealedTicketKey, TicketKeyRow, TicketSet};
#[cfg(test)]
pub(crate) use views::Serving;
pub(crate) use views::{
    AdminRow, AgentCounts, AgentMistake, AgentRow, AgentSight, AuditRow, BackendCounts, BackendOut,
    BackendSeen, BackendSight, ConnectionCounts, HeldKey, ListenerSeen, LiveAt, LiveTo, LongSaid,
    PoolSeen, Ranked, ReplicaSeen, Rollout, RunVersion, SeenCounts, Sights, Stand, Traffic,
    WindowSum,
};
pub(crate) use write::{WriteError, Writing, difference};

/// The channel on which a commit says that there is something to read. A hint:
/// the numbers in the database are the truth.
const CHANNEL: &str = "tidegate_change";
/// A known text, sealed at the beginning: another key does not open it.
const KEY_CHECK: &[u8] = b"tidegate";

/// Why the database did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It is away, or refuses.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// It is another version's, or not ours.
    #[error("the database's tables cannot be brought up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A row holds what this version cannot have written.
    #[error("the database holds a broken row: {0}")]
    Broken(String),
    /// The database was sealed with another key.
    #[error(
        "this database was sealed with another key-encryption key: give the first control plane's \
         with --kek-file (it is `kek` in its state directory)"
    )]
    AnotherKey,
    /// A secret does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The authority cannot be made or read.
    #[error(transparent)]
    Ca(#[from] CaError),
}

/// Connections of one control plane.
const CONNECTIONS: u32 = 20;
/// Writes that wait for the cluster's row at once; more wait without a
/// connection, so that reads still find one.
const WRITES: usize = 4;
/// For one statement, also one that waits for the cluster's row.
const STATEMENT: &str = "30s";
/// A control plane that stops in the middle of a write must not hold the
/// cluster's row for ever.
const IDLE_IN_WRITE: &str = "30s";

/// The database of a cluster.
#[derive(Clone)]
pub(crate) struct Store {
    pool: PgPool,
    writes: Arc<Semaphore>,
}

/// Who this cluster is.
pub(crate) struct Cluster {
    pub(crate) id: Uuid,
    pub(crate) authority: Authority,
}

impl Store {
    /// Connects and brings the tables up to date.
    ///
    /// # Errors
    /// When the database cannot be reached, or belongs to something else.
    pub(crate) async fn connect(url: &str) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.application_name("tidegate").options([
            ("statement_timeout", STATEMENT),
            ("idle_in_transaction_session_timeout", IDLE_IN_WRITE),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(Duration::from_secs(5))
            .connect_with(options)
            .await?;
        let mut migrations = sqlx::migrate!("../migrations");
        // During an upgrade a newer version may have been here before.
        migrations.set_ignore_missing(true);
        migrations.run(&pool).await?;
        let writes = Arc::new(Semaphore::new(WRITES));
        Ok(Self { pool, writes })
    }

    /// A transaction. A request that is given up during its BEGIN would leave the
    /// connection in the pool inside one that sqlx does not know of, and that the next
    /// user would write in; a task of its own always comes to the end of it.
    async fn begin(
        &self,
        how: &'static str,
    ) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, StoreError> {
        let pool = self.pool.clone();
        let begin = tokio::spawn(async move { pool.begin_with(how).await });
        Ok(begin
            .await
            .map_err(|error| broken("a transaction", error))??)
    }

    /// The cluster of this database; the first control plane makes it.
    ///
    /// # Errors
    /// When the database was sealed with another key.
    pub(crate) async fn cluster(
        &self,
        kek: &Kek,
        now: OffsetDateTime,
    ) -> Result<Cluster, StoreError> {
        self.found_cluster(kek, now).await?;
        let row = sqlx::query!("select id, key_check, ca_certificate, ca_key from cluster")
            .fetch_one(&self.pool)
            .await?;
        if kek.open("key-check", &row.key_check).is_err() {
            return Err(StoreError::AnotherKey);
        }
        self.renew_epoch().await?;
        let key = kek.open("authority", &row.ca_key)?;
        Ok(Cluster {
            id: row.id,
            authority: Authority::load(row.id, row.ca_certificate, &key)?,
        })
    }

    /// Begins a new epoch where the database is a restored backup: it counts
    /// from older numbers, and agents must not compare them with later ones.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn renew_epoch(&self) -> Result<(), StoreError> {
        let mut transaction = self.begin("begin").await?;
        let here = incarnation(&mut transaction).await?;
        let renewed = sqlx::query!(
            "update cluster set epoch = gen_random_uuid(), incarnation = $1 where incarnation <> $1",
            here
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        if renewed.rows_affected() > 0 {
            tracing::warn!("the database was restored from a backup: a new epoch begins");
        }
        Ok(())
    }

    /// Begins a new epoch after `epoch`: its numbers have gone back, so the
    /// database was restored in place.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn end_epoch(&self, epoch: Uuid) -> Result<(), StoreError> {
        sqlx::query!(
            "update cluster set epoch = gen_random_uuid() where epoch = $1",
            epoch
        )
        .execute(&self.pool)
        .await?;
        tracing::warn!("the database's numbers went back: a new epoch begins");
        Ok(())
    }

    async fn found_cluster(&self, kek: &Kek, now: OffsetDateTime) -> Result<(), StoreError> {
        let id = Uuid::new_v4();
        let (certificate, key) = Authority::make(id, now)?;
        let mut transaction = self.begin("begin").await?;
        let here = incarnation(&mut transaction).await?;
        sqlx::query!(
            "insert into cluster (id, epoch, incarnation, key_check, ca_certificate, ca_key)
             values ($1, gen_random_uuid(), $2, $3, $4, $5)
             on conflict (one) do nothing",
            id,
            here,
            kek.seal("key-check", KEY_CHECK)?,
            certificate,
            kek.seal("authority", &key)?,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Where numbers stand now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn numbers(&self) -> Result<Numbers, StoreError> {
        let row = sqlx::query!("select epoch, change, revision from cluster")
            .fetch_one(&self.pool)
            .await?;
        Ok(Numbers {
            epoch: row.epoch,
            change: unsigned(row.change),
            revision: unsigned(row.revision),
        })
    }

    /// Hears of commits. After an error notifications may be lost: read the
    /// numbers.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub(crate) async fn listen(&self) -> Result<PgListener, StoreError> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }
}

/// Where this database runs: another one after a backup was restored to another
/// server or database, or the server went back in time.
async fn incarnation(
    transaction: &mut sqlx::Transaction<'static, sqlx::Postgres>,
) -> Result<String, StoreError> {
    let row = sqlx::query!(
        r#"select format('%s/%s/%s', s.system_identifier, c.timeline_id, d.oid) as "here!"
           from pg_control_system() s, pg_control_checkpoint() c, pg_database d
           where d.datname = current_database()"#
    )
    .fetch_one(&mut **transaction)
    .await?;
    Ok(row.here)
}

/// Postgres counts in signed numbers; ours begin at 0.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn broken(what: &str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Broken(format!("{what}: {why}"))
}

fn fingerprint(bytes: &[u8]) -> Result<tidegate_core::snapshot::Fingerprint, StoreError> {
    tidegate_proto::convert::fingerprint(bytes).map_err(|why| broken("a hash", why))
}
