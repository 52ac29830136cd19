//! Looks at what the fleet reports, from the database, so that every control plane
//! sees the agents of all: adds a point to each series, and, while somebody watches,
//! writes down what changed from one look to the next.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::document::Document;
use time::OffsetDateTime;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock;
use crate::ingest;
use crate::journal::{BackendEvent, Event, Journal};
use crate::model::Numbers;
use crate::picture;
use crate::series::{Of, Point, Series};
use crate::store::{AgentCounts, AgentSight, BackendSight, SeenCounts, Store, StoreError, Traffic};

/// Between two looks at numbers, agents and the audit.
const LOOK: Duration = Duration::from_secs(1);
/// Figures are read again after a report of each agent, and as often as this at most.
const FIGURES: Duration = Duration::from_secs(5);
/// More than these at once are one event that names none.
const NAMED: usize = 100;

/// The work, and what it needs.
pub(crate) struct Observer {
    pub(crate) store: Store,
    pub(crate) series: Arc<Series>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) report_interval: Duration,
}

/// What was seen at the last look; nothing before the first.
#[derive(Default)]
struct Seen {
    numbers: Option<Numbers>,
    audit: Option<u64>,
    agents: Option<HashMap<Uuid, AgentSight>>,
    backends: Option<HashMap<BackendEvent, BackendSight>>,
}

impl Observer {
    /// Looks until told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = Seen::default();
        let mut figures_at = Instant::now();
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            let now = clock::now();
            let figures = figures_at <= Instant::now();
            if figures {
                figures_at = Instant::now() + self.report_interval.clamp(LOOK, FIGURES);
            }
            match self.look(&mut seen, now, figures).await {
                Ok(()) => failing = false,
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!(%error, "nothing is observed");
                }
                Err(_) => {}
            }
        }
    }

    async fn look(
        &self,
        seen: &mut Seen,
        now: OffsetDateTime,
        figures: bool,
    ) -> Result<(), StoreError> {
        let fresh_since = now - ingest::fresh_for(self.report_interval);
        if self.series.is_due(now) {
            self.sample(now, fresh_since).await?;
        }
        if !self.journal.is_read() {
            return Ok(());
        }
        // Each is written down before the next is asked for: what was seen once is not
        // compared again.
        self.commits(seen).await?;
        let agents = self.store.agent_sights(fresh_since).await?;
        let agents = agents.into_iter().map(|sight| (sight.id, sight)).collect();
        let agents = changed(&mut seen.agents, agents, |before, after| {
            before.stand == after.stand && before.mistakes == after.mistakes
        });
        let agents = agents.map(|agent| Event::Agent { agent });
        self.journal.write(agents.collect());
        if figures {
            let sights = self.store.backend_sights(fresh_since).await?;
            let sights = sights.into_iter().map(|sight| (sight.of.clone(), sight));
            let backends = changed(&mut seen.backends, sights.collect(), PartialEq::eq);
            let backends = backends.map(|seen| Event::Backend { seen });
            // Last: who reads it has all that came before.
            let sample = std::iter::once(Event::Sample { at: now });
            self.journal.write(backends.chain(sample).collect());
        }
        Ok(())
    }

    /// What was committed since the last look. At the first one everything is: somebody
    /// may have read before it.
    async fn commits(&self, seen: &mut Seen) -> Result<(), StoreError> {
        let numbers = self.store.numbers().await?;
        if seen.numbers.replace(numbers) != Some(numbers) {
            self.journal.write(vec![Event::Change {
                change: numbers.change,
                revision: numbers.revision,
            }]);
        }
        let audit = self.store.last_audit().await?;
        if seen.audit.replace(audit) != Some(audit) {
            self.journal.write(vec![Event::Audit { number: audit }]);
        }
        Ok(())
    }

    /// Adds a point to every series.
    async fn sample(
        &self,
        now: OffsetDateTime,
        fresh_since: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let (_, document) = self.store.document().await?;
        let agents = self.store.agent_counts().await?;
        let listeners = self.store.listener_sums(fresh_since).await?;
        let mut points = vec![(Of::Fleet, fleet(&document, agents, &listeners))];
        let by_agent = self.store.agent_sums(fresh_since).await?;
        let by_agent = by_agent.into_iter();
        points.extend(by_agent.map(|(agent, sum)| (Of::Agent(agent), traffic(sum))));
        let listeners = listeners.into_iter();
        points.extend(listeners.map(|(name, sum)| (Of::Listener(name), traffic(sum))));
        let mut pools: HashMap<String, (SeenCounts, u64)> = HashMap::new();
        for row in self.store.serving(fresh_since).await? {
            let (_, queued) = pools.entry(row.pool).or_default();
            *queued = queued.saturating_add(row.queued);
        }
        for (pool, backend, counts) in self.store.backend_sums(fresh_since).await? {
            if counts.up + counts.down + counts.ejected + counts.drained == 0 {
                // Reports have stopped: nothing is known, which is not zero.
                continue;
            }
            let (sum, _) = pools.entry(pool.clone()).or_default();
            *sum = sum.plus(counts);
            points.push((Of::Backend(pool, backend), counted(counts)));
        }
        points.extend(pools.into_iter().map(|(pool, (counts, queued))| {
            let mut point = counted(counts);
            point.push(queued as f64);
            (Of::Pool(pool), point)
        }));
        let refused = self.series.add(now, points);
        if refused > 0 {
            tracing::debug!(refused, "no room for the series of what is new");
        }
        Ok(())
    }
}

