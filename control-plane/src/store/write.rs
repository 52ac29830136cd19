//! The one way to change what the fleet should do. A [`Writing`] holds the lock
//! on the cluster's row from its first read to its end: whoever writes next sees
//! this write whole. Ending it plans for every agent, takes the next numbers,
//! and stores what each agent should run, all in one transaction.
//!
//! Plans come before the commit: what is impossible on some agent changes
//! nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use sqlx::{Postgres, Transaction};
use tidegate_core::diff::{self, ResourceChange};
use tidegate_core::document::{BackendName, Document, Mistake, Name, Timeout};
use tidegate_core::plan::{Facts, Planner};
use tidegate_core::snapshot::{Fingerprint, Snapshot, Work};
use tidegate_proto::MAX_SNAPSHOT_BYTES;
use tidegate_proto::convert::Encoded;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::{CHANNEL, Store, StoreError, broken, document, facts, signed, unsigned};
use crate::model::{AgentId, Author, Commit, Numbers, Pacing, Saying};

/// Why a write changed nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The database's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The writer's: every reason, with its place in the document.
    #[error("{} mistakes", .0.len())]
    Mistakes(Vec<Mistake>),
}

impl From<sqlx::Error> for WriteError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A write under way. Dropped, it changes nothing.
pub(crate) struct Writing {
    pub(super) transaction: Transaction<'static, Postgres>,
    author: Author,
    numbers: Numbers,
    old: Document,
    new: Option<Document>,
    /// What was done to what, for the audit.
    done: Vec<(String, String)>,
    /// One of few at once; none when the semaphore were closed, which nobody does.
    _turn: Option<OwnedSemaphorePermit>,
}

/// What one agent should run, encoded.
struct Planned {
    bytes: Vec<u8>,
    fingerprints: Vec<Vec<u8>>,
    /// Its listeners that end TLS.
    terminates: Vec<String>,
}

impl Store {
    /// Begins a write: waits for the one before it to end.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn write(&self, author: &Author) -> Result<Writing, StoreError> {
        let turn = Arc::clone(&self.writes).acquire_owned().await.ok();
        let mut transaction = self.begin("begin").await?;
        let row = sqlx::query!("select epoch, change, revision from cluster for update")
            .fetch_one(&mut *transaction)
            .await?;
        let old = document::load(&mut transaction).await?;
        Ok(Writing {
            transaction,
            author: author.clone(),
            numbers: Numbers {
                epoch: row.epoch,
                change: unsigned(row.change),
                revision: unsigned(row.revision),
            },
            old,
            new: None,
            done: Vec::new(),
            _turn: turn,
        })
    }
}

impl Writing {
    /// Where numbers stand before this write.
    pub(crate) fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// The document before this write.
    pub(crate) fn document(&self) -> &Document {
        &self.old
    }

    /// Who writes.
    pub(crate) fn author(&self) -> &Author {
        &self.author
    }

