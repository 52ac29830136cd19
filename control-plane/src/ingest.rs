//! What agents report, on its way to the database: read and bounded here, queued
//! for a moment, and written in batches. A report is acknowledged when it is
//! written; one that was not comes again from the agent, which keeps a few.

use std::sync::Arc;
use std::time::Duration;

use tidegate_core::addr::ClientKey;
use tidegate_proto::MAX_REPORT_ROWS;
use tidegate_proto::convert::{self, BadMessage};
use tidegate_proto::v1::{self, Measure};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use crate::clock;
use crate::model::AgentId;
use crate::store::{Store, StoreError};

/// Reports that wait to be written.
const QUEUE: usize = 1024;
/// Reports written in one transaction.
const BATCH: usize = 256;
/// How long the first report of a batch waits for others.
const GATHER: Duration = Duration::from_millis(100);
/// The most that is believed of one client in one interval: 16 TiB. Sums of such
/// numbers stay numbers.
const MOST: u64 = 1 << 44;
/// Reports of one stream that are queued at once.
const QUEUED: usize = 4;
/// Characters of any text in a report.
const TEXT: usize = 256;

/// What agents report says something about now for three intervals, and for so long
/// at least: reports are short of nothing but time on a busy machine.
const FRESH_AT_LEAST: Duration = Duration::from_secs(10);

/// For how long a report says something about now.
pub(crate) fn fresh_for(report_interval: Duration) -> Duration {
    FRESH_AT_LEAST.max(3 * report_interval)
}

/// Where an acknowledgement goes.
type Acks = mpsc::Sender<Result<v1::ReportAck, Status>>;

/// A report, read.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) agent: AgentId,
    pub(crate) boot: Uuid,
    pub(crate) sequence: u64,
    pub(crate) backends: Vec<v1::BackendStats>,
    pub(crate) pools: Vec<v1::PoolStats>,
    pub(crate) listeners: Vec<v1::ListenerStats>,
    pub(crate) clients: Vec<ClientCount>,
    pub(crate) totals: Vec<Total>,
    pub(crate) live: Vec<(String, ClientKey, u64)>,
}

/// One client's amount in an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientCount {
    pub(crate) listener: String,
    pub(crate) measure: &'static str,
    pub(crate) client: ClientKey,
    pub(crate) count: u64,
    pub(crate) error: u64,
}

/// All clients' amount in an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) listener: String,
    pub(crate) measure: &'static str,
    pub(crate) total: u64,
    pub(crate) bound: u64,
}

impl Report {
    /// Reads a report of an agent.
    ///
    /// # Errors
    /// What an agent of this version does not send.
    pub(crate) fn read(agent: AgentId, wire: v1::StatsReport) -> Result<Self, BadMessage> {
        let lengths = [
            wire.backends.len(),
            wire.pools.len(),
            wire.listeners.len(),
            wire.clients.len(),
            wire.totals.len(),
            wire.live_clients.len(),
        ];
        if lengths.into_iter().any(|rows| rows > MAX_REPORT_ROWS) {
            return Err(BadMessage::Malformed("the number of rows"));
        }
        let mut backends = wire.backends;
        for backend in &mut backends {
            bound(&mut backend.pool);
            bound(&mut backend.backend);
            bound(&mut backend.address);
            bound(&mut backend.admin);
            if let Some(check) = &mut backend.last_check {
                bound(&mut check.words);
            }
            backend.connect_rate = finite(backend.connect_rate);
            backend.weight = backend.weight.map(finite);
        }
        let mut pools = wire.pools;
        for pool in &mut pools {
            bound(&mut pool.pool);
            bound(&mut pool.serving);
            pool.queued = pool.queued.min(MOST);
        }
        let mut listeners = wire.listeners;
        for listener in &mut listeners {
            bound(&mut listener.listener);
            bound(&mut listener.role);
            listener.accept_rate = finite(listener.accept_rate);
            listener.byte_rate = finite(listener.byte_rate);
            listener.handshake_rate = finite(listener.handshake_rate);
            listener.resumed_rate = finite(listener.resumed_rate);
        }
        Ok(Self {
            agent,
            boot: convert::uuid(&wire.boot_id, "boot_id")?,
            sequence: wire.sequence,
            backends,
            pools,
            listeners,
            clients: wire
                .clients
                .into_iter()
                .map(client)
                .collect::<Result<_, _>>()?,
            totals: wire
                .totals
                .into_iter()
                .map(total)
                .collect::<Result<_, _>>()?,
            live: wire
                .live_clients
                .into_iter()
                .map(|row| {
                    let live = row.live.min(MOST);
                    Ok((cut(row.listener), convert::client(&row.client)?, live))
                })
                .collect::<Result<_, BadMessage>>()?,
        })
    }
}

