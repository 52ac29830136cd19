//! Keys of session tickets: sealed, by listener, with their times. When something
//! is done to them is `tidegate_core::tickets`' to say. Every change holds the
//! cluster's row and takes the next number of this lane; times are the database's,
//! since control planes have clocks of their own.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use sqlx::PgConnection;
use tidegate_core::snapshot::Fingerprint;
use tidegate_core::tickets::{self, Epoch, Stage, Step, Timing};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{CHANNEL, Store, StoreError, broken, unsigned};
use crate::model::{AgentId, Author};
use crate::seal::{self, Kek, ticket_key_purpose};

/// Where the keys stand: compared to see whether there is something to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TicketNumber {
    /// The database's incarnation.
    pub(crate) epoch: Uuid,
    /// Of the last change.
    pub(crate) number: u64,
}

/// All keys of the fleet, at one moment.
pub(crate) struct TicketSet {
    pub(crate) at: TicketNumber,
    /// By the database's clock, when this was read.
    now: Duration,
    read: Instant,
    /// By listener, oldest first.
    pub(crate) listeners: BTreeMap<String, Vec<SealedTicketKey>>,
}

impl TicketSet {
    /// The time by the database's clock.
    pub(crate) fn now(&self) -> Duration {
        self.now.saturating_add(self.read.elapsed())
    }
}

/// One of them.
#[derive(Clone)]
pub(crate) struct SealedTicketKey {
    pub(crate) epoch: Epoch,
    pub(crate) sealed: Vec<u8>,
}

/// A key as people see it.
pub(crate) struct TicketKeyRow {
    pub(crate) id: u64,
    pub(crate) listener: String,
    pub(crate) stage: Stage,
    pub(crate) made_at: OffsetDateTime,
    pub(crate) encrypting_at: Option<OffsetDateTime>,
    pub(crate) replaced_at: Option<OffsetDateTime>,
    /// Connected terminators that have not said that they hold it.
    pub(crate) lacking: u64,
}

/// What the schedule looks at.
struct Seen {
    now: Duration,
    /// Of every listener that hands out tickets, and of those that did.
    listeners: BTreeMap<String, Vec<Epoch>>,
    /// Listeners that are no more, or hand out none any more.
    gone: Vec<String>,
    /// Keys that some connected terminator lacks.
    lacking: HashSet<u64>,
}

