//! What runs: one immutable [`Active`] behind one `ArcSwap`, and beside it the
//! live [`Facts`], which change by themselves, are keyed by identity and
//! survive every new snapshot.
//!
//! Invariant: whatever a connection needs of the configuration hangs on one
//! `Arc<Listener>` of one `Active`; there is never a second load that has to
//! agree with the first.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;
use tidegate_core::admit::Admission;
use tidegate_core::document::{BackendName, Mistake, Name};
use tidegate_core::health::{Health, Outcome, Transition};
use tidegate_core::pick::{Balance, Picker};
use tidegate_core::snapshot::{self, Fingerprint, Snapshot};

use crate::cause::{Cause, Phase};
use crate::limits::Clients;
use crate::tls::{self, Keys};

/// The state of an agent.
pub(crate) struct State {
    active: ArcSwap<Active>,
    facts: Facts,
    workers: usize,
    /// Set once, at the beginning of shutdown: health checks fail from then on.
    draining: AtomicBool,
}

/// A snapshot made ready to run.
#[derive(Default)]
pub(crate) struct Active {
    /// The snapshot itself.
    pub(crate) snapshot: Snapshot,
    /// Its hash.
    pub(crate) hash: Option<Fingerprint>,
    /// By bound address: what an accepted socket looks for.
    pub(crate) listeners: HashMap<SocketAddr, Arc<Listener>>,
    /// By name.
    pub(crate) pools: HashMap<Name, Arc<Pool>>,
}

/// A listener, ready to run.
pub(crate) struct Listener {
    pub(crate) spec: snapshot::Listener,
    pub(crate) admission: Admission,
    pub(crate) pool: Arc<Pool>,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) facts: Arc<ListenerFacts>,
}

/// A pool, ready to run.
pub(crate) struct Pool {
    pub(crate) spec: snapshot::Pool,
    pub(crate) backends: Vec<Arc<Backend>>,
    /// One for each worker, so that its lock is never waited for.
    pub(crate) pickers: Vec<Mutex<Picker>>,
}

impl Pool {
    /// How many backends take traffic.
    pub(crate) fn up(&self) -> usize {
        self.backends.iter().filter(|b| b.facts.is_up()).count()
    }
}

/// A backend, ready to run.
pub(crate) struct Backend {
    pub(crate) spec: snapshot::Backend,
    pub(crate) facts: Arc<BackendFacts>,
}

