//! Pools and their backends, ready to run: who takes connections, and who chooses. Of a
//! pool that stays the same nothing is made again.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_core::document::{AdminState, Timeout};
use tidegate_core::health::{Health, Start, ramp};
use tidegate_core::keyed::HashKey;
use tidegate_core::pick::{self, Balance, Entry, Method, Picker, Rules, SourceTable, Tier, View};
use tidegate_core::snapshot;

use super::State;
use crate::facts::{BackendFacts, PoolFacts, Serving};

/// A pool, ready to run.
pub(crate) struct Pool {
    pub(crate) spec: snapshot::Pool,
    pub(crate) facts: Arc<PoolFacts>,
    pub(crate) backends: Vec<Arc<Backend>>,
    /// One for each worker, so that its lock is never waited for.
    pub(crate) pickers: Vec<Mutex<Picker>>,
    /// With `source_hash`.
    pub(crate) source: Option<Source>,
}

/// Which backend serves which client.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) key: HashKey,
    table: Arc<SourceTable>,
}

impl Pool {
    /// A backend as a choice sees it; one that is none takes nothing.
    pub(crate) fn view(&self, index: usize) -> View {
        let backend = self.backends.get(index);
        backend.map_or(View::CLOSED, |backend| backend.view(self.spec.slow_start))
    }

    /// How many backends are open and up, and how many of those are ejected.
    pub(crate) fn up_and_ejected(&self) -> (usize, usize) {
        let up = self.backends.iter().filter(|b| b.takes_connections());
        up.fold((0, 0), |(up, ejected), b| {
            (up + 1, ejected + usize::from(b.facts.is_ejected()))
        })
    }

    /// How many backends take new connections.
    pub(crate) fn taking(&self) -> usize {
        let open = |b: &&Arc<Backend>| b.spec.admin.takes_connections() && b.weight() > 0;
        let open = self.backends.iter().filter(open);
        match self.serving() {
            Some(Tier::FailOpen) => open.count(),
            _ => open.filter(|b| b.facts.is_up()).count(),
        }
    }

    /// Among whom the next connection's backend will be chosen.
    pub(crate) fn serving(&self) -> Option<Tier> {
        let views = self.backends.iter().map(|b| b.view(self.spec.slow_start));
        pick::serving(self.spec.all_down, views)
    }

    /// Takes note of who serves, which is an event when it is somebody else.
    pub(crate) fn note_serving(&self) {
        let serving = self.serving().map_or(Serving::Nobody, Serving::from);
        self.facts.serve_by(serving);
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
        self.spec.admin.takes_connections() && self.facts.is_up() && self.weight() > 0
    }

    /// Its weight, times the processes its agent says it has.
    fn weight(&self) -> u32 {
        u32::from(self.spec.weight.get()).saturating_mul(self.facts.processes())
    }

    /// As a choice sees it.
    pub(crate) fn view(&self, slow_start: Option<Timeout>) -> View {
        let slow = slow_start.map_or(Duration::ZERO, Timeout::duration);
        View {
            open: self.spec.admin.takes_connections(),
            up: self.facts.is_up(),
            ejected: self.facts.is_ejected(),
            weight: ramp(self.weight(), self.facts.since_recovery(), slow),
            in_flight: self.facts.in_flight.load(Ordering::Relaxed),
            limit: self.spec.max_connections.map(NonZeroU32::get),
            backup: self.spec.backup,
        }
    }
}

impl State {
    /// The running one when it is the same: a change costs what it touches.
    pub(super) fn pool(
        &self,
        spec: &snapshot::Pool,
        key: Option<&HashKey>,
        start: fn(&snapshot::Backend) -> Start,
    ) -> Arc<Pool> {
        let active = self.active.load();
        let running = active.pools.get(&spec.name);
        let source = source(spec, key, running.map(Arc::as_ref));
        let same_key =
            |pool: &Pool| pool.source.as_ref().map(|s| &s.key) == source.as_ref().map(|s| &s.key);
        if let Some(pool) = running.filter(|pool| pool.spec == *spec && same_key(pool)) {
            return Arc::clone(pool);
        }
        let facts = self.facts.pool(&spec.name);
        let backends = spec.backends.iter().map(|backend| {
            let health = Health::new(spec.check.thresholds, start(backend));
            let facts = self
                .facts
                .backend(&facts, &backend.name, health, spec.passive);
            Arc::new(Backend {
                spec: backend.clone(),
                facts,
            })
        });
        Arc::new(Pool {
            backends: backends.collect(),
            pickers: self.pickers(&rules(spec, source.as_ref()), running.map(Arc::as_ref)),
            spec: spec.clone(),
            facts,
            source,
        })
    }

