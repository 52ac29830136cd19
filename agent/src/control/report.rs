//! What the control plane learns from an agent: backends, listeners and who does
//! most, every few seconds, and at once when a backend goes up or down.
//!
//! [`collect`] makes reports, connected or not, of a bounded size (`fit`);
//! [`Outbox`] keeps those that are not acknowledged, a bounded number; [`deliver`] sends them over whatever
//! connection there is, the same ones again after a lost answer. A report is
//! named by (boot, sequence), so that a repeat is counted once.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_core::backoff::Backoff;
use tidegate_core::document::{BackendName, Name, Role, Timeout};
use tidegate_core::health::WEIGHT_UNIT;
use tidegate_proto::MAX_MESSAGE_BYTES;
use tidegate_proto::v1::agent_link_client::AgentLinkClient;
use tidegate_proto::v1::{
    self, BackendStats, Check, ClientStats, ClientTotals, ListenerStats, LiveClient, PoolStats,
    StatsReport,
};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use uuid::Uuid;

use super::draw;
use super::fit::fit;
use crate::facts::{ListenerFacts, PoolFacts};
use crate::state::{Backend, State};
use crate::tallies::{Counted, Measure};
use crate::worker::Workers;

/// Until a control plane says how often.
const INTERVAL_MS: u32 = 5_000;
/// What it may say.
const SHORTEST_MS: u32 = 100;
const LONGEST_MS: u32 = 60_000;
/// After a change, for what changes together.
const GATHER: Duration = Duration::from_millis(100);
/// Reports kept until they are acknowledged.
const MOST_KEPT: usize = 8;
/// Clients listed with their live connections, per listener.
const MOST_LIVE: usize = 256;
/// Characters of what a check said.
const MOST_WORDS: usize = 200;
/// For the stream to begin.
const PATIENCE: Duration = Duration::from_secs(30);
const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// Reports that are not acknowledged yet.
pub(crate) struct Outbox {
    boot: Uuid,
    kept: Mutex<Kept>,
    interval_ms: AtomicU32,
    /// There is another report.
    news: Notify,
}

#[derive(Default)]
struct Kept {
    reports: VecDeque<StatsReport>,
    sequence: u64,
    dropped: u64,
    /// Why the control plane refused one last.
    refused: String,
}

impl Outbox {
    /// Empty.
    pub(crate) fn new(boot: Uuid) -> Self {
        Self {
            boot,
            kept: Mutex::default(),
            interval_ms: AtomicU32::new(INTERVAL_MS),
            news: Notify::new(),
        }
    }