impl State {
    /// Nothing runs yet; `workers` data threads will.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            active: ArcSwap::from_pointee(Active::default()),
            facts: Facts::default(),
            workers,
            draining: AtomicBool::new(false),
        }
    }

    /// What runs now.
    pub(crate) fn active(&self) -> arc_swap::Guard<Arc<Active>> {
        self.active.load()
    }

    /// As [`State::active`], to keep across waits.
    pub(crate) fn active_owned(&self) -> Arc<Active> {
        self.active.load_full()
    }

    /// The listener bound to `bind`, if there still is one.
    pub(crate) fn listener(&self, bind: SocketAddr) -> Option<Arc<Listener>> {
        self.active.load().listeners.get(&bind).cloned()
    }

    /// What is known of the running connections and backends.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Makes a snapshot ready to run; touches nothing that runs.
    ///
    /// # Errors
    /// Every certificate that cannot be used, every name that leads nowhere.
    pub(crate) fn prepare(&self, snapshot: Snapshot, keys: &Keys) -> Result<Active, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let identities = tls::identities(&snapshot, keys, &mut mistakes);
        if !mistakes.is_empty() {
            // Every listener that names one of them would only say so again.
            return Err(mistakes);
        }
        let pools: HashMap<Name, Arc<Pool>> = snapshot
            .pools
            .iter()
            .map(|spec| (spec.name.clone(), Arc::new(self.pool(spec))))
            .collect();
        let mut listeners = HashMap::new();
        for spec in &snapshot.listeners {
            let Some(pool) = pools.get(&spec.pool) else {
                mistakes.push(Mistake::new(
                    format!("/listeners/{}", spec.name),
                    format!("pool {} is not in the snapshot", spec.pool),
                ));
                continue;
            };
            match tls::server_config(spec, &identities) {
                Ok(tls) => {
                    let listener = self.ready(spec, pool, tls);
                    listeners.insert(spec.bind, Arc::new(listener));
                }
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let hash = Some(snapshot.hash());
        Ok(Active {
            snapshot,
            hash,
            listeners,
            pools,
        })
    }

    /// Makes `active` what runs; answers with what ran.
    pub(crate) fn swap(&self, active: Active) -> Arc<Active> {
        for pool in active.pools.values() {
            for backend in &pool.backends {
                backend.facts.retune(&pool.spec);
            }
        }
        let old = self.active.swap(Arc::new(active));
        self.facts.forget_unused();
        old
    }

    /// From now on this agent's health checks fail.
    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the agent is on its way out.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn ready(
        &self,
        spec: &snapshot::Listener,
        pool: &Arc<Pool>,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Listener {
        let policy = &spec.policy;
        Listener {
            admission: Admission::new(
                &policy.allow,
                &policy.deny,
                policy.limits.connections_per_client,
            ),
            pool: Arc::clone(pool),
            tls,
            facts: self.facts.listener(&spec.name),
            spec: spec.clone(),
        }
    }

    fn pool(&self, spec: &snapshot::Pool) -> Pool {
        let running = self.active.load().pools.get(&spec.name).cloned();
        let backends = spec.backends.iter().map(|backend| {
            let facts = self.facts.backend(&spec.name, backend, &spec.check);
            Arc::new(Backend {
                spec: backend.clone(),
                facts,
            })
        });
        Pool {
            backends: backends.collect(),
            pickers: self.pickers(spec.balance, running.as_deref()),
            spec: spec.clone(),
        }
    }

    /// Round robin goes on where it stood: a change that comes often must not
    /// send every turn to the first backend.
    fn pickers(&self, balance: Balance, running: Option<&Pool>) -> Vec<Mutex<Picker>> {
        match running {
            Some(pool) if pool.spec.balance == balance => pool
                .pickers
                .iter()
                .map(|p| Mutex::new(p.lock().unwrap_or_else(PoisonError::into_inner).clone()))
                .collect(),
            _ => (0..self.workers)
                .map(|start| Mutex::new(Picker::new(balance, start)))
                .collect(),
        }
    }
}

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

    fn listener(&self, name: &Name) -> Arc<ListenerFacts> {
        let mut listeners = lock(&self.listeners);
        if let Some(facts) = listeners.get(name).and_then(Weak::upgrade) {
            return facts;
        }
        let facts = Arc::new(ListenerFacts::new(name.clone()));
        listeners.insert(name.clone(), Arc::downgrade(&facts));
        facts
    }

    fn backend(
        &self,
        pool: &Name,
        spec: &snapshot::Backend,
        check: &snapshot::Check,
    ) -> Arc<BackendFacts> {
        let mut backends = lock(&self.backends);
        let identity = (pool.clone(), spec.name.clone());
        if let Some(facts) = backends.get(&identity).and_then(Weak::upgrade) {
            return facts;
        }
        let facts = Arc::new(BackendFacts::new(pool.clone(), spec, check));
        backends.insert(identity, Arc::downgrade(&facts));
        facts
    }

    fn forget_unused(&self) {
        lock(&self.listeners).retain(|_, facts| facts.strong_count() > 0);
        lock(&self.backends).retain(|_, facts| facts.strong_count() > 0);
    }
}

/// What happened on a listener.
#[derive(Debug)]
pub(crate) struct ListenerFacts {
    pub(crate) name: Name,
    pub(crate) accepted: AtomicU64,
    pub(crate) live: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) handshakes: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
    pub(crate) requests: AtomicU64,
    /// Requests answered by us, for want of an answer from the app.
    pub(crate) requests_failed: AtomicU64,
    pub(crate) clients: Arc<Clients>,
    closed: Vec<AtomicU64>,
}

impl ListenerFacts {
    fn new(name: Name) -> Self {
        let combinations = Phase::ALL.len() * Cause::ALL.len();
        Self {
            name,
            accepted: AtomicU64::default(),
            live: AtomicU64::default(),
            bytes_in: AtomicU64::default(),
            bytes_out: AtomicU64::default(),
            handshakes: AtomicU64::default(),
            handshakes_failed: AtomicU64::default(),
            requests: AtomicU64::default(),
            requests_failed: AtomicU64::default(),
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
    fn new(pool: Name, spec: &snapshot::Backend, check: &snapshot::Check) -> Self {
        let health = Health::new(check.thresholds, spec.start);
        Self {
            pool,
            name: spec.name.clone(),
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

    fn retune(&self, pool: &snapshot::Pool) {
        lock(&self.health).retune(pool.check.thresholds);
    }
}

/// A panic elsewhere while a lock was held must not stop everybody else: what
/// our locks guard is whole after each single operation.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
