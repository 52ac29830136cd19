//! Document and facts to the snapshot of one agent: pure, so that the control
//! plane can plan for the whole fleet before it commits, and a standalone agent
//! for itself with the same result.
//!
//! A document that is right can still be impossible on an agent: two listeners
//! on one address, a certificate that nobody has. Those come back as mistakes
//! with pointers into the document, like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::document::{
    AcceptProxy, AdminState, BackendName, CheckKind, ClientIp, Discover, Document, HealthCheck,
    HttpCheck, Labels, Listener, Mistake, Mode, Name, Pool, ProxyOut, Role, Weight,
};
use crate::health::Start;
use crate::snapshot::{self, Fingerprint, Snapshot};

/// What the fleet is: rows, never anybody's connections.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Enrolled agents that are not revoked.
    pub agents: Vec<Agent>,
    /// Chains by certificate name.
    pub certificates: BTreeMap<Name, Chain>,
    /// What operators say of backends; absent = ready.
    pub admin: BTreeMap<AdminKey, AdminState>,
    /// Whether there is a fleet whose balancers are known. A standalone agent
    /// knows only itself.
    pub standalone: bool,
}

/// Which backend an operator speaks of, and on which agent; on all when absent.
/// What is said for one agent counts before what is said for all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AdminKey {
    /// The pool.
    pub pool: Name,
    /// The backend in it.
    pub backend: BackendName,
    /// The agent that is to see it so.
    pub agent: Option<Name>,
}

impl Facts {
    fn admin(&self, pool: &Name, backend: &BackendName, agent: &Name) -> AdminState {
        let said = |agent: Option<&Name>| {
            self.admin.get(&AdminKey {
                pool: pool.clone(),
                backend: backend.clone(),
                agent: agent.cloned(),
            })
        };
        if self.admin.is_empty() {
            return AdminState::Ready;
        }
        said(Some(agent))
            .or_else(|| said(None))
            .copied()
            .unwrap_or_default()
    }
}

/// One agent, as far as planning cares.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its UUID, or `standalone`.
    pub id: Name,
    /// What it does.
    pub roles: BTreeSet<Role>,
    /// What selectors look at.
    pub labels: Labels,
    /// Its own address: the base of `:port`. Unspecified = every address.
    pub address: IpAddr,
    /// Where its health port is.
    pub health_port: u16,
}

impl Agent {
    fn serves(&self, listener: &Listener) -> bool {
        let has = |(k, v): (&String, &String)| self.labels.get(k) == Some(v);
        self.roles.contains(&listener.role) && listener.agents.iter().all(has)
    }

    /// `address` as others can connect to it.
    fn reachable(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            // A dual-stack socket also answers on 127.0.0.1, where apps listen by habit.
            IpAddr::V6(v6) if v6.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            address => address,
        }
    }
}

/// The public half of a certificate.
#[derive(Clone, Debug)]
pub struct Chain {
    /// PEM, leaf first.
    pub pem: String,
}

/// What `agent` must run.
///
/// # Errors
/// Everything that is impossible there.
pub fn plan(document: &Document, facts: &Facts, agent: &Agent) -> Result<Snapshot, Vec<Mistake>> {
    let mut planning = Planning {
        document,
        facts,
        agent,
        mistakes: Vec::new(),
    };
    let served: Vec<(usize, &Listener)> = document
        .listeners
        .iter()
        .enumerate()
        .filter(|(_, l)| agent.serves(l))
        .collect();

    planning.addresses_are_apart(&served);
    let pools = document
        .pools
        .iter()
        .filter(|p| served.iter().any(|(_, l)| l.pool == p.name));
    let snapshot = Snapshot {
        listeners: sorted(
            served
                .iter()
                .map(|(i, l)| planning.listener(*i, l))
                .collect(),
            |l: &snapshot::Listener| &l.name,
        ),
        pools: sorted(
            pools.map(|p| planning.pool(p)).collect(),
            |p: &snapshot::Pool| &p.name,
        ),
        certificates: planning.certificates(&served),
    };
    if planning.mistakes.is_empty() {
        Ok(snapshot)
    } else {
        Err(planning.mistakes)
    }
}

struct Planning<'a> {
    document: &'a Document,
    facts: &'a Facts,
    agent: &'a Agent,
    mistakes: Vec<Mistake>,
}

