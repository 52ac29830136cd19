//! The pools of one agent: their backends, listed or discovered, and how these
//! are checked.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::Planning;
use crate::document::{
    BackendName, CheckKind, Discover, HealthCheck, HttpCheck, Listener, Name, Pool, ProxyOut, Role,
    Weight,
};
use crate::health::Start;
use crate::snapshot;

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
            },
        }
    }

    fn listed(&self, pool: &Pool, check: &HealthCheck) -> Vec<snapshot::Backend> {
        let resolved = |backend: &crate::document::Backend| {
            let address = backend.address.on(self.agent.reachable());
            snapshot::Backend {
                name: backend.name(),
                address,
                check_address: on_port(address, check.port.map(std::num::NonZeroU16::get)),
                weight: backend.weight,
                start: Start::PresumedUp,
                admin: self
                    .fleet
                    .facts
                    .admin(&pool.name, &backend.name(), &self.agent.id),
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
        let asks_agent = pool.health_check.is_none();
        let members = self.fleet.members.get(&discover.listener);
        let resolved = |(agent, address): &(&super::Agent, SocketAddr)| {
            let port = check.port.map(std::num::NonZeroU16::get);
            let name = BackendName::from(&agent.id);
            snapshot::Backend {
                admin: self.fleet.facts.admin(&pool.name, &name, &self.agent.id),
                name,
                address: *address,
                check_address: if asks_agent {
                    SocketAddr::new(agent.reachable(), agent.health_port)
                } else {
                    on_port(*address, port)
                },
                weight: Weight::default(),
                start: Start::Down,
            }
        };
        members.into_iter().flatten().map(resolved).collect()
    }

    /// A check on the traffic's port has to look like the traffic: a backend
    /// that requires a PROXY header would refuse it otherwise.
    fn check_announces(
        &self,
        pool: &Pool,
        check: &HealthCheck,
    ) -> Option<crate::proxy_protocol::Version> {
        if let Some(proxy) = check.proxy {
            return proxy.version();
        }
        let own_port =
            check.port.is_some() || (pool.discover.is_some() && pool.health_check.is_none());
        if own_port {
            return None;
        }
        let from_terminator = || {
            let leading = self.fleet.index.leading_to(&pool.name);
            let one = leading.iter().find(|l| l.role == Role::Terminator)?;
            one.client_ip().proxy()
        };
        match pool.proxy_protocol {
            ProxyOut::None => from_terminator(),
            proxy => proxy.version(),
        }
    }
}

/// The agent's health port answers for the listener and the processes behind it.
fn agents_own_check(discover: &Discover) -> HealthCheck {
    let path = format!("/health/{}", discover.listener);
    match path.parse() {
        Ok(path) => HealthCheck::of(CheckKind::Http(HttpCheck {
            path,
            host: None,
            expect: None,
        })),
        // A name holds no character that a path refuses.
        Err(_) => HealthCheck::of(CheckKind::Tcp),
    }
}

fn on_port(address: SocketAddr, port: Option<u16>) -> SocketAddr {
    SocketAddr::new(address.ip(), port.unwrap_or(address.port()))
}
