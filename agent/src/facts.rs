//! What changes by itself while snapshots come and go: counters, health, live
//! clients, each by identity. Connections and checks write here; metrics, the
//! debug pages and reports read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tidegate_core::document::{BackendName, Name, Role};
use tidegate_core::health::{Health, Outcome, Start, Transition};
use tidegate_core::snapshot;

use crate::cause::{Cause, Phase};
use crate::limits::Clients;

/// What changes by itself, by identity. An entry lives as long as a snapshot
/// or a connection holds it, and is found again while it lives: a backend that
/// is removed and added back has the in-flight connections it really has.
#[derive(Default)]
pub(crate) struct Facts {
    listeners: Mutex<HashMap<Name, Weak<ListenerFacts>>>,
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
        all.sort_by(|a, b| (&a.pool, &a.name).cmp(&(&b.pool, &b.name)));
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

    /// The facts of a backend, kept, or new with this health.
    pub(crate) fn backend(
        &self,
        pool: &Name,
        name: &BackendName,
        health: Health,
    ) -> Arc<BackendFacts> {
        let mut backends = lock(&self.backends);
        let identity = (pool.clone(), name.clone());
        if let Some(facts) = backends.get(&identity).and_then(Weak::upgrade) {
            return facts;
        }
        let facts = Arc::new(BackendFacts::new(pool.clone(), name.clone(), health));
        backends.insert(identity, Arc::downgrade(&facts));
        facts
    }

    /// Forgets what nothing holds any more.
    pub(crate) fn forget_unused(&self) {
        lock(&self.listeners).retain(|_, facts| facts.strong_count() > 0);
        lock(&self.backends).retain(|_, facts| facts.strong_count() > 0);
    }
}

/// What happened on a listener.
#[derive(Debug)]
pub(crate) struct ListenerFacts {
    pub(crate) name: Name,
    pub(crate) role: Role,
    pub(crate) accepted: AtomicU64,
    pub(crate) live: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) handshakes: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
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
            live: AtomicU64::default(),
            bytes_in: AtomicU64::default(),
            bytes_out: AtomicU64::default(),
            handshakes: AtomicU64::default(),
            handshakes_failed: AtomicU64::default(),
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

/// What is known of a backend, as this agent sees it.
pub(crate) struct BackendFacts {
    pub(crate) pool: Name,
    pub(crate) name: BackendName,
    pub(crate) in_flight: AtomicU32,
    pub(crate) connects: AtomicU64,
    pub(crate) connects_failed: AtomicU64,
    pub(crate) checks_passed: AtomicU64,
    pub(crate) checks_failed: AtomicU64,
    /// Mirrors `health`, for the data threads.
    up: AtomicBool,
    health: Mutex<Health>,
    last_check: Mutex<Option<LastCheck>>,
}

/// The last check of a backend, in words.
#[derive(Clone)]
pub(crate) struct LastCheck {
    pub(crate) passed: bool,
    pub(crate) words: String,
    pub(crate) at: Instant,
}

impl BackendFacts {
    fn new(pool: Name, name: BackendName, health: Health) -> Self {
        Self {
            pool,
            name,
            in_flight: AtomicU32::default(),
            connects: AtomicU64::default(),
            connects_failed: AtomicU64::default(),
            checks_passed: AtomicU64::default(),
            checks_failed: AtomicU64::default(),
            up: AtomicBool::new(health.is_up()),
            health: Mutex::new(health),
            last_check: Mutex::default(),
        }
    }

    /// Whether it takes traffic.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Takes in the result of a check; answers with a change of state.
    pub(crate) fn observe(&self, result: Result<String, String>) -> Option<Transition> {
        let (outcome, counter) = match result {
            Ok(_) => (Outcome::Pass, &self.checks_passed),
            Err(_) => (Outcome::Fail, &self.checks_failed),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let passed = result.is_ok();
        let words = result.unwrap_or_else(std::convert::identity);
        *lock(&self.last_check) = Some(LastCheck {
            passed,
            words,
            at: Instant::now(),
        });
        let mut health = lock(&self.health);
        let transition = health.observe(outcome);
        self.up.store(health.is_up(), Ordering::Relaxed);
        transition
    }

    /// The last check, if there was one.
    pub(crate) fn last_check(&self) -> Option<LastCheck> {
        lock(&self.last_check).clone()
    }

    /// Takes over the thresholds of a new snapshot.
    pub(crate) fn retune(&self, pool: &snapshot::Pool) {
        lock(&self.health).retune(pool.check.thresholds);
    }

    /// Down until `rise` checks have passed.
    pub(crate) fn distrust(&self, pool: &snapshot::Pool) {
        let mut health = lock(&self.health);
        *health = Health::new(pool.check.thresholds, Start::Down);
        self.up.store(false, Ordering::Relaxed);
    }
}

/// A panic elsewhere while a lock was held must not stop everybody else: what
/// our locks guard is whole after each single operation.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