impl Planning<'_> {
    fn addresses_are_apart(&mut self, served: &[(usize, &Listener)]) {
        let health = SocketAddr::new(self.agent.address, self.agent.health_port);
        let mut taken = vec![(health, "the agent's health port".to_owned())];
        for (index, listener) in served {
            let address = listener.bind.on(self.agent.address);
            let clash = taken.iter().find(|(other, _)| overlap(*other, address));
            if let Some((other, whose)) = clash {
                self.mistakes.push(Mistake::new(
                    format!("/listeners/{index}/bind"),
                    format!(
                        "{address} on this agent is taken by {whose} ({other}): bind another port \
                         or address, or select other agents"
                    ),
                ));
            }
            taken.push((address, format!("listener {}", listener.name)));
        }
    }

    fn listener(&mut self, index: usize, listener: &Listener) -> snapshot::Listener {
        snapshot::Listener {
            name: listener.name.clone(),
            bind: listener.bind.on(self.agent.address),
            accept_proxy: self.accept_proxy(index, listener),
            policy: self.policy(listener),
            pool: listener.pool.clone(),
            announce: match listener.role {
                Role::Balancer => self.pool_announces(&listener.pool),
                Role::Terminator => listener.client_ip().proxy(),
            },
            work: match (&listener.tls, listener.role) {
                (Some(tls), Role::Terminator) => snapshot::Work::Terminate(snapshot::Terminate {
                    certificates: tls.certificates.clone(),
                    inside: match listener.mode() {
                        Mode::Tcp => snapshot::Inside::Tcp,
                        Mode::Http => snapshot::Inside::Http {
                            forwarded: listener.client_ip() == ClientIp::Forwarded,
                        },
                    },
                }),
                _ => snapshot::Work::Balance,
            },
        }
    }

    fn accept_proxy(&mut self, index: usize, listener: &Listener) -> Option<Vec<IpNet>> {
        match listener.accept_proxy() {
            AcceptProxy::None => None,
            AcceptProxy::From(nets) => Some(nets.iter().map(|n| n.net()).collect()),
            AcceptProxy::Balancers if self.facts.standalone => {
                self.mistakes.push(Mistake::new(
                    format!("/listeners/{index}/accept_proxy"),
                    "balancers (the default on terminators) are known to a fleet only: standalone, \
                     name the networks they connect from, such as [10.0.0.0/24], or write none",
                ));
                None
            }
            AcceptProxy::Balancers => {
                let agents = self.facts.agents.iter();
                let balancers = agents.filter(|a| a.roles.contains(&Role::Balancer));
                let exact: BTreeSet<IpNet> = balancers.map(|a| IpNet::from(a.address)).collect();
                Some(exact.into_iter().collect())
            }
        }
    }

    fn policy(&self, listener: &Listener) -> snapshot::Policy {
        let Some(policy) = self.document.policy(listener.policy.as_ref()) else {
            return snapshot::Policy::default();
        };
        snapshot::Policy {
            allow: policy.allow.iter().map(|c| c.net()).collect(),
            deny: policy.deny.iter().map(|c| c.net()).collect(),
            limits: policy.limits,
            timeouts: policy.timeouts,
        }
    }

    fn pool_announces(&self, name: &Name) -> Option<crate::proxy_protocol::Version> {
        let pool = self.document.pools.iter().find(|p| p.name == *name)?;
        pool.proxy_protocol.version()
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
        let Some(found) = self
            .document
            .listeners
            .iter()
            .find(|l| l.name == discover.listener)
        else {
            return Vec::new();
        };
        let asks_agent = pool.health_check.is_none();
        let mut backends: Vec<snapshot::Backend> = members(found, &self.facts.agents)
            .map(|(agent, address)| {
                let port = check.port.map(std::num::NonZeroU16::get);
                let name = BackendName::from(&agent.id);
                snapshot::Backend {
                    admin: self.facts.admin(&pool.name, &name, &self.agent.id),
                    name,
                    address,
                    check_address: if asks_agent {
                        SocketAddr::new(agent.reachable(), agent.health_port)
                    } else {
                        on_port(address, port)
                    },
                    weight: Weight::default(),
                    start: Start::Down,
                }
            })
            .collect();
        backends.sort_by(|a, b| a.name.cmp(&b.name));
        backends
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
            let mut listeners = self.document.listeners.iter();
            let one = listeners.find(|l| l.pool == pool.name && l.role == Role::Terminator)?;
            one.client_ip().proxy()
        };
        match pool.proxy_protocol {
            ProxyOut::None => from_terminator(),
            proxy => proxy.version(),
        }
    }

    fn certificates(&mut self, served: &[(usize, &Listener)]) -> Vec<snapshot::Certificate> {
        let mut certificates = BTreeMap::new();
        for (index, listener) in served {
            let names = listener
                .tls
                .iter()
                .flat_map(|tls| tls.certificates.iter().enumerate());
            for (i, name) in names {
                let Some(chain) = self.facts.certificates.get(name) else {
                    self.mistakes.push(Mistake::new(
                        format!("/listeners/{index}/tls/certificates/{i}"),
                        format!("certificate {name} has no chain and key: give it some first"),
                    ));
                    continue;
                };
                let certificate = snapshot::Certificate {
                    name: name.clone(),
                    fingerprint: Fingerprint::of(chain.pem.as_bytes()),
                    chain: chain.pem.clone(),
                };
                certificates.insert(name.clone(), certificate);
            }
        }
        certificates.into_values().collect()
    }
}

/// The agents that serve a listener, each with where others reach it: the members
/// of a pool that discovers it.
pub fn members<'a>(
    listener: &'a Listener,
    agents: &'a [Agent],
) -> impl Iterator<Item = (&'a Agent, SocketAddr)> {
    let serving = agents.iter().filter(|agent| agent.serves(listener));
    serving.map(|agent| {
        let mut address = listener.bind.on(agent.reachable());
        if address.ip().is_unspecified() {
            // Bound everywhere: reached where the agent is.
            address.set_ip(agent.reachable());
        }
        (agent, address)
    })
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

/// Whether two sockets cannot both be bound: an unspecified address takes the
/// port on every address of its family, `[::]` on IPv4 as well.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |wide: IpAddr, ip: IpAddr| match wide {
        IpAddr::V4(v4) => v4.is_unspecified() && ip.is_ipv4(),
        IpAddr::V6(v6) => v6 == Ipv6Addr::UNSPECIFIED,
    };
    a.port() == b.port() && (a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}

fn sorted<T>(mut resources: Vec<T>, name: impl Fn(&T) -> &Name) -> Vec<T> {
    resources.sort_by(|a, b| name(a).cmp(name(b)));
    resources
}

#[cfg(test)]
mod tests;