    /// How often a report is wanted, as the control plane says.
    pub(crate) fn set_interval(&self, wanted_ms: u32) {
        let bounded = wanted_ms.clamp(SHORTEST_MS, LONGEST_MS);
        self.interval_ms.store(bounded, Ordering::Relaxed);
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.load(Ordering::Relaxed).into())
    }

    /// Numbers a report and keeps it; the oldest one makes room.
    fn add(&self, mut report: StatsReport) {
        let mut kept = self.kept();
        if kept.reports.len() == MOST_KEPT {
            kept.reports.pop_front();
            kept.dropped += 1;
        }
        kept.sequence += 1;
        report.boot_id = self.boot.to_string();
        report.sequence = kept.sequence;
        report.dropped = kept.dropped;
        kept.reports.push_back(report);
        drop(kept);
        self.news.notify_one();
    }

    /// The first one after `sent`.
    fn after(&self, sent: u64) -> Option<StatsReport> {
        let kept = self.kept();
        kept.reports.iter().find(|r| r.sequence > sent).cloned()
    }

    fn acknowledged(&self, sequence: u64) {
        self.kept().reports.retain(|r| r.sequence != sequence);
    }

    /// The control plane cannot read what it was sent: sending it again would
    /// only be refused again. Answers whether it says so for the first time.
    fn give_up(&self, why: &str) -> bool {
        let mut kept = self.kept();
        kept.dropped += kept.reports.len() as u64;
        kept.reports.clear();
        let news = kept.refused != why;
        why.clone_into(&mut kept.refused);
        news
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What reports are made of.
pub(crate) struct Seen {
    pub(crate) state: Arc<State>,
    pub(crate) workers: Arc<Workers>,
    /// A backend went up or down, or another snapshot runs.
    pub(crate) changed: Arc<Notify>,
}

/// Makes reports until it is dropped.
pub(super) async fn collect(seen: Seen, outbox: Arc<Outbox>) {
    let mut before = Before::default();
    let mut begun = Instant::now();
    loop {
        tokio::select! {
            () = sleep(outbox.interval()) => {}
            () = seen.changed.notified() => sleep(GATHER).await,
        }
        let now = Instant::now();
        outbox.add(seen.report(&mut before, now - begun));
        begun = now;
    }
}

/// Sends what there is to send, for as long as the connection is there.
pub(super) async fn deliver(channel: Channel, outbox: Arc<Outbox>) {
    for attempt in 0.. {
        let ended = stream(channel.clone(), &outbox).await;
        if ended.code() == Code::InvalidArgument && outbox.give_up(ended.message()) {
            let why = ended.message();
            tracing::warn!(
                why,
                "the control plane refuses reports: run versions that fit together"
            );
        }
        tracing::debug!(code = ?ended.code(), message = ended.message(), "reports broke off");
        sleep(RETRY.delay(attempt, draw())).await;
    }
}

async fn stream(channel: Channel, outbox: &Outbox) -> Status {
    let (reports, waiting) = mpsc::channel(1);
    let mut client = AgentLinkClient::new(channel).max_encoding_message_size(MAX_MESSAGE_BYTES);
    let opened = timeout(PATIENCE, client.report(ReceiverStream::new(waiting))).await;
    let mut acks = match opened {
        Ok(Ok(opened)) => opened.into_inner(),
        Ok(Err(status)) => return status,
        Err(_) => return Status::deadline_exceeded("no answer"),
    };
    // Of this stream: what an earlier one has sent and nobody acknowledged goes again.
    let mut sent = 0;
    loop {
        while let Some(report) = outbox.after(sent)
            && let Ok(room) = reports.try_reserve()
        {
            sent = report.sequence;
            room.send(report);
        }
        let room = async {
            if outbox.after(sent).is_some() {
                let _ = reports.reserve().await;
            } else {
                outbox.news.notified().await;
            }
        };
        tokio::select! {
            () = room => {}
            ack = acks.message() => match ack {
                Ok(Some(ack)) => outbox.acknowledged(ack.sequence),
                Ok(None) => return Status::unavailable("the control plane ended it"),
                Err(status) => return status,
            },
        }
    }
}

/// Counters as they were, for rates.
#[derive(Default)]
struct Before {
    listeners: HashMap<(Name, Role), [u64; 4]>,
    /// With whether it was up.
    connects: HashMap<(Name, BackendName), (u64, bool)>,
}

impl Seen {
    fn report(&self, before: &mut Before, took: Duration) -> StatsReport {
        let counted = self.workers.take_counted();
        let (clients, totals) = ranking(&counted);
        let facts = self.state.facts().listeners();
        let last = std::mem::take(before);
        let listeners = facts.iter().map(|facts| {
            let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let now = [
                load(&facts.accepted),
                load(&facts.bytes_in) + load(&facts.bytes_out),
                facts.handshakes.shaken_so_far(),
                facts.handshakes.resumed_so_far(),
            ];
            let identity = (facts.name.clone(), facts.role);
            let then = last.listeners.get(&identity).copied().unwrap_or_default();
            before.listeners.insert(identity, now);
            listener(facts, rates(then, now, took))
        });
        let listeners = listeners.collect();
        let active = self.state.active_owned();
        let backends = active.pools.values().flat_map(|pool| {
            let slow_start = pool.spec.slow_start;
            pool.backends
                .iter()
                .map(move |backend| (backend, slow_start))
        });
        let backends = backends.map(|(backend, slow_start)| {
            let now = backend.facts.connects.load(Ordering::Relaxed);
            let identity = (backend.facts.pool.name.clone(), backend.facts.name.clone());
            let (then, was_up) = last.connects.get(&identity).copied().unwrap_or_default();
            let row = backend_row(backend, slow_start, rates([then], [now], took));
            before.connects.insert(identity, (now, row.up));
            (row.up && was_up, row)
        });
        // Those that are down or have changed come first: they are not left out.
        let mut backends: Vec<_> = backends.collect();
        backends.sort_by_key(|(as_ever, _)| *as_ever);
        let mut report = StatsReport {
            interval_ms: u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
            backends: backends.into_iter().map(|(_, row)| row).collect(),
            pools: self
                .state
                .facts()
                .pools()
                .iter()
                .map(|pool| pool_row(pool))
                .collect(),
            listeners,
            clients,
            totals,
            live_clients: facts.iter().flat_map(|facts| live_clients(facts)).collect(),
            ..StatsReport::default()
        };
        fit(&mut report);
        report
    }
}

fn ranking(counted: &Counted) -> (Vec<ClientStats>, Vec<ClientTotals>) {
    let (mut clients, mut totals) = (Vec::new(), Vec::new());
    for measure in Measure::ALL {
        for (listener, ranked) in counted.of(measure) {
            let measure = wire(measure).into();
            totals.push(ClientTotals {
                listener: listener.to_string(),
                role: ranked.role.to_string(),
                measure,
                total: ranked.tally.total(),
                bound: ranked.tally.bound(),
            });
            let rows = ranked.tally.top(usize::MAX).into_iter();
            clients.extend(rows.map(|row| ClientStats {
                listener: listener.to_string(),
                measure,
                client: row.client.to_bytes(),
                count: row.count,
                error: row.error,
            }));
        }
    }
    (clients, totals)
}

fn listener(
    facts: &ListenerFacts,
    [accept_rate, byte_rate, handshake_rate, resumed_rate]: [f64; 4],
) -> ListenerStats {
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    ListenerStats {
        listener: facts.name.to_string(),
        role: facts.role.to_string(),
        live: facts.bounds.live(),
        clients_live: facts.clients.count() as u64,
        accepted: load(&facts.accepted),
        bytes_in: load(&facts.bytes_in),
        bytes_out: load(&facts.bytes_out),
        handshakes: facts.handshakes.shaken_so_far(),
        handshakes_failed: facts.handshakes.failed_so_far(),
        requests: load(&facts.requests),
        requests_failed: load(&facts.requests_failed),
        refused: load(&facts.refused),
        accept_rate,
        byte_rate,
        handshake_rate,
        resumed: facts.handshakes.resumed_so_far(),
        resumed_rate,
    }
}

fn backend_row(
    backend: &Backend,
    slow_start: Option<Timeout>,
    [connect_rate]: [f64; 1],
) -> BackendStats {
    let facts = &backend.facts;
    BackendStats {
        pool: facts.pool.name.to_string(),
        backend: facts.name.to_string(),
        address: backend.spec.address.to_string(),
        up: facts.is_up(),
        admin: backend.spec.admin.to_string(),
        in_flight: facts.in_flight.load(Ordering::Relaxed),
        connects: facts.connects.load(Ordering::Relaxed),
        connects_failed: facts.connects_failed.load(Ordering::Relaxed),
        last_check: facts.last_check().map(|check| Check {
            passed: check.passed,
            words: check.words.chars().take(MOST_WORDS).collect(),
            age_ms: u64::try_from(check.at.elapsed().as_millis()).unwrap_or(u64::MAX),
        }),
        connect_rate,
        ejected: facts.is_ejected(),
        weight: Some(f64::from(backend.view(slow_start).weight) / f64::from(WEIGHT_UNIT)),
    }
}

fn pool_row(facts: &PoolFacts) -> PoolStats {
    PoolStats {
        pool: facts.name.to_string(),
        queued: u64::try_from(facts.queue.len()).unwrap_or(u64::MAX),
        serving: facts.serving().label().to_owned(),
    }
}

fn live_clients(facts: &ListenerFacts) -> impl Iterator<Item = LiveClient> {
    let top = facts.clients.top(MOST_LIVE).into_iter();
    top.map(|(client, live)| LiveClient {
        listener: facts.name.to_string(),
        client: client.to_bytes(),
        live: live.into(),
    })
}

/// A second.
fn rates<const N: usize>(then: [u64; N], now: [u64; N], took: Duration) -> [f64; N] {
    let seconds = took.as_secs_f64();
    let mut then = then.into_iter();
    now.map(|now| {
        let grown = now.saturating_sub(then.next().unwrap_or(now));
        if seconds > 0.0 {
            grown as f64 / seconds
        } else {
            0.0
        }
    })
}

fn wire(measure: Measure) -> v1::Measure {
    match measure {
        Measure::Connections => v1::Measure::Connections,
        Measure::Bytes => v1::Measure::Bytes,
        Measure::HandshakeFailures => v1::Measure::HandshakeFailures,
        Measure::Refused => v1::Measure::Refused,
    }
}

#[cfg(test)]
mod tests {
    use crate::facts::{Passed, Serving};
    use std::net::Ipv4Addr;

    use tidegate_core::addr::ClientKey;
    use tidegate_proto::MAX_REPORT_ROWS;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::source::Source;
    use crate::state::tests::two_backends;
    use crate::tls::Keys;

    fn sequences(outbox: &Outbox) -> Vec<u64> {
        outbox.kept().reports.iter().map(|r| r.sequence).collect()
    }

    #[test]
    fn what_nobody_acknowledges_is_kept_up_to_a_bound_and_what_goes_is_counted() {
        let outbox = Outbox::new(Uuid::nil());
        (0..10).for_each(|_| outbox.add(StatsReport::default()));
        assert_eq!(sequences(&outbox), [3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(outbox.after(9).unwrap().dropped, 2);
        outbox.acknowledged(4);
        outbox.acknowledged(4);
        assert_eq!(outbox.after(3).unwrap().sequence, 5);
        assert!(outbox.give_up("too many"));
        outbox.add(StatsReport::default());
        assert_eq!(outbox.after(0).unwrap().dropped, 9);
    }

    #[test]
    fn a_refusal_is_news_when_it_is_another_one() {
        let outbox = Outbox::new(Uuid::nil());
        let news = ["too many", "too many", "too long", "too many"].map(|why| outbox.give_up(why));
        assert_eq!(news, [true, false, true, true]);
    }

    /// What an agent of two data threads sees that runs two backends.
    fn seen() -> Seen {
        let state = Arc::new(State::new(2));
        let ready = state.prepare(two_backends(), &Keys::default(), |b| b.start);
        state.swap(ready.unwrap());
        let source = Source::new([[127, 0, 0, 1].into()]);
        let workers = Workers::start(2, &state, &source, &CancellationToken::new());
        Seen {
            workers: Arc::new(workers.unwrap()),
            state,
            changed: Arc::default(),
        }
    }

    #[test]
    fn backends_that_are_down_or_have_changed_come_first() {
        let (seen, mut before) = (seen(), Before::default());
        let mut told = |seen: &Seen| -> Vec<String> {
            let report = seen.report(&mut before, Duration::from_secs(1));
            report.backends.into_iter().map(|b| b.backend).collect()
        };
        assert_eq!(told(&seen), ["a", "b"]);
        let b = Arc::clone(&seen.state.facts().backends()[1]);
        let observe = |result: &Result<&str, &str>| {
            while b
                .observe(result.map(Passed::from).map_err(str::to_owned))
                .is_none()
            {}
        };
        observe(&Err("connect: refused"));
        assert_eq!(told(&seen), ["b", "a"]);
        assert_eq!(told(&seen), ["b", "a"]);
        observe(&Ok("accepted"));
        assert_eq!(told(&seen), ["b", "a"], "it is up again since the last one");
        assert_eq!(told(&seen), ["a", "b"]);
    }

    #[test]
    fn a_report_says_who_serves_a_pool_and_what_a_backend_counts_for() {
        let seen = seen();
        let told = || seen.report(&mut Before::default(), Duration::from_secs(1));
        let report = told();
        let served: Vec<_> = report
            .pools
            .iter()
            .map(|p| (&*p.pool, &*p.serving))
            .collect();
        assert_eq!(served, [("back", "primary")]);
        assert_eq!(report.pools[0].queued, 0);
        for row in &report.backends {
            assert_eq!((row.ejected, row.weight), (false, Some(1.0)));
        }
        let a = Arc::clone(&seen.state.facts().backends()[0]);
        a.pool.serve_by(Serving::Nobody);
        let back = Arc::clone(seen.state.active().pools.values().next().unwrap());
        while a.connect_failed(back.spec.passive, || (2, 0)).is_none() {}
        let two = Passed {
            words: String::new(),
            processes: Some(2),
        };
        a.observe(Ok(two));
        let report = told();
        assert_eq!(report.pools[0].serving, "nobody");
        let rows = report.backends.iter();
        let rows: Vec<_> = rows.map(|row| (row.ejected, row.weight)).collect();
        assert_eq!(rows, [(true, Some(2.0)), (false, Some(1.0))]);
    }

    #[test]
    fn a_flood_on_every_thread_makes_a_report_that_the_control_plane_takes() {
        let seen = seen();
        for (thread, worker) in seen.workers.iter().enumerate() {
            for listener in 0..16 {
                let name = format!("t{thread}-{listener}").parse().unwrap();
                let facts = seen.state.facts().listener(&name, Role::Balancer);
                let clients = (0..1024_u32).map(|n| ClientKey::new(Ipv4Addr::from(n).into()));
                let mut tallies = worker.tallies();
                clients.for_each(|c| tallies.add(&facts, Measure::Connections, c, 1));
            }
        }
        let report = seen.report(&mut Before::default(), Duration::from_secs(1));
        assert_eq!(report.clients.len(), MAX_REPORT_ROWS);
        assert!(
            report
                .totals
                .iter()
                .all(|t| t.total == 1024 && t.bound == 1)
        );
    }

    #[test]
    fn the_interval_is_bounded_whatever_is_wanted() {
        let outbox = Outbox::new(Uuid::nil());
        for (wanted, taken) in [(0, 100), (2000, 2000), (u32::MAX, 60_000)] {
            outbox.set_interval(wanted);
            assert_eq!(outbox.interval(), Duration::from_millis(taken));
        }
    }

    #[test]
    fn a_rate_is_growth_by_time_and_never_negative() {
        let took = Duration::from_secs(2);
        assert_eq!(rates([1, 9], [5, 8], took), [2.0, 0.0]);
        assert_eq!(rates([0], [5], Duration::ZERO), [0.0]);
    }
}