    /// Round robin goes on where it stood: a change that comes often must not
    /// send every turn to the first backend.
    fn pickers(&self, rules: &Rules, running: Option<&Pool>) -> Vec<Mutex<Picker>> {
        let Some(running) = running else {
            return (0..self.workers)
                .map(|start| Mutex::new(Picker::new(rules.clone(), start)))
                .collect();
        };
        let followed = |picker: &Mutex<Picker>| {
            let picker = picker.lock().unwrap_or_else(PoisonError::into_inner);
            let mut picker = picker.clone();
            picker.follow(rules.clone());
            Mutex::new(picker)
        };
        running.pickers.iter().map(followed).collect()
    }
}

/// The table of a pool with `source_hash`; the running one, when it would be the same.
fn source(spec: &snapshot::Pool, key: Option<&HashKey>, running: Option<&Pool>) -> Option<Source> {
    fn entries(spec: &snapshot::Pool) -> impl Iterator<Item = Entry<'_>> {
        spec.backends.iter().map(|backend| Entry {
            name: backend.name.as_str(),
            weight: backend.weight.get().into(),
            backup: backend.backup,
        })
    }

    if spec.balance != Balance::SourceHash {
        return None;
    }
    // Without a key in the snapshot there is nobody to agree with.
    let key = key.cloned().unwrap_or_else(|| HashKey::new([0; 16]));
    let running = running.filter(|pool| entries(&pool.spec).eq(entries(spec)));
    let same = running.and_then(|pool| pool.source.as_ref());
    let same = same.filter(|source| source.key == key);
    Some(same.cloned().unwrap_or_else(|| Source {
        table: Arc::new(SourceTable::new(&key, entries(spec))),
        key,
    }))
}

fn rules(spec: &snapshot::Pool, source: Option<&Source>) -> Rules {
    let method = match (spec.balance, source) {
        (Balance::RoundRobin, _) => Method::RoundRobin,
        (Balance::RandomTwo, _) => Method::RandomTwo,
        (Balance::SourceHash, Some(source)) => Method::SourceHash {
            table: Arc::clone(&source.table),
            bounded_load: spec
                .bounded_load
                .and_then(|load| load.get().try_into().ok()),
        },
        (Balance::LeastConnections | Balance::SourceHash, _) => Method::LeastConnections,
    };
    Rules {
        method,
        backups: spec.backups,
        all_down: spec.all_down,
    }
}

/// What is known of a backend holds for what was checked until now. One that is back
/// from maintenance takes traffic when `rise` checks have passed. One at another address,
/// or that was not in the pool meanwhile, is new and begins like any that is: also when
/// a connection has kept its facts, which must decide nothing.
pub(super) fn distrust_unchecked(before: Option<&Pool>, now: &Pool) {
    let before = before.iter().flat_map(|pool| &pool.backends);
    let before: HashMap<_, _> = before.map(|b| (Arc::as_ptr(&b.facts), &b.spec)).collect();
    let addresses = |spec: &snapshot::Backend| (spec.address, spec.check_address);
    for Backend { spec, facts } in now.backends.iter().map(Arc::as_ref) {
        let is_new = !facts.known.swap(true, Ordering::Relaxed);
        if is_new || spec.admin == AdminState::Maintenance {
            continue;
        }
        match before.get(&Arc::as_ptr(facts)) {
            Some(before) if addresses(before) == addresses(spec) => {
                // Nobody has asked it meanwhile.
                if before.admin == AdminState::Maintenance {
                    facts.forget(&now.spec, Start::Down);
                }
            }
            Some(_) | None => facts.forget(&now.spec, spec.start),
        }
    }
}