impl Store {
    /// Where the keys stand.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn ticket_number(&self) -> Result<TicketNumber, StoreError> {
        let row = sqlx::query!("select epoch, ticket_keys from cluster")
            .fetch_one(&self.pool)
            .await?;
        Ok(TicketNumber {
            epoch: row.epoch,
            number: unsigned(row.ticket_keys),
        })
    }

    /// All keys. The number is read first: what changes in between is read again.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn ticket_set(&self) -> Result<TicketSet, StoreError> {
        let at = self.ticket_number().await?;
        let read = Instant::now();
        let rows = sqlx::query!(
            r#"select id, listener, key_sealed, made_at, encrypting_at, replaced_at,
                      clock_timestamp() as "now!"
               from ticket_keys order by listener, made_at, id"#
        )
        .fetch_all(&self.pool)
        .await?;
        let now = rows.first().map_or(OffsetDateTime::UNIX_EPOCH, |r| r.now);
        let mut listeners: BTreeMap<String, Vec<SealedTicketKey>> = BTreeMap::new();
        for row in rows {
            let epoch = epoch(row.id, row.made_at, row.encrypting_at, row.replaced_at)?;
            let sealed = row.key_sealed;
            let keys = listeners.entry(row.listener).or_default();
            keys.push(SealedTicketKey { epoch, sealed });
        }
        for keys in listeners.values_mut() {
            keys.sort_by_key(|key| (key.epoch.stage(), key.epoch.encrypting));
        }
        Ok(TicketSet {
            at,
            now: since_1970(now)?,
            read,
            listeners,
        })
    }

    /// What there is, for people.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn ticket_keys(&self) -> Result<Vec<TicketKeyRow>, StoreError> {
        let rows = sqlx::query!(
            r#"select k.id, k.listener, k.made_at, k.encrypting_at, k.replaced_at,
                      (select count(*) from agents a
                       join desired d on d.agent = a.id join snapshots s on s.hash = d.hash
                       where a.session is not null and a.revoked_at is null
                         and k.listener = any(s.terminates)
                         and not coalesce(k.id = any(a.ticket_keys), false)) as "lacking!"
               from ticket_keys k order by k.listener, k.made_at desc, k.id"#
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                let epoch = epoch(row.id, row.made_at, row.encrypting_at, row.replaced_at)?;
                Ok(TicketKeyRow {
                    id: epoch.id,
                    listener: row.listener,
                    stage: epoch.stage(),
                    made_at: row.made_at,
                    encrypting_at: row.encrypting_at,
                    replaced_at: row.replaced_at,
                    lacking: unsigned(row.lacking),
                })
            })
            .collect()
    }

    /// Which listeners of a snapshot end TLS; `None` when nobody should run it any more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn terminates(
        &self,
        hash: Fingerprint,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let row = sqlx::query_scalar!(
            "select terminates from snapshots where hash = $1",
            hash.as_bytes().as_slice()
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row)
    }

    /// Writes down which keys an agent says it holds, in this session.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn agent_holds(
        &self,
        agent: AgentId,
        session: Uuid,
        keys: &[i64],
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "update agents set ticket_keys = $3 where id = $1 and session = $2",
            agent.0,
            session,
            keys
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Does what the schedule wants now; answers with what that was.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn keep_ticket_keys(
        &self,
        kek: &Kek,
        timing: &Timing,
    ) -> Result<Vec<(String, Step)>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let seen = look(&mut connection).await?;
        drop(connection);
        if seen.gone.is_empty() && seen.due(timing).is_empty() {
            return Ok(Vec::new());
        }
        let mut transaction = self.begin("begin").await?;
        lock(&mut transaction).await?;
        let seen = look(&mut transaction).await?;
        sqlx::query!(
            "delete from ticket_keys where listener = any($1)",
            &seen.gone
        )
        .execute(&mut *transaction)
        .await?;
        let steps = seen.due(timing);
        for (listener, step) in &steps {
            match step {
                Step::Make => make(&mut transaction, kek, listener).await?,
                Step::Promote(id) => promote(&mut transaction, listener, *id).await?,
                Step::Retire(id) => retire(&mut transaction, *id).await?,
            }
        }
        announce(&mut transaction).await?;
        transaction.commit().await?;
        Ok(steps)
    }

    /// Makes a new key for one listener, or for all, out of turn. Where `drop_old` is
    /// set, all others are deleted first, and tickets made with them are worth nothing.
    /// `None` where no listener of that name hands out tickets; else the listeners.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn rotate_ticket_keys(
        &self,
        author: &Author,
        kek: &Kek,
        listener: Option<&str>,
        drop_old: bool,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let mut transaction = self.begin("begin").await?;
        lock(&mut transaction).await?;
        let listeners = sqlx::query_scalar!(
            r#"select name as "name!" from ticket_listeners
               where $1::text is null or name = $1 order by name"#,
            listener
        )
        .fetch_all(&mut *transaction)
        .await?;
        if listener.is_some() && listeners.is_empty() {
            return Ok(None);
        }
        // One that waits for its turn already is taken for the new one, unless it may
        // be among what was stolen.
        sqlx::query!(
            "delete from ticket_keys where listener = any($1) and ($2 or encrypting_at is null)",
            &listeners,
            drop_old
        )
        .execute(&mut *transaction)
        .await?;
        let action = match drop_old {
            true => "rotate, drop old",
            false => "rotate",
        };
        for name in &listeners {
            make(&mut transaction, kek, name).await?;
            sqlx::query!(
                "insert into audit (author, action, subject) values ($1, $2, $3)",
                author.0,
                action,
                format!("ticket-keys/{name}")
            )
            .execute(&mut *transaction)
            .await?;
        }
        announce(&mut transaction).await?;
        transaction.commit().await?;
        Ok(Some(listeners))
    }
}

