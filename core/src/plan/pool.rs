//! The pools of one agent: their backends, listed or discovered, and how these
//! are checked.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU16;

use super::Planning;
use crate::document::{
    AdminState, AgentCheck, Backend, BackendName, CheckKind, Discover, HealthCheck, Listener, Name,
    Pool, Role, Weight,
};
use crate::health::Start;
use crate::proxy_protocol::Version;
use crate::snapshot::{self, DrainPace};

impl Planning<'_> {
    /// Each pool that a listener here leads to, by name.
    pub(super) fn pools(&self, served: &[(usize, &Listener)]) -> Vec<snapshot::Pool> {
        let reached: BTreeSet<&Name> = served.iter().flat_map(|(_, l)| l.pools()).collect();
        let pools = reached.into_iter().filter_map(|n| self.fleet.index.pool(n));
        pools.map(|p| self.pool(p)).collect()
    }

    fn pool(&self, pool: &Pool) -> snapshot::Pool {
        let check = match (&pool.health_check, &pool.discover) {
            (Some(check), _) => check.clone(),
            (None, Some(discover)) => agents_own_check(discover),
            (None, None) => HealthCheck::of(CheckKind::Tcp),
        };
        let backends = match &pool.discover {
            Some(discover) => self.discovered(pool, discover, &check),
            None => self.listed(pool, &check),
        };
        snapshot::Pool {
            name: pool.name.clone(),
            balance: pool.balance,
            backends,
            check: snapshot::Check {
                proxy: self.check_announces(pool, &check),
                kind: check.kind,
                interval: check.interval,
                timeout: check.timeout,
                thresholds: check.thresholds,
                fast_interval: check.fast_interval,
                down_interval: check.down_interval,
            },
            bounded_load: pool.bounded_load,
            extensions: pool.proxy_protocol.extensions(),
            backups: pool.backups,
            all_down: pool.all_down,
            max_queue: pool.max_queue,
            queue_timeout: pool.queue_timeout,
            slow_start: pool.slow_start,
            retries: pool.retries,
            passive: pool.passive,
            fast_open: self.fleet.index.fast_open(pool),
        }
    }

    fn listed(&self, pool: &Pool, check: &HealthCheck) -> Vec<snapshot::Backend> {
        let resolved = |backend: &Backend| {
            let address = backend.address.on(self.agent.reachable());
            let name = backend.name();
            let (admin, drain) = self.admin(pool, &name);
            snapshot::Backend {
                name,
                address,
                check_address: on_port(address, check.port),
                weight: backend.weight,
                start: Start::PresumedUp,
                admin,
                max_connections: backend.max_connections,
                backup: backend.backup,
                drain,
            }
        };
        pool.backends.iter().map(resolved).collect()
    }

    /// Each agent that serves the listener. Whether it is connected to the
    /// control plane plays no part: its checks alone gate traffic.
    fn discovered(
        &self,
        pool: &Pool,
        discover: &Discover,
        check: &HealthCheck,
    ) -> Vec<snapshot::Backend> {
        let asks_agent = asks_agent(check);
        let members = self.fleet.members.get(&discover.listener);
        let resolved = |(agent, address): &(&super::Agent, SocketAddr)| {
            let name = BackendName::from(&agent.id);
            let (admin, drain) = self.admin(pool, &name);
            snapshot::Backend {
                name,
                address: *address,
                check_address: if asks_agent && check.port.is_none() {
                    SocketAddr::new(agent.reachable(), agent.health_port)
                } else {
                    on_port(*address, check.port)
                },
                weight: Weight::default(),
                start: Start::Down,
                admin,
                max_connections: None,
                backup: false,
                drain,
            }
        };
        members.into_iter().flatten().map(resolved).collect()
    }

    fn admin(&self, pool: &Pool, name: &BackendName) -> (AdminState, Option<DrainPace>) {
        let facts = self.fleet.facts;
        facts.admin(&pool.name, name, &self.agent.id)
    }

    /// A check on the traffic's port has to look like the traffic: a backend
    /// that requires a PROXY header would refuse it otherwise.
    fn check_announces(&self, pool: &Pool, check: &HealthCheck) -> Option<Version> {
        let from_terminator = || {
            let leading = self.fleet.index.leading_to(&pool.name);
            let one = leading.iter().find(|l| l.role == Role::Terminator)?;
            one.client_ip().proxy()
        };
        check.proxy.version(|| {
            if check.port.is_some() || asks_agent(check) {
                return None;
            }
            let announced = pool.proxy_protocol.version();
            announced.or_else(from_terminator)
        })
    }
}

fn asks_agent(check: &HealthCheck) -> bool {
    matches!(check.kind, CheckKind::Agent(_))
}

/// The agent's health port answers for the listener and the processes behind it.
fn agents_own_check(discover: &Discover) -> HealthCheck {
    HealthCheck::of(CheckKind::Agent(AgentCheck {
        listener: discover.listener.clone(),
    }))
}

fn on_port(address: SocketAddr, port: Option<NonZeroU16>) -> SocketAddr {
    SocketAddr::new(address.ip(), port.map_or(address.port(), NonZeroU16::get))
}