fn client(row: v1::ClientStats) -> Result<ClientCount, BadMessage> {
    Ok(ClientCount {
        measure: measure(row.measure())?,
        listener: cut(row.listener),
        client: convert::client(&row.client)?,
        count: row.count.min(MOST),
        error: row.error.min(row.count).min(MOST),
    })
}

fn total(row: v1::ClientTotals) -> Result<Total, BadMessage> {
    Ok(Total {
        measure: measure(row.measure())?,
        listener: cut(row.listener),
        total: row.total.min(MOST),
        bound: row.bound.min(row.total).min(MOST),
    })
}

fn measure(wire: Measure) -> Result<&'static str, BadMessage> {
    match wire {
        Measure::Connections => Ok("connections"),
        Measure::Bytes => Ok("bytes"),
        Measure::HandshakeFailures => Ok("handshake_failures"),
        Measure::Refused => Ok("refused"),
        Measure::Unspecified => Err(BadMessage::Malformed("measure")),
    }
}

/// Postgres keeps no NUL in a text, and nobody needs a control character.
fn bound(text: &mut String) {
    if text.len() > TEXT || text.contains(char::is_control) {
        let kept = text.chars().filter(|c| !c.is_control());
        *text = kept.take(TEXT).collect();
    }
}

fn cut(mut text: String) -> String {
    bound(&mut text);
    text
}

fn finite(rate: f64) -> f64 {
    if rate.is_finite() { rate.max(0.0) } else { 0.0 }
}

/// The way in, one for each stream of reports.
#[derive(Clone)]
pub(crate) struct Ingest {
    queue: mpsc::Sender<Queued>,
}

/// A report that waits to be written, and its place among those of its stream.
struct Queued {
    report: Report,
    acks: Acks,
    _place: OwnedSemaphorePermit,
}

/// The places of one stream.
#[derive(Clone)]
pub(crate) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(QUEUED)))
    }
}

/// The way out, to be run.
pub(crate) struct Writer {
    queue: mpsc::Receiver<Queued>,
    store: Store,
}

impl Ingest {
    /// A queue before the database.
    pub(crate) fn new(store: Store) -> (Self, Writer) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (Self { queue: sender }, Writer { queue, store })
    }

    /// Queues a report; waits while its stream has too many queued already, and
    /// while the queue is full, so that an agent that reports too much is slowed.
    pub(crate) async fn take(&self, report: Report, acks: Acks, places: &Places) {
        let Ok(place) = Arc::clone(&places.0).acquire_owned().await else {
            return;
        };
        let queued = Queued {
            report,
            acks,
            _place: place,
        };
        // The writer has ended, and so does everything else.
        let _ = self.queue.send(queued).await;
    }
}

