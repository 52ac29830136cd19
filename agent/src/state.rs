//! What runs: one immutable [`Active`] behind one `ArcSwap`, and beside it the
//! live [`Facts`], which change by themselves, are keyed by identity and
//! survive every new snapshot.
//!
//! Invariant: whatever a connection needs of the configuration hangs on one
//! `Arc<Listener>` of one `Active`; there is never a second load that has to
//! agree with the first.

mod pool;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tidegate_core::admit::Admission;
use tidegate_core::document::{Mistake, Name, Role};
use tidegate_core::health::Start;
use tidegate_core::keyed::HashKey;
use tidegate_core::proxy_protocol::Version;
use tidegate_core::route::Routes;
use tidegate_core::snapshot::{self, Fingerprint, Snapshot, Work};

use crate::control::draw_bits;
use crate::facts::{Facts, ListenerFacts};
use crate::tickets::Tickets;
use crate::tls::{self, Keys};

use self::pool::distrust_unchecked;
pub(crate) use self::pool::{Backend, Pool};

/// The state of an agent.
pub(crate) struct State {
    active: ArcSwap<Active>,
    facts: Facts,
    workers: usize,
    /// Of clients, where no other agent has to agree.
    own_key: HashKey,
    /// What ACME asks for, by token.
    challenges: ArcSwap<Challenges>,
    /// Keys of session tickets, by listener.
    tickets: Tickets,
    /// Set once, at the beginning of shutdown: health checks fail from then on.
    draining: AtomicBool,
}

/// Key authorizations by token (RFC 8555 section 8.1).
pub(crate) type Challenges = HashMap<String, Arc<str>>;

/// A snapshot made ready to run.
#[derive(Default)]
pub(crate) struct Active {
    /// The snapshot itself.
    pub(crate) snapshot: Snapshot,
    /// Its hash, which whoever has it put to work knows already.
    pub(crate) hash: Option<Fingerprint>,
    /// By bound address: what an accepted socket looks for.
    pub(crate) listeners: HashMap<SocketAddr, Arc<Listener>>,
    /// By name.
    pub(crate) pools: HashMap<Name, Arc<Pool>>,
    /// By name.
    pub(crate) identities: tls::Identities,
}

/// A listener, ready to run.
pub(crate) struct Listener {
    pub(crate) spec: Arc<snapshot::Listener>,
    pub(crate) admission: Admission,
    /// Where connections go that no route takes.
    pub(crate) target: Option<Target>,
    /// Where they go by server name.
    pub(crate) routes: Routes<Target>,
    pub(crate) tls: Option<Arc<tls::Terms>>,
    pub(crate) facts: Arc<ListenerFacts>,
}

impl Listener {
    /// Whether anybody can be served: by a backend, or by the listener itself.
    pub(crate) fn serves(&self) -> bool {
        matches!(self.spec.work, Work::Redirect(_))
            || self.targets().any(|target| target.pool.serving().is_some())
    }

    /// How many backends take what comes in here, by whatever route.
    pub(crate) fn taking(&self) -> usize {
        self.targets().map(|target| target.pool.taking()).sum()
    }

    fn targets(&self) -> impl Iterator<Item = &Target> {
        self.target.iter().chain(self.routes.iter())
    }
}

/// A pool, and what its backends are told about clients.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) pool: Arc<Pool>,
    pub(crate) announce: Option<Version>,
}

impl State {
    /// Nothing runs yet; `workers` data threads will.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            active: ArcSwap::from_pointee(Active::default()),
            facts: Facts::default(),
            workers,
            own_key: random_key(),
            challenges: ArcSwap::default(),
            tickets: Tickets::default(),
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

    /// The answers to ACME's challenges.
    pub(crate) fn challenges(&self) -> arc_swap::Guard<Arc<Challenges>> {
        self.challenges.load()
    }

    /// Other answers from now on.
    pub(crate) fn set_challenges(&self, challenges: Challenges) {
        self.challenges.store(Arc::new(challenges));
    }