    /// Names of all certificates that were uploaded.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn uploaded(&mut self) -> Result<BTreeSet<Name>, StoreError> {
        document::uploaded(&mut self.transaction).await
    }

    /// Replaces the document.
    pub(crate) fn set_document(&mut self, new: Document, action: &str, subject: &str) {
        self.new = Some(new);
        self.note(action, subject);
    }

    /// Sets what operators say of a backend, on one agent or on all. A pace that
    /// ends begins now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn set_admin_state(
        &mut self,
        pool: &Name,
        backend: &BackendName,
        agent: Option<AgentId>,
        saying: Saying,
    ) -> Result<(), StoreError> {
        let (pool, backend, agent) = (pool.as_str(), backend.as_str(), agent.map(|a| a.0));
        if agent.is_none() {
            // Said for all: what was said for single agents is over.
            sqlx::query!(
                "delete from admin_states where pool = $1 and backend = $2",
                pool,
                backend
            )
            .execute(&mut *self.transaction)
            .await?;
        }
        let (per_second, within) = match saying.pace {
            None => (None, None),
            Some(Pacing::PerSecond(rate)) => (i32::try_from(rate.get()).ok(), None),
            Some(Pacing::Within(time)) => (None, Some(time)),
        };
        // The statement's time, not the transaction's: that has waited for its turn.
        // In whole milliseconds, as snapshots have it.
        sqlx::query!(
            "insert into admin_states (pool, backend, agent, state, set_by, pace_per_second,
                                       pace_since, pace_until)
             values ($1, $2, $3, $4, $5, $6,
                     case when $7::float8 is not null
                          then date_trunc('milliseconds', statement_timestamp()) end,
                     date_trunc('milliseconds', statement_timestamp()) + make_interval(secs => $7))
             on conflict (pool, backend, agent) do update
             set state = excluded.state, set_by = excluded.set_by, set_at = now(),
                 pace_per_second = excluded.pace_per_second, pace_since = excluded.pace_since,
                 pace_until = excluded.pace_until",
            pool,
            backend,
            agent,
            saying.state.as_str(),
            self.author.0,
            per_second,
            within.map(|time: Timeout| time.duration().as_secs_f64())
        )
        .execute(&mut *self.transaction)
        .await?;
        let subject = match agent {
            Some(agent) => format!("pools/{pool}/backends/{backend} on {agent}"),
            None => format!("pools/{pool}/backends/{backend}"),
        };
        self.note(&saying.to_string(), &subject);
        Ok(())
    }

    /// Writes down what this write does, for the audit.
    pub(super) fn note(&mut self, action: &str, subject: &str) {
        self.done.push((action.to_owned(), subject.to_owned()));
    }

    /// What ending it would do; nothing is done.
    ///
    /// # Errors
    /// As [`Writing::commit`].
    pub(crate) async fn dry_run(mut self) -> Result<Commit, WriteError> {
        let (_, commit) = self.plan().await?;
        Ok(commit)
    }

    /// Ends it: everything or nothing.
    ///
    /// # Errors
    /// Everything that is impossible on some agent.
    pub(crate) async fn commit(mut self) -> Result<Commit, WriteError> {
        let (plans, commit) = self.plan().await?;
        if !commit.changed {
            return Ok(commit);
        }
        self.store_plans(&plans, commit.numbers).await?;
        self.store_document(&commit).await?;
        self.store_audit(commit.numbers).await?;
        sqlx::query!(
            "update cluster set change = $1, revision = $2",
            signed(commit.numbers.change),
            signed(commit.numbers.revision)
        )
        .execute(&mut *self.transaction)
        .await?;
        sqlx::query!(
            "select pg_notify($1, $2)",
            CHANNEL,
            commit.numbers.change.to_string()
        )
        .execute(&mut *self.transaction)
        .await?;
        self.transaction.commit().await?;
        Ok(commit)
    }

    /// What each agent should run after this write.
    async fn plan(&mut self) -> Result<(BTreeMap<AgentId, Planned>, Commit), WriteError> {
        let facts = facts::load(&mut self.transaction).await?;
        let document = self.new.as_ref().unwrap_or(&self.old);
        let plans = plan_all(document, &facts)?;
        let diff = match &self.new {
            Some(new) => diff::documents(&self.old, new),
            None => Vec::new(),
        };
        if diff.is_empty() && self.new.take().is_some() {
            // Nothing but words: the old document stands, and so does its order.
            self.done.pop();
        }
        let changed = !self.done.is_empty();
        let mut numbers = self.numbers;
        numbers.change += u64::from(changed);
        numbers.revision += u64::from(self.new.is_some());
        Ok((
            plans,
            Commit {
                numbers,
                changed,
                diff,
            },
        ))
    }

    /// Agents whose content stays the same keep their row, and hear nothing.
    async fn store_plans(
        &mut self,
        plans: &BTreeMap<AgentId, Planned>,
        numbers: Numbers,
    ) -> Result<(), StoreError> {
        let before: HashMap<Uuid, Vec<u8>> = sqlx::query!("select agent, hash from desired")
            .fetch_all(&mut *self.transaction)
            .await?
            .into_iter()
            .map(|row| (row.agent, row.hash))
            .collect();
        let (mut agents, mut hashes) = (Vec::new(), Vec::new());
        let mut contents = HashMap::new();
        for (agent, planned) in plans {
            let hash = Fingerprint::of(&planned.bytes).as_bytes().to_vec();
            if before.get(&agent.0) != Some(&hash) {
                agents.push(agent.0);
                hashes.push(hash.clone());
                contents.insert(hash, planned);
            }
        }
        for (hash, planned) in contents {
            sqlx::query!(
                "insert into snapshots (hash, bytes, fingerprints, terminates) values ($1, $2, $3, $4)
                 on conflict (hash) do nothing",
                hash,
                planned.bytes,
                &planned.fingerprints,
                &planned.terminates
            )
            .execute(&mut *self.transaction)
            .await?;
        }
        sqlx::query!(
            "insert into desired (agent, change, revision, hash)
             select agent, $3, $4, hash from unnest($1::uuid[], $2::bytea[]) as t(agent, hash)
             on conflict (agent) do update
             set change = excluded.change, revision = excluded.revision, hash = excluded.hash",
            &agents,
            &hashes,
            signed(numbers.change),
            signed(numbers.revision)
        )
        .execute(&mut *self.transaction)
        .await?;
        let wanted: Vec<Uuid> = plans.keys().map(|agent| agent.0).collect();
        sqlx::query!("delete from desired where agent <> all($1)", &wanted)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    async fn store_document(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let Some(new) = &self.new else {
            return Ok(());
        };
        document::save(&mut self.transaction, new).await?;
        let whole = serde_json::to_value(new).map_err(|why| broken("the document", why))?;
        let (action, subject) = self.done.first().cloned().unwrap_or_default();
        sqlx::query!(
            "insert into revisions (number, change, document, author, action)
             values ($1, $2, $3, $4, $5)",
            signed(commit.numbers.revision),
            signed(commit.numbers.change),
            whole,
            self.author.0,
            format!("{action} {subject}")
        )
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    async fn store_audit(&mut self, numbers: Numbers) -> Result<(), StoreError> {
        for (action, subject) in &self.done {
            sqlx::query!(
                "insert into audit (author, action, subject, change) values ($1, $2, $3, $4)",
                self.author.0,
                action,
                subject,
                signed(numbers.change)
            )
            .execute(&mut *self.transaction)
            .await?;
        }
        Ok(())
    }
}

/// Plans for every agent; mistakes are told once, with one agent that has them.
fn plan_all(document: &Document, facts: &Facts) -> Result<BTreeMap<AgentId, Planned>, WriteError> {
    let planner = Planner::new(document, facts);
    let mut plans = BTreeMap::new();
    let mut mistakes: BTreeMap<String, Mistake> = BTreeMap::new();
    for agent in &facts.agents {
        let id = Uuid::try_parse(agent.id.as_str()).map_err(|why| broken("an agent", why))?;
        match planner.plan(agent).map(|snapshot| encoded(&snapshot)) {
            Ok(Ok(planned)) => {
                plans.insert(AgentId(id), planned);
            }
            Ok(Err(mistake)) => {
                mistakes.entry(mistake.pointer.clone()).or_insert(mistake);
            }
            Err(impossible) => {
                for mistake in impossible {
                    let at = mistake.pointer.clone();
                    mistakes.entry(at).or_insert_with(|| Mistake {
                        message: format!("{} (agent {id})", mistake.message),
                        ..mistake
                    });
                }
            }
        }
    }
    if mistakes.is_empty() {
        Ok(plans)
    } else {
        Err(WriteError::Mistakes(mistakes.into_values().collect()))
    }
}

/// The one limit of sender and receiver, checked where somebody can still be
/// told.
fn encoded(snapshot: &Snapshot) -> Result<Planned, Mistake> {
    let bytes = snapshot.encode();
    let largest = tidegate_proto::MAX_MESSAGE_BYTES - 4096;
    if bytes.len() > MAX_SNAPSHOT_BYTES
        || (bytes.len() > largest && Encoded::new(bytes.clone()).len() > largest)
    {
        return Err(Mistake::new(
            "",
            format!(
                "what one agent has to run takes {} bytes, and {MAX_SNAPSHOT_BYTES} (or {largest} \
                 compressed) is the most: select agents more narrowly",
                bytes.len()
            ),
        ));
    }
    let fingerprints = snapshot.certificates.iter();
    let listeners = snapshot.listeners.iter();
    let terminates = listeners.filter(|l| matches!(l.work, Work::Terminate(_)));
    Ok(Planned {
        terminates: terminates.map(|l| l.name.to_string()).collect(),
        fingerprints: fingerprints
            .map(|c| c.fingerprint.as_bytes().to_vec())
            .collect(),
        bytes,
    })
}

/// For whoever wants to see what changed between two documents.
pub(crate) fn difference(old: &Document, new: &Document) -> Vec<ResourceChange> {
    diff::documents(old, new)
}
