//! What runs: one immutable [`Active`] behind one `ArcSwap`, and beside it the
//! live [`Facts`], which change by themselves, are keyed by identity and
//! survive every new snapshot.
//!
//! Invariant: whatever a connection needs of the configuration hangs on one
//! `Arc<Listener>` of one `Active`; there is never a second load that has to
//! agree with the first.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tidegate_core::admit::Admission;
use tidegate_core::document::{AdminState, Mistake, Name, Role};
use tidegate_core::health::{Health, Start};
use tidegate_core::pick::{AllDown, Backups, Balance, Method, Picker, Rules};
use tidegate_core::snapshot::{self, Fingerprint, Snapshot, Work};

use crate::facts::{BackendFacts, Facts, ListenerFacts};
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
    /// How many backends take new connections.
    pub(crate) fn up(&self) -> usize {
        self.backends
            .iter()
            .filter(|b| b.takes_connections())
            .count()
    }
}

/// A backend, ready to run.
pub(crate) struct Backend {
    pub(crate) spec: snapshot::Backend,
    pub(crate) facts: Arc<BackendFacts>,
}

impl Backend {
    /// Whether it takes new connections: its checks and the operator both say so.
    pub(crate) fn takes_connections(&self) -> bool {
        self.spec.admin.takes_connections() && self.facts.is_up()
    }
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