impl Seen {
    /// The steps that are due: a listener's next one only. What follows it may hang
    /// on what terminators say of it.
    fn due(&self, timing: &Timing) -> Vec<(String, Step)> {
        let is_held = |id| !self.lacking.contains(&id);
        let listeners = self.listeners.iter();
        let due = listeners.filter_map(|(listener, epochs)| {
            let step = tickets::step(epochs, is_held, self.now, timing)?;
            Some((listener.clone(), step))
        });
        due.collect()
    }
}

async fn look(connection: &mut PgConnection) -> Result<Seen, StoreError> {
    let rows = sqlx::query!(
        r#"select l.name, true as "there!", k.id as "id?", k.made_at as "made_at?",
                  k.encrypting_at, k.replaced_at, clock_timestamp() as "now!"
           from ticket_listeners l left join ticket_keys k on k.listener = l.name
           union all
           select k.listener, false, k.id, k.made_at, k.encrypting_at, k.replaced_at,
                  clock_timestamp()
           from ticket_keys k
           where k.listener not in (select name from ticket_listeners)"#
    )
    .fetch_all(&mut *connection)
    .await?;
    let lacking = sqlx::query_scalar!(
        "select k.id from ticket_keys k where k.encrypting_at is null and exists
         (select from agents a
          join desired d on d.agent = a.id join snapshots s on s.hash = d.hash
          where a.session is not null and a.revoked_at is null
            and k.listener = any(s.terminates)
            and not coalesce(k.id = any(a.ticket_keys), false))"
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut seen = Seen {
        now: Duration::ZERO,
        listeners: BTreeMap::new(),
        gone: Vec::new(),
        lacking: lacking.into_iter().map(unsigned).collect(),
    };
    for row in rows {
        seen.now = seen.now.max(since_1970(row.now)?);
        let Some(name) = row.name else { continue };
        if !row.there {
            seen.gone.push(name);
            continue;
        }
        let epochs = seen.listeners.entry(name).or_default();
        if let Some((id, made_at)) = row.id.zip(row.made_at) {
            epochs.push(epoch(id, made_at, row.encrypting_at, row.replaced_at)?);
        }
    }
    Ok(seen)
}

async fn lock(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query!("select one from cluster for update")
        .fetch_one(connection)
        .await?;
    Ok(())
}

async fn make(connection: &mut PgConnection, kek: &Kek, listener: &str) -> Result<(), StoreError> {
    let id = i64::from_be_bytes(*seal::random::<8>()?) & i64::MAX;
    let id = id.max(1);
    let key = seal::random::<32>()?;
    let sealed = kek.seal(&ticket_key_purpose(listener, unsigned(id)), key.as_slice())?;
    sqlx::query!(
        "insert into ticket_keys (id, listener, key_sealed, made_at)
         values ($1, $2, $3, clock_timestamp())",
        id,
        listener,
        sealed
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn promote(connection: &mut PgConnection, listener: &str, id: u64) -> Result<(), StoreError> {
    sqlx::query!(
        "update ticket_keys set replaced_at = clock_timestamp()
         where listener = $1 and encrypting_at is not null and replaced_at is null",
        listener
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "update ticket_keys set encrypting_at = clock_timestamp() where id = $1",
        super::signed(id)
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn retire(connection: &mut PgConnection, id: u64) -> Result<(), StoreError> {
    sqlx::query!("delete from ticket_keys where id = $1", super::signed(id))
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes the lane's next number, and says that there is something to read.
async fn announce(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query!("update cluster set ticket_keys = ticket_keys + 1")
        .execute(&mut *connection)
        .await?;
    sqlx::query!("select pg_notify($1, 'ticket keys')", CHANNEL)
        .execute(connection)
        .await?;
    Ok(())
}

fn epoch(
    id: i64,
    made: OffsetDateTime,
    encrypting: Option<OffsetDateTime>,
    replaced: Option<OffsetDateTime>,
) -> Result<Epoch, StoreError> {
    Ok(Epoch {
        id: unsigned(id),
        made: since_1970(made)?,
        encrypting: encrypting.map(since_1970).transpose()?,
        replaced: replaced.map(since_1970).transpose()?,
    })
}

fn since_1970(time: OffsetDateTime) -> Result<Duration, StoreError> {
    let since = time - OffsetDateTime::UNIX_EPOCH;
    Duration::try_from(since).map_err(|why| broken("a time", why))
}