impl Writer {
    /// Writes until told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut away = false;
        loop {
            let batch = tokio::select! {
                () = stop.cancelled() => return,
                batch = self.gather() => batch,
            };
            let lost = self.write(&batch).await;
            if lost.is_none() {
                away = false;
            }
            if let Some(error) = lost
                && !std::mem::replace(&mut away, true)
            {
                tracing::warn!(%error, "reports are not written; agents repeat them");
            }
        }
    }

    /// Writes a batch, or report by report when the database refuses it: one that
    /// cannot be written is not in the way of the others.
    async fn write(&self, batch: &[Queued]) -> Option<StoreError> {
        let reports: Vec<&Report> = batch.iter().map(|queued| &queued.report).collect();
        match self.store.take_in(&reports, clock::now()).await {
            Ok(()) => {
                batch.iter().for_each(Queued::acknowledge);
                None
            }
            Err(StoreError::Database(sqlx::Error::Database(refused))) if batch.len() > 1 => {
                tracing::warn!(%refused, "a batch of reports is refused: one by one");
                for queued in batch {
                    if let Err(error) = self.store.take_in(&[&queued.report], clock::now()).await {
                        let agent = queued.report.agent;
                        tracing::warn!(%agent, %error, "a report cannot be written");
                    } else {
                        queued.acknowledge();
                    }
                }
                None
            }
            Err(error) => Some(error),
        }
    }

    async fn gather(&mut self) -> Vec<Queued> {
        let mut batch = Vec::new();
        let Some(first) = self.queue.recv().await else {
            // Nobody is left to send: wait to be stopped.
            return std::future::pending().await;
        };
        batch.push(first);
        let end = Instant::now() + GATHER;
        while batch.len() < BATCH {
            match timeout_at(end, self.queue.recv()).await {
                Ok(Some(next)) => batch.push(next),
                Ok(None) | Err(_) => break,
            }
        }
        batch
    }
}

impl Queued {
    fn acknowledge(&self) {
        let sequence = self.report.sequence;
        // An agent that does not hear it repeats the report, which adds nothing.
        let _ = self.acks.try_send(Ok(v1::ReportAck { sequence }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> v1::StatsReport {
        v1::StatsReport {
            boot_id: Uuid::nil().to_string(),
            sequence: 1,
            ..v1::StatsReport::default()
        }
    }

    #[test]
    fn what_an_agent_says_is_bounded() {
        let mut long = report();
        long.backends.push(v1::BackendStats {
            pool: "p".repeat(5000),
            connect_rate: f64::NAN,
            weight: Some(f64::INFINITY),
            last_check: Some(v1::Check {
                words: "w".repeat(5000),
                ..v1::Check::default()
            }),
            ..v1::BackendStats::default()
        });
        long.pools.push(v1::PoolStats {
            pool: "p".repeat(5000),
            queued: u64::MAX,
            serving: "no\0body".to_owned(),
        });
        let read = Report::read(AgentId(Uuid::nil()), long).unwrap();
        assert_eq!(read.pools[0].pool.len(), TEXT);
        assert_eq!(
            (read.pools[0].queued, read.pools[0].serving.as_str()),
            (MOST, "nobody")
        );
        assert_eq!(read.backends[0].weight, Some(0.0));
        assert_eq!(read.backends[0].pool.len(), TEXT);
        assert_eq!(
            read.backends[0].last_check.as_ref().unwrap().words.len(),
            TEXT
        );
        assert_eq!(read.backends[0].connect_rate, 0.0);

        let mut odd = report();
        odd.live_clients.push(v1::LiveClient {
            listener: "ed\0ge".to_owned(),
            client: vec![192, 0, 2, 1],
            live: u64::MAX,
        });
        let read = Report::read(AgentId(Uuid::nil()), odd).unwrap();
        assert_eq!((read.live[0].0.as_str(), read.live[0].2), ("edge", MOST));

        let mut many = report();
        many.clients = vec![v1::ClientStats::default(); MAX_REPORT_ROWS + 1];
        assert!(Report::read(AgentId(Uuid::nil()), many).is_err());
        let mut many = report();
        many.pools = vec![v1::PoolStats::default(); MAX_REPORT_ROWS + 1];
        assert!(Report::read(AgentId(Uuid::nil()), many).is_err());
    }

    #[test]
    fn nonsense_is_no_report() {
        let client = |measure: Measure, client: &[u8]| v1::ClientStats {
            measure: measure.into(),
            client: client.to_vec(),
            ..v1::ClientStats::default()
        };
        for (row, right) in [
            (client(Measure::Bytes, &[192, 0, 2, 1]), true),
            (client(Measure::Bytes, &[0; 8]), true),
            (client(Measure::Unspecified, &[192, 0, 2, 1]), false),
            (client(Measure::Bytes, &[192, 0, 2]), false),
            (client(Measure::Bytes, &[0; 16]), false),
        ] {
            let mut with = report();
            with.clients.push(row);
            assert_eq!(Report::read(AgentId(Uuid::nil()), with).is_ok(), right);
        }
    }
}