    /// The keys of session tickets.
    pub(crate) fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    /// By what this agent hashes clients for itself.
    pub(crate) fn own_key(&self) -> &HashKey {
        &self.own_key
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
        let identities = tls::identities(
            &snapshot,
            keys,
            &self.active.load().identities,
            &mut mistakes,
        );
        if !mistakes.is_empty() {
            // Every listener that names one of them would only say so again.
            return Err(mistakes);
        }
        let pools: HashMap<Name, Arc<Pool>> = snapshot
            .pools
            .iter()
            .map(|spec| {
                (
                    spec.name.clone(),
                    self.pool(spec, snapshot.hash_key.as_ref(), start),
                )
            })
            .collect();
        repeated(&snapshot, &mut mistakes);
        let mut listeners = HashMap::new();
        for spec in &snapshot.listeners {
            let listener = match self.unchanged(spec, &pools, &identities) {
                Some(running) => Ok(running),
                None => tls::terms(spec, &identities, &self.tickets)
                    .and_then(|tls| self.ready(spec, &pools, tls).map(Arc::new)),
            };
            match listener {
                Ok(listener) => {
                    listeners.insert(spec.bind, listener);
                }
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Active {
            snapshot,
            hash: None,
            listeners,
            pools,
            identities,
        })
    }

    /// Makes `active` what runs; answers with what ran.
    pub(crate) fn swap(&self, active: Active) -> Arc<Active> {
        let running = self.active.load();
        for pool in active.pools.values() {
            let before = running.pools.get(&pool.spec.name);
            if before.is_some_and(|before| Arc::ptr_eq(before, pool)) {
                continue;
            }
            distrust_unchecked(before.map(Arc::as_ref), pool);
            for backend in &pool.backends {
                backend.facts.retune(&pool.spec);
            }
        }
        let old = self.active.swap(Arc::new(active));
        for pool in self.active.load().pools.values() {
            // There may be more room than before.
            pool.facts.queue.wake_one();
        }
        // Those that are no more as well: somebody may wait there for room.
        let listeners = self.active.load();
        for listener in old.listeners.values().chain(listeners.listeners.values()) {
            let limits = &listener.spec.policy.limits;
            listener.facts.bounds.changed(limits.new_per_client);
        }
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

    /// The running listener, when nothing of it changes, neither the certificates behind
    /// their names.
    fn unchanged(
        &self,
        spec: &snapshot::Listener,
        pools: &HashMap<Name, Arc<Pool>>,
        identities: &tls::Identities,
    ) -> Option<Arc<Listener>> {
        let running = self.listener(spec.bind)?;
        let same = |target: &Target| {
            let now = pools.get(&target.pool.spec.name);
            now.is_some_and(|pool| Arc::ptr_eq(pool, &target.pool))
        };
        let before = &self.active.load().identities;
        let kept = |name: &Name| match (before.get(name), identities.get(name)) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            _ => false,
        };
        let certificates = match &spec.work {
            Work::Terminate(terminate) => terminate.tls.certificates.as_slice(),
            Work::Balance | Work::Redirect(_) => &[],
        };
        let unchanged =
            *running.spec == *spec && running.targets().all(same) && certificates.iter().all(kept);
        unchanged.then_some(running)
    }

    fn ready(
        &self,
        spec: &snapshot::Listener,
        pools: &HashMap<Name, Arc<Pool>>,
        tls: Option<Arc<tls::Terms>>,
    ) -> Result<Listener, Mistake> {
        let target = |name: &Name, announce| match pools.get(name) {
            Some(pool) => Ok(Target {
                pool: Arc::clone(pool),
                announce,
            }),
            None => Err(Mistake::new(
                format!("/listeners/{}", spec.name),
                format!("pool {name} is not in the snapshot"),
            )),
        };
        let mut routes = Vec::new();
        for route in &spec.routes {
            let target = target(&route.pool, route.announce)?;
            routes.extend(route.sni.iter().map(|name| (name, target.clone())));
        }
        let policy = &spec.policy;
        let role = match spec.work {
            Work::Balance | Work::Redirect(_) => Role::Balancer,
            Work::Terminate(_) => Role::Terminator,
        };
        let pool = spec.pool.as_ref();
        Ok(Listener {
            admission: Admission::new(
                &policy.allow,
                &policy.deny,
                policy.limits.connections_per_client,
            ),
            target: pool.map(|name| target(name, spec.announce)).transpose()?,
            routes: Routes::new(routes),
            tls,
            facts: self.facts.listener(&spec.name, role),
            spec: Arc::new(spec.clone()),
        })
    }
}

fn random_key() -> HashKey {
    let [high, low] = [draw_bits(), draw_bits()];
    HashKey::new((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
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

    use tidegate_core::document::AdminState;

    use super::*;
    use crate::facts::BackendFacts;

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
        assert_eq!(run(&state, two_backends()).taking(), 2);
        for admin in [AdminState::Drain, AdminState::Maintenance] {
            let pool = run(&state, with_a_in(admin));
            assert_eq!(pool.taking(), 1);
            assert!(!pool.backends[0].takes_connections());
            assert!(pool.backends[1].takes_connections());
        }
    }

    #[test]
    fn back_from_drain_it_takes_traffic_and_back_from_maintenance_after_rise() {
        let state = State::new(1);
        run(&state, with_a_in(AdminState::Drain));
        assert_eq!(run(&state, two_backends()).taking(), 2);

        run(&state, with_a_in(AdminState::Maintenance));
        let pool = run(&state, two_backends());
        assert_eq!(pool.taking(), 1);
        let facts = &pool.backends[0].facts;
        assert_eq!(facts.observe(Ok("accepted".into())), None);
        assert!(facts.observe(Ok("accepted".into())).is_some(), "rise is 2");
        assert_eq!(pool.taking(), 2);
    }

    #[test]
    fn what_is_known_of_a_backend_holds_for_what_was_checked_until_now() {
        let state = State::new(1);
        let failed = |facts: &BackendFacts| {
            for _ in 0..3 {
                facts.observe(Err("refused".into()));
            }
        };
        let pool = run(&state, two_backends());
        // As by a connection, whatever becomes of the document.
        let [a, b] = [&pool.backends[0], &pool.backends[1]].map(|one| Arc::clone(&one.facts));
        failed(&a);
        assert!(!a.is_up() && b.is_up());

        let mut elsewhere = two_backends();
        elsewhere.pools[0].backends[0].address = "127.0.0.1:4".parse().unwrap();
        run(&state, elsewhere);
        assert!(a.is_up(), "another one, of which nothing is known");

        failed(&b);
        let mut without_b = two_backends();
        without_b.pools[0].backends.truncate(1);
        run(&state, without_b);
        let pool = run(&state, two_backends());
        assert!(Arc::ptr_eq(&pool.backends[1].facts, &b));
        assert!(b.is_up(), "as if no connection had kept it");

        let mut retuned = two_backends();
        retuned.pools[0].backends[0].weight = 7.try_into().unwrap();
        failed(&a);
        run(&state, retuned);
        assert!(!a.is_up(), "a weight says nothing of health");
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

    /// A certificate of that number, and its key.
    fn certificate(number: usize, keys: &mut Keys) -> snapshot::Certificate {
        let made = rcgen::generate_simple_self_signed([format!("host-{number}.test")]).unwrap();
        let chain = made.cert.pem();
        keys.insert(&chain, &made.signing_key.serialize_pem())
            .unwrap();
        snapshot::Certificate {
            name: format!("c{number}").parse().unwrap(),
            fingerprint: Fingerprint::of(chain.as_bytes()),
            chain,
        }
    }

    /// Memory of this process, in bytes.
    fn resident() -> usize {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    #[test]
    fn certificates_are_replaced_a_thousand_times_and_leave_nothing_behind() {
        const CERTIFICATES: usize = 500;
        const REPLACED: usize = 25;
        let mut keys = Keys::default();
        let mut make = |_| -> Vec<_> {
            let numbers = 0..CERTIFICATES;
            numbers
                .map(|number| certificate(number, &mut keys))
                .collect()
        };
        let versions = [make(0), make(1)];
        let mut snapshot = two_backends();
        snapshot.certificates = versions[0].clone();
        snapshot.listeners[0].work = Work::Terminate(Box::new(snapshot::Terminate {
            tls: serde_json::from_value(serde_json::json!({
                "certificates": snapshot.certificates.iter().map(|c| &c.name).collect::<Vec<_>>(),
            }))
            .unwrap(),
            inside: snapshot::Inside::Tcp,
            transparent: false,
        }));
        let first = snapshot.certificates[0].name.clone();
        let state = State::new(1);
        let (mut after_some, mut kept) = (0, 0);
        for round in 0..1000 {
            for place in 0..REPLACED {
                let place = (round * REPLACED + place) % CERTIFICATES;
                let version = (round * REPLACED / CERTIFICATES + 1) % 2;
                snapshot.certificates[place] = versions[version][place].clone();
            }
            let before = state.active().identities.get(&first).cloned();
            let ready = state.prepare(snapshot.clone(), &keys, |b| b.start).unwrap();
            state.swap(ready);
            let active = state.active();
            let now = &active.identities[&first];
            kept += usize::from(before.is_some_and(|before| Arc::ptr_eq(&before, now)));
            if round == 200 {
                after_some = resident();
            }
        }
        let grown = resident().saturating_sub(after_some);
        assert!(grown < 2 << 20, "{grown} bytes");
        assert_eq!(kept, 950, "what stays the same is not made again");
    }
}
