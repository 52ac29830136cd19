//! The listeners of one agent: addresses, policies, certificates, and which pools
//! their connections may go to.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::Planning;
use crate::document::{AcceptProxy, ClientIp, Listener, Mistake, Mode, Name, Role, Route};
use crate::proxy_protocol::Version;
use crate::snapshot::{self, Fingerprint};

impl Planning<'_> {
    pub(super) fn addresses_are_apart(&mut self, served: &[(usize, &Listener)]) {
        let health = SocketAddr::new(self.agent.address, self.agent.health_port);
        // By port, since thousands of listeners share none.
        let mut taken: HashMap<u16, Vec<(SocketAddr, Option<&Name>)>> = HashMap::new();
        taken.insert(health.port(), vec![(health, None)]);
        for (index, listener) in served {
            let address = listener.bind.on(self.agent.address);
            let there = taken.entry(address.port()).or_default();
            if let Some((other, whose)) = there.iter().find(|(o, _)| overlap(*o, address)) {
                let whose = whose.map_or_else(
                    || "the agent's health port".to_owned(),
                    |name| format!("listener {name}"),
                );
                self.mistakes.push(Mistake::new(
                    format!("/listeners/{index}/bind"),
                    format!(
                        "{address} on this agent is taken by {whose} ({other}): bind another port \
                         or address, or select other agents"
                    ),
                ));
            }
            there.push((address, Some(&listener.name)));
        }
    }

    pub(super) fn listeners(&mut self, served: &[(usize, &Listener)]) -> Vec<snapshot::Listener> {
        let mut listeners: Vec<_> = served.iter().map(|(i, l)| self.listener(*i, l)).collect();
        listeners.sort_by(|a, b| a.name.cmp(&b.name));
        listeners
    }

    fn listener(&mut self, index: usize, listener: &Listener) -> snapshot::Listener {
        let announced = |pool: &Name| self.announces(listener, pool);
        let announce = listener.pool.as_ref().and_then(announced);
        let route = |route: &Route| snapshot::Route {
            sni: route.sni.iter().map(ToString::to_string).collect(),
            pool: route.pool.clone(),
            announce: announced(&route.pool),
        };
        let routes = listener.routes.iter().map(route).collect();
        snapshot::Listener {
            name: listener.name.clone(),
            bind: listener.bind.on(self.agent.address),
            accept_proxy: self.accept_proxy(index, listener),
            policy: self.policy(listener),
            pool: listener.pool.clone(),
            announce,
            work: work(listener),
            routes,
            plain: listener.plain.unwrap_or_default(),
            client_first: self.fleet.index.client_first(listener),
            tcp: listener.tcp,
        }
    }

    /// The PROXY header that `listener` writes to the backends of a pool.
    fn announces(&self, listener: &Listener, pool: &Name) -> Option<Version> {
        match listener.role {
            Role::Balancer => self.fleet.index.pool(pool)?.proxy_protocol.version(),
            Role::Terminator => listener.client_ip().proxy(),
        }
    }

    fn accept_proxy(&mut self, index: usize, listener: &Listener) -> Option<Vec<IpNet>> {
        match listener.accept_proxy() {
            AcceptProxy::None => None,
            AcceptProxy::From(nets) => Some(nets.iter().map(|n| n.net()).collect()),
            AcceptProxy::Balancers if self.fleet.facts.standalone => {
                self.mistakes.push(Mistake::new(
                    format!("/listeners/{index}/accept_proxy"),
                    "balancers (the default on terminators) are known to a fleet only: standalone, \
                     name the networks they connect from, such as [10.0.0.0/24], or write none",
                ));
                None
            }
            AcceptProxy::Balancers => Some(self.fleet.balancers.clone()),
        }
    }

    fn policy(&self, listener: &Listener) -> snapshot::Policy {
        let named = listener.policy.as_ref();
        let Some(policy) = named.and_then(|name| self.fleet.index.policy(name)) else {
            return snapshot::Policy::default();
        };
        snapshot::Policy {
            allow: policy.allow.iter().map(|c| c.net()).collect(),
            deny: policy.deny.iter().map(|c| c.net()).collect(),
            limits: policy.limits,
            timeouts: policy.timeouts,
        }
    }

    pub(super) fn certificates(
        &mut self,
        served: &[(usize, &Listener)],
    ) -> Vec<snapshot::Certificate> {
        let mut certificates = BTreeMap::new();
        for (index, listener) in served {
            let names = listener
                .tls
                .iter()
                .flat_map(|tls| tls.certificates.iter().enumerate());
            for (i, name) in names {
                let Some(chain) = self.fleet.facts.certificates.get(name) else {
                    self.mistakes.push(Mistake::new(
                        format!("/listeners/{index}/tls/certificates/{i}"),
                        format!("certificate {name} has no chain and key: give it some first"),
                    ));
                    continue;
                };
                let certificate = || snapshot::Certificate {
                    name: name.clone(),
                    fingerprint: Fingerprint::of(chain.pem.as_bytes()),
                    chain: chain.pem.clone(),
                };
                certificates.entry(name).or_insert_with(certificate);
            }
        }
        certificates.into_values().collect()
    }
}

fn work(listener: &Listener) -> snapshot::Work {
    match (&listener.tls, listener.redirect, listener.role) {
        (Some(tls), _, Role::Terminator) => {
            snapshot::Work::Terminate(Box::new(snapshot::Terminate {
                tls: tls.clone(),
                inside: match listener.mode() {
                    Mode::Tcp => snapshot::Inside::Tcp,
                    Mode::Http => snapshot::Inside::Http {
                        forwarded: listener.client_ip() == ClientIp::Forwarded,
                        http: listener.http.clone().unwrap_or_default(),
                    },
                },
                transparent: listener.client_ip() == ClientIp::Transparent,
            }))
        }
        (_, Some(redirect), _) => snapshot::Work::Redirect(redirect),
        _ => snapshot::Work::Balance,
    }
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