/// Clients are counted where they enter, handshakes wherever they are.
fn fleet(document: &Document, agents: AgentCounts, listeners: &[(String, Traffic)]) -> Point {
    let edge = picture::edge(document);
    let sum = |keep: &dyn Fn(&str) -> bool| {
        let kept = listeners.iter().filter(|(name, _)| keep(name));
        kept.fold(Traffic::default(), |sum, (_, one)| sum.plus(*one))
    };
    let entering = sum(&|name| edge.iter().any(|edge| edge == name));
    let all = sum(&|_| true);
    vec![
        entering.live as f64,
        entering.accept_rate,
        entering.byte_rate,
        all.handshake_rate,
        all.resumed_rate,
        agents.total as f64,
        agents.connected as f64,
        agents.in_sync as f64,
    ]
}

fn traffic(sum: Traffic) -> Point {
    vec![
        sum.live as f64,
        sum.accept_rate,
        sum.byte_rate,
        sum.handshake_rate,
        sum.resumed_rate,
    ]
}

fn counted(counts: SeenCounts) -> Point {
    vec![
        counts.live as f64,
        counts.connect_rate,
        counts.up as f64,
        counts.down as f64,
    ]
}

/// The names of what came, went, or is not the same any more, now that `after` is
/// seen; one `None` when there are too many to name, and at a first look, before which
/// somebody may have read.
fn changed<K: Clone + Eq + Hash, V>(
    seen: &mut Option<HashMap<K, V>>,
    after: HashMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
) -> impl Iterator<Item = Option<K>> {
    let is_first = seen.is_none();
    let mut names = Vec::new();
    if let Some(before) = seen {
        let is_new = |(name, value): &(&K, &V)| {
            let old = before.get(name);
            old.is_none_or(|old| !same(old, value))
        };
        names.extend(after.iter().filter(is_new).map(|(name, _)| name.clone()));
        let gone = before.keys().filter(|name| !after.contains_key(name));
        names.extend(gone.cloned());
    }
    *seen = Some(after);
    let too_many = is_first || names.len() > NAMED;
    let named = names.into_iter().map(Some);
    let named = named.take(if too_many { 0 } else { NAMED });
    named.chain(too_many.then_some(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(rows: &[(u32, u32)]) -> HashMap<u32, u32> {
        rows.iter().copied().collect()
    }

    fn names(last: &mut Option<HashMap<u32, u32>>, rows: &[(u32, u32)]) -> Vec<Option<u32>> {
        let mut names: Vec<_> = changed(last, seen(rows), PartialEq::eq).collect();
        names.sort();
        names
    }

    #[test]
    fn what_came_went_or_changed_is_named() {
        let mut last = None;
        assert_eq!(names(&mut last, &[(1, 0), (2, 0)]), [None], "a first look");
        assert_eq!(names(&mut last, &[(1, 0), (2, 0)]), []);
        assert_eq!(
            names(&mut last, &[(1, 7), (3, 0)]),
            [Some(1), Some(2), Some(3)]
        );
        assert_eq!(names(&mut last, &[]), [Some(1), Some(3)]);
    }

    #[test]
    fn many_at_once_are_one_event() {
        let rows = |count: u32| (0..count).map(|n| (n, 0)).collect::<Vec<_>>();
        let mut last = Some(HashMap::new());
        assert_eq!(names(&mut last, &rows(100)).len(), 100);
        let mut last = Some(HashMap::new());
        assert_eq!(names(&mut last, &rows(101)), [None]);
    }
}
