//! What changes by itself while snapshots come and go: counters, health, live
//! clients, each by identity. Connections and checks write here; metrics, the
//! debug pages and reports read.

mod backend;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tidegate_core::document::{BackendName, Name, Passive, Role};
use tidegate_core::health::Health;

use crate::bounds::Bounds;
use crate::cause::{Cause, Phase};
use crate::limits::Clients;
use crate::tls::Handshakes;

pub(crate) use backend::{BackendFacts, InFlight, Passed, PoolFacts, Serving, uptime};

/// What changes by itself, by identity. An entry lives as long as a snapshot
/// or a connection holds it, and is found again while it lives: a backend that
/// is removed and added back has the in-flight connections it really has.
#[derive(Default)]
pub(crate) struct Facts {
    listeners: Mutex<HashMap<Name, Weak<ListenerFacts>>>,
    pools: Mutex<HashMap<Name, Weak<PoolFacts>>>,
    backends: Mutex<HashMap<(Name, BackendName), Weak<BackendFacts>>>,
}

impl Facts {
    /// All listeners that anything still holds, sorted by name.
    pub(crate) fn listeners(&self) -> Vec<Arc<ListenerFacts>> {
        let mut all: Vec<_> = lock(&self.listeners)
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// All backends that anything still holds, sorted by identity.
    pub(crate) fn backends(&self) -> Vec<Arc<BackendFacts>> {
        let mut all: Vec<_> = lock(&self.backends)
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        all.sort_by(|a, b| (&a.pool.name, &a.name).cmp(&(&b.pool.name, &b.name)));
        all
    }

    /// The facts of a listener, kept or new.
    pub(crate) fn listener(&self, name: &Name, role: Role) -> Arc<ListenerFacts> {
        let mut listeners = lock(&self.listeners);
        let kept = listeners.get(name).and_then(Weak::upgrade);
        if let Some(facts) = kept.filter(|facts| facts.role == role) {
            return facts;
        }
        let facts = Arc::new(ListenerFacts::new(name.clone(), role));
        listeners.insert(name.clone(), Arc::downgrade(&facts));
        facts
    }

    /// The facts of a pool, kept or new.
    pub(crate) fn pool(&self, name: &Name) -> Arc<PoolFacts> {
        let mut pools = lock(&self.pools);
        if let Some(facts) = pools.get(name).and_then(Weak::upgrade) {
            return facts;
        }
        let facts = Arc::new(PoolFacts::new(name.clone()));
        pools.insert(name.clone(), Arc::downgrade(&facts));
        facts
    }

    /// All pools that anything still holds, sorted by name.
    pub(crate) fn pools(&self) -> Vec<Arc<PoolFacts>> {
        let pools = lock(&self.pools);
        let mut all: Vec<_> = pools.values().filter_map(Weak::upgrade).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The facts of a backend, kept, or new with this health.
    pub(crate) fn backend(
        &self,
        pool: &Arc<PoolFacts>,
        name: &BackendName,
        health: Health,
        passive: Passive,
    ) -> Arc<BackendFacts> {
        let mut backends = lock(&self.backends);
        let identity = (pool.name.clone(), name.clone());
        if let Some(facts) = backends.get(&identity).and_then(Weak::upgrade) {
            return facts;
        }
        let facts = BackendFacts::new(Arc::clone(pool), name.clone(), health, passive);
        let facts = Arc::new(facts);
        backends.insert(identity, Arc::downgrade(&facts));
        facts
    }

    /// Forgets what nothing holds any more.
    pub(crate) fn forget_unused(&self) {
        lock(&self.listeners).retain(|_, facts| facts.strong_count() > 0);
        lock(&self.backends).retain(|_, facts| facts.strong_count() > 0);
        lock(&self.pools).retain(|_, facts| facts.strong_count() > 0);
    }
}

/// What happened on a listener.
#[derive(Debug)]
pub(crate) struct ListenerFacts {
    pub(crate) name: Name,
    pub(crate) role: Role,
    pub(crate) accepted: AtomicU64,
    pub(crate) bounds: Bounds,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) handshakes: Handshakes,
    pub(crate) requests: AtomicU64,
    /// Requests answered by us, for want of an answer from the app.
    pub(crate) requests_failed: AtomicU64,
    /// Connections that the policy did not admit.
    pub(crate) refused: AtomicU64,
    pub(crate) clients: Arc<Clients>,
    closed: Vec<AtomicU64>,
}

impl ListenerFacts {
    fn new(name: Name, role: Role) -> Self {
        let combinations = Phase::ALL.len() * Cause::ALL.len();
        Self {
            name,
            role,
            accepted: AtomicU64::default(),
            bounds: Bounds::default(),
            bytes_in: AtomicU64::default(),
            bytes_out: AtomicU64::default(),
            handshakes: Handshakes::default(),
            requests: AtomicU64::default(),
            requests_failed: AtomicU64::default(),
            refused: AtomicU64::default(),
            clients: Arc::default(),
            closed: std::iter::repeat_with(AtomicU64::default)
                .take(combinations)
                .collect(),
        }
    }

    /// Counts an end.
    pub(crate) fn count_closed(&self, phase: Phase, cause: Cause) {
        if let Some(counter) = self.closed.get(Self::place(phase, cause)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every (phase, cause) that has happened, with its count.
    pub(crate) fn closed(&self) -> impl Iterator<Item = (Phase, Cause, u64)> {
        let all = Phase::ALL
            .iter()
            .flat_map(|p| Cause::ALL.iter().map(|c| (*p, *c)));
        all.filter_map(|(phase, cause)| {
            let count = self
                .closed
                .get(Self::place(phase, cause))?
                .load(Ordering::Relaxed);
            (count > 0).then_some((phase, cause, count))
        })
    }

    fn place(phase: Phase, cause: Cause) -> usize {
        phase as usize * Cause::ALL.len() + cause as usize
    }
}

/// A panic elsewhere while a lock was held must not stop everybody else: what
/// our locks guard is whole after each single operation.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
