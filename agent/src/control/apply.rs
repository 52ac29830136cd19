//! Putting a snapshot to work: everything that can fail first (certificates,
//! sockets), then one swap, then the rest. A snapshot that cannot be applied
//! whole changes nothing; one that can closes no connection it still admits.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Instant;

use tidegate_core::diff::Diff;
use tidegate_core::document::Mistake;
use tidegate_core::health::Start;
use tidegate_core::snapshot::{Backend, Snapshot};

use crate::cause::Cause;
use crate::descriptors::Descriptors;
use crate::drain::Drains;
use crate::host::Host;
use crate::listener::ListenerSet;
use crate::probe::Probes;
use crate::relay::pipe;
use crate::state::{Active, State};
use crate::tls::Keys;
use crate::transparent;
use crate::worker::Workers;

/// Everything that follows a snapshot.
pub(crate) struct Applier {
    pub(crate) state: Arc<State>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) listeners: ListenerSet,
    pub(crate) probes: Probes,
    pub(crate) drains: Drains,
    pub(crate) descriptors: Arc<Descriptors>,
    pub(crate) counts: Arc<Applies>,
    /// What was said of the host already.
    pub(crate) advised: HashSet<String>,
}

/// How often what came of a snapshot.
#[derive(Default)]
pub(crate) struct Applies {
    pub(crate) applied: AtomicU64,
    pub(crate) unchanged: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// How long the last one took that was applied, in milliseconds.
    pub(crate) took_ms: AtomicU64,
}

impl Applier {
    /// Makes `snapshot` what runs; answers with what that changed, or `None` when
    /// it is what runs already.
    ///
    /// # Errors
    /// Every reason why it cannot; what ran goes on.
    pub(crate) async fn apply(
        &mut self,
        snapshot: Snapshot,
        keys: &Keys,
    ) -> Result<Option<Diff>, Vec<Mistake>> {
        self.put_to_work(snapshot, keys, |backend| backend.start)
            .await
    }

    /// As [`Applier::apply`], for what this agent ran before it was started again:
    /// its backends are no newcomers, so each serves until a check says otherwise.
    ///
    /// # Errors
    /// The same.
    pub(crate) async fn restore(
        &mut self,
        snapshot: Snapshot,
        keys: &Keys,
    ) -> Result<Option<Diff>, Vec<Mistake>> {
        self.put_to_work(snapshot, keys, |_| Start::PresumedUp)
            .await
    }

    async fn put_to_work(
        &mut self,
        snapshot: Snapshot,
        keys: &Keys,
        start: fn(&Backend) -> Start,
    ) -> Result<Option<Diff>, Vec<Mistake>> {
        let begun = Instant::now();
        let hash = Some(snapshot.hash());
        if self.state.active().hash == hash {
            self.counts.unchanged.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
        let workers = self.workers.iter().len();
        let each = snapshot.listeners.len() + pipe::DESCRIPTORS;
        let sockets = each.saturating_mul(workers);
        let fits = self.descriptors.check(sockets);
        fits.map_err(|mistake| vec![mistake])?;
        transparent::check(&snapshot)?;
        let prepared = self.listeners.prepare(&snapshot.listeners, workers);
        let (mut active, prepared) = match (self.state.prepare(snapshot, keys, start), prepared) {
            (Ok(active), Ok(prepared)) => (active, prepared),
            (active, prepared) => {
                let mistakes = active.err().into_iter().chain(prepared.err());
                return Err(mistakes.flatten().collect());
            }
        };

        active.hash = hash;
        self.descriptors.fit(sockets);
        let old = self.state.swap(active);
        let active = self.state.active_owned();
        self.listeners
            .commit(prepared, &old, &active, &self.workers)
            .await;
        self.probes.follow(&active);
        self.drains.follow(&active, &self.workers);
        self.cut_refused(&active);
        for advice in Host::read().advice(&active.snapshot) {
            if !self.advised.contains(&advice) {
                tracing::warn!(advice, "the host could do better");
                self.advised.insert(advice);
            }
        }
        let diff = Diff::between(&old.snapshot, &active.snapshot);
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.counts.took_ms.store(took, Ordering::Relaxed);
        self.counts.applied.fetch_add(1, Ordering::Relaxed);
        Ok(Some(diff))
    }

    /// Counts a refusal, whoever found it.
    pub(crate) fn count_refused(&self) {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the live connections whose client the listener, by its name, no
    /// longer admits. Limits are for new connections only, and a removed
    /// listener's connections live until they end.
    fn cut_refused(&self, active: &Active) {
        // The other half of the order in `Connection::admit`.
        fence(Ordering::SeqCst);
        let listeners = active.listeners.values();
        let by_name: HashMap<_, _> = listeners.map(|l| (&l.spec.name, l)).collect();
        for live in self.workers.live() {
            let Some(client) = live.client() else {
                continue;
            };
            let listener = by_name.get(&live.listener.name);
            if listener.is_some_and(|l| l.admission.admit(client).is_err()) {
                live.cut(Cause::Cut);
            }
        }
    }
}