    /// Makes a snapshot ready to run; touches nothing that runs. `start` says what
    /// is believed of a backend before its first check.
    ///
    /// # Errors
    /// Every certificate that cannot be used, every name that leads nowhere.
    pub(crate) fn prepare(
        &self,
        snapshot: Snapshot,
        keys: &Keys,
        start: fn(&snapshot::Backend) -> Start,
    ) -> Result<Active, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let identities = tls::identities(&snapshot, keys, &mut mistakes);
        if !mistakes.is_empty() {
            // Every listener that names one of them would only say so again.
            return Err(mistakes);
        }
        let pools: HashMap<Name, Arc<Pool>> = snapshot
            .pools
            .iter()
            .map(|spec| (spec.name.clone(), Arc::new(self.pool(spec, start))))
            .collect();
        repeated(&snapshot, &mut mistakes);
        let mut listeners = HashMap::new();
        for spec in &snapshot.listeners {
            let Some(pool) = spec.pool.as_ref().and_then(|name| pools.get(name)) else {
                mistakes.push(Mistake::new(
                    format!("/listeners/{}", spec.name),
                    "its pool is not in the snapshot",
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
        let running = self.active.load();
        for pool in active.pools.values() {
            for backend in &pool.backends {
                backend.facts.retune(&pool.spec);
            }
            if let Some(before) = running.pools.get(&pool.spec.name) {
                distrust_unchecked(before, pool);
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
        let role = match spec.work {
            Work::Balance | Work::Redirect(_) => Role::Balancer,
            Work::Terminate(_) => Role::Terminator,
        };
        Listener {
            admission: Admission::new(
                &policy.allow,
                &policy.deny,
                policy.limits.connections_per_client,
            ),
            pool: Arc::clone(pool),
            tls,
            facts: self.facts.listener(&spec.name, role),
            spec: spec.clone(),
        }
    }

    fn pool(&self, spec: &snapshot::Pool, start: fn(&snapshot::Backend) -> Start) -> Pool {
        let running = self.active.load().pools.get(&spec.name).cloned();
        let backends = spec.backends.iter().map(|backend| {
            let health = Health::new(spec.check.thresholds, start(backend));
            let facts = self.facts.backend(&spec.name, &backend.name, health);
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
                .map(|start| Mutex::new(Picker::new(rules(balance), start)))
                .collect(),
        }
    }
}

fn rules(balance: Balance) -> Rules {
    Rules {
        method: match balance {
            Balance::RoundRobin => Method::RoundRobin,
            _ => Method::LeastConnections,
        },
        backups: Backups::First,
        all_down: AllDown::Backup,
    }
}

/// A backend back from maintenance was not checked meanwhile: it takes traffic
/// when `rise` checks have passed, like one that is new.
fn distrust_unchecked(before: &Pool, now: &Pool) {
    for backend in &now.backends {
        let maintained = before.backends.iter().any(|b| {
            Arc::ptr_eq(&b.facts, &backend.facts) && b.spec.admin == AdminState::Maintenance
        });
        if maintained && backend.spec.admin != AdminState::Maintenance {
            backend.facts.distrust(&now.spec);
        }
    }
}

/// What a plan never has twice. A snapshot from elsewhere might, and the maps
/// here would silently keep one of the two.
fn repeated(snapshot: &Snapshot, mistakes: &mut Vec<Mistake>) {
    let (mut binds, mut names, mut pools) = (HashSet::new(), HashSet::new(), HashSet::new());
    for listener in &snapshot.listeners {
        if !binds.insert(listener.bind) {
            let why = format!("{} is bound by another listener as well", listener.bind);
            mistakes.push(Mistake::new(
                format!("/listeners/{}/bind", listener.name),
                why,
            ));
        }
        if !names.insert(&listener.name) {
            let at = format!("/listeners/{}/name", listener.name);
            mistakes.push(Mistake::new(at, "another listener has this name"));
        }
    }
    for pool in &snapshot.pools {
        if !pools.insert(&pool.name) {
            let at = format!("/pools/{}/name", pool.name);
            mistakes.push(Mistake::new(at, "another pool has this name"));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use tidegate_core::document::Document;
    use tidegate_core::plan::{Agent, Facts, plan};

    use super::*;

    /// One balancer's listener `edge` with a pool `back` of two backends, `a` and `b`.
    pub(crate) fn two_backends() -> Snapshot {
        let document = Document::parse(
            r#"
            listeners: [ { name: edge, role: balancer, bind: "127.0.0.1:1", pool: back } ]
            pools:
              - name: back
                backends: [ { name: a, address: "127.0.0.1:2" }, { name: b, address: "127.0.0.1:3" } ]
            "#,
        );
        let agent = Agent {
            id: "standalone".parse().unwrap(),
            roles: [Role::Balancer].into(),
            labels: BTreeMap::new(),
            address: "127.0.0.1".parse().unwrap(),
            health_port: 4,
        };
        let facts = Facts {
            agents: vec![agent.clone()],
            standalone: true,
            ..Facts::default()
        };
        plan(&document.unwrap(), &facts, &agent).unwrap()
    }

    /// The same with another admin state of `a`.
    pub(crate) fn with_a_in(admin: AdminState) -> Snapshot {
        let mut snapshot = two_backends();
        snapshot.pools[0].backends[0].admin = admin;
        snapshot
    }

    fn run(state: &State, snapshot: Snapshot) -> Arc<Pool> {
        state.swap(
            state
                .prepare(snapshot, &Keys::default(), |b| b.start)
                .unwrap(),
        );
        Arc::clone(state.active().pools.values().next().unwrap())
    }

    #[test]
    fn a_backend_in_drain_or_maintenance_takes_nothing_new() {
        let state = State::new(1);
        assert_eq!(run(&state, two_backends()).up(), 2);
        for admin in [AdminState::Drain, AdminState::Maintenance] {
            let pool = run(&state, with_a_in(admin));
            assert_eq!(pool.up(), 1);
            assert!(!pool.backends[0].takes_connections());
            assert!(pool.backends[1].takes_connections());
        }
    }

    #[test]
    fn back_from_drain_it_takes_traffic_and_back_from_maintenance_after_rise() {
        let state = State::new(1);
        run(&state, with_a_in(AdminState::Drain));
        assert_eq!(run(&state, two_backends()).up(), 2);

        run(&state, with_a_in(AdminState::Maintenance));
        let pool = run(&state, two_backends());
        assert_eq!(pool.up(), 1);
        let facts = &pool.backends[0].facts;
        assert_eq!(facts.observe(Ok("accepted".into())), None);
        assert!(facts.observe(Ok("accepted".into())).is_some(), "rise is 2");
        assert_eq!(pool.up(), 2);
    }

    #[test]
    fn what_is_there_twice_is_refused_with_every_place() {
        let mut snapshot = two_backends();
        let mut other = snapshot.listeners[0].clone();
        snapshot.listeners.push(other.clone());
        other.name = "else".parse().unwrap();
        snapshot.listeners.push(other);
        let state = State::new(1);
        let mistakes = state
            .prepare(snapshot, &Keys::default(), |b| b.start)
            .err()
            .unwrap();
        let places: Vec<_> = mistakes.iter().map(|m| m.pointer.as_str()).collect();
        assert_eq!(
            places,
            [
                "/listeners/edge/bind",
                "/listeners/edge/name",
                "/listeners/else/bind"
            ]
        );
        assert!(state.active().listeners.is_empty());
    }
}
