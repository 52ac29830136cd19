//! The fleet as a picture: which listener leads to which pool, which pool to which
//! listener, who serves each, and what goes through. Pure: from the document, the
//! agents that planning counts on, and sums of what agents see.

use std::collections::HashMap;

use serde::Serialize;
use tidegate_core::document::{AcceptProxy, Document, Listener, Pool};
use tidegate_core::plan;
use utoipa::ToSchema;

use crate::store::{SeenCounts, Sights, Stand, Traffic};

/// The fleet as a picture.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Topology {
    pub(crate) clients: Clients,
    /// In the document's order.
    pub(crate) listeners: Vec<ListenerNode>,
    /// In the document's order.
    pub(crate) pools: Vec<PoolNode>,
}

/// Those who come from outside: what goes through the listeners at the edge.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = TopologyClients)]
pub(crate) struct Clients {
    /// Connections now.
    pub(crate) live: u64,
    /// New connections a second.
    pub(crate) accept_rate: f64,
    /// Bytes a second, both ways.
    pub(crate) byte_rate: f64,
}

/// A listener on all its agents.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TopologyListener)]
pub(crate) struct ListenerNode {
    pub(crate) name: String,
    /// `balancer` or `terminator`.
    pub(crate) role: String,
    /// As written.
    pub(crate) bind: String,
    /// Whether clients enter the fleet here.
    pub(crate) edge: bool,
    /// Where connections go. None where it redirects.
    pub(crate) pools: Vec<String>,
    pub(crate) agents: Stands,
    /// Connections now.
    pub(crate) live: u64,
    /// Clients now (IPv4 address or IPv6 /64); one that is on two agents counts twice.
    pub(crate) clients_live: u64,
    /// A second, as the others.
    pub(crate) accept_rate: f64,
    pub(crate) byte_rate: f64,
    pub(crate) handshake_rate: f64,
    /// Of the handshakes those that resumed a session.
    pub(crate) resumed_rate: f64,
}

/// How the agents of a listener stand: each counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = TopologyAgents)]
pub(crate) struct Stands {
    /// Run what is wanted of them.
    pub(crate) serving: u64,
    /// Connected, and have not said yet that they run what is wanted.
    pub(crate) behind: u64,
    /// Cannot run what is wanted, and go on as before.
    pub(crate) failed: u64,
    /// Hold no session with a control plane. They go on with what they run.
    pub(crate) offline: u64,
    /// Connected, but have stopped to report what they see.
    pub(crate) silent: u64,
}

/// A pool as all agents see it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TopologyPool)]
pub(crate) struct PoolNode {
    pub(crate) name: String,
    /// The listener whose agents are its backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) discover: Option<String>,
    /// How many there are, listed or discovered.
    pub(crate) backends: u64,
    pub(crate) seen: SeenPairs,
    pub(crate) serving: ServedBy,
    /// Connections that wait for a backend with room.
    pub(crate) queued: u64,
    /// Connections now.
    pub(crate) live: u64,
    /// Connects a second.
    pub(crate) connect_rate: f64,
}

/// Backends as agents see them: each pair of an agent and a backend counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = TopologySeen)]
pub(crate) struct SeenPairs {
    pub(crate) up: u64,
    /// Their checks fail.
    pub(crate) down: u64,
    /// Left out for failed connects.
    pub(crate) ejected: u64,
    /// In drain or maintenance.
    pub(crate) drained: u64,
    /// Reports have stopped.
    pub(crate) stale: u64,
}

/// By whom agents say that a pool is served: each agent counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = TopologyServing)]
pub(crate) struct ServedBy {
    pub(crate) primary: u64,
    pub(crate) backup: u64,
    pub(crate) fail_open: u64,
    pub(crate) nobody: u64,
}

/// The listeners where clients come into the fleet: not those behind balancers,
/// where each of their connections would count again.
pub(crate) fn edge(document: &Document) -> Vec<String> {
    let is_behind = |listener: &&Listener| {
        let mut pools = document.pools.iter();
        let discovered = pools.any(|pool| {
            let discover = pool.discover.as_ref();
            discover.is_some_and(|discover| discover.listener == listener.name)
        });
        discovered || listener.accept_proxy() == AcceptProxy::Balancers
    };
    let listeners = document.listeners.iter();
    let edge = listeners.filter(|listener| !is_behind(listener));
    edge.map(|listener| listener.name.to_string()).collect()
}

/// The picture.
pub(crate) fn topology(document: &Document, sights: &Sights) -> Topology {
    let edge = edge(document);
    let traffic: HashMap<&str, Traffic> = sights
        .listeners
        .iter()
        .map(|(name, traffic)| (name.as_str(), *traffic))
        .collect();
    let stands: HashMap<String, Stand> = sights
        .agents
        .iter()
        .map(|agent| (agent.id.to_string(), agent.stand))
        .collect();
    let listeners = document.listeners.iter().map(|listener| {
        let name = listener.name.as_str();
        let traffic = traffic.get(name).copied().unwrap_or_default();
        let members = plan::members(listener, &sights.fleet);
        let members = members.map(|(agent, _)| stands.get(&agent.id.to_string()).copied());
        ListenerNode {
            edge: edge.iter().any(|edge| edge == name),
            agents: counted(members),
            ..listener_node(listener, traffic)
        }
    });
    let listeners: Vec<ListenerNode> = listeners.collect();
    let mut clients = Clients::default();
    for listener in listeners.iter().filter(|listener| listener.edge) {
        clients.live = clients.live.saturating_add(listener.live);
        clients.accept_rate += listener.accept_rate;
        clients.byte_rate += listener.byte_rate;
    }
    // Once for all: there may be thousands of each.
    let mut seen: HashMap<&str, SeenCounts> = HashMap::new();
    for (pool, _, counts) in &sights.backends {
        let sum = seen.entry(pool).or_default();
        *sum = sum.plus(*counts);
    }
    let pools = document.pools.iter().map(|one| {
        let seen = seen.get(one.name.as_str()).copied().unwrap_or_default();
        pool(document, one, seen, sights)
    });
    Topology {
        clients,
        listeners,
        pools: pools.collect(),
    }
}

/// One that nothing is known of has just joined: it has not connected yet.
fn counted(stands: impl Iterator<Item = Option<Stand>>) -> Stands {
    let mut counts = Stands::default();
    for stand in stands {
        *match stand.unwrap_or(Stand::Offline) {
            Stand::Serving => &mut counts.serving,
            Stand::Behind => &mut counts.behind,
            Stand::Failed => &mut counts.failed,
            Stand::Offline => &mut counts.offline,
            Stand::Silent => &mut counts.silent,
        } += 1;
    }
    counts
}

fn listener_node(listener: &Listener, sum: Traffic) -> ListenerNode {
    ListenerNode {
        name: listener.name.to_string(),
        role: listener.role.to_string(),
        bind: listener.bind.to_string(),
        edge: false,
        pools: listener.pools().map(ToString::to_string).collect(),
        agents: Stands::default(),
        live: sum.live,
        clients_live: sum.clients_live,
        accept_rate: sum.accept_rate,
        byte_rate: sum.byte_rate,
        handshake_rate: sum.handshake_rate,
        resumed_rate: sum.resumed_rate,
    }
}

fn pool(document: &Document, pool: &Pool, sum: SeenCounts, sights: &Sights) -> PoolNode {
    let name = pool.name.as_str();
    let (mut serving, mut queued) = (ServedBy::default(), 0_u64);
    for row in sights.serving.iter().filter(|row| row.pool == name) {
        queued = queued.saturating_add(row.queued);
        match row.serving.as_str() {
            "primary" => serving.primary += row.agents,
            "backup" => serving.backup += row.agents,
            "fail_open" => serving.fail_open += row.agents,
            _ => serving.nobody += row.agents,
        }
    }
    let discovers = pool.discover.as_ref().and_then(|discover| {
        let mut listeners = document.listeners.iter();
        listeners.find(|listener| listener.name == discover.listener)
    });
    let discovered = discovers.map_or(0, |listener| plan::members(listener, &sights.fleet).count());
    PoolNode {
        name: name.to_owned(),
        discover: discovers.map(|listener| listener.name.to_string()),
        backends: (pool.backends.len() + discovered) as u64,
        seen: SeenPairs {
            up: sum.up,
            down: sum.down,
            ejected: sum.ejected,
            drained: sum.drained,
            stale: sum.stale,
        },
        serving,
        queued,
        live: sum.live,
        connect_rate: sum.connect_rate,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    use tidegate_core::document::Role;
    use uuid::Uuid;

    use super::*;
    use crate::store::{AgentSight, Serving};

    #[test]
    fn a_connection_is_counted_where_it_comes_in() {
        let document = Document::parse(
            r#"
            listeners:
            - { name: edge, role: balancer, bind: ":443", pool: tls }
            - { name: tls, role: terminator, bind: ":8443", pool: node, accept_proxy: [10.0.0.0/8], tls: { certificates: [c] } }
            - { name: behind, role: terminator, bind: ":8444", pool: node, tls: { certificates: [c] } }
            - { name: alone, role: terminator, bind: ":9443", pool: node, accept_proxy: none, tls: { certificates: [c] } }
            pools:
            - { name: tls, proxy_protocol: v2, discover: { listener: tls } }
            - { name: node, backends: [{ address: ":3000" }] }
            certificates: [{ name: c, chain: x, private_key: z }]
            "#,
        )
        .unwrap();
        assert_eq!(edge(&document), ["edge", "alone"]);
    }

    const FLEET: &str = r#"
        listeners:
        - { name: edge, role: balancer, agents: { tier: edge }, bind: ":443", pool: tls }
        - { name: tls, role: terminator, bind: ":8443", mode: http, pool: node, tls: { certificates: [c] } }
        - { name: plain, role: balancer, bind: ":80", redirect: { status: 308 } }
        pools:
        - { name: tls, proxy_protocol: v2, discover: { listener: tls } }
        - { name: node, backends: [{ address: ":3000" }, { address: ":3001" }] }
        certificates: [{ name: c, chain: x, private_key: z }]
    "#;

    fn agent(number: u8, role: Role, label: Option<(&str, &str)>) -> plan::Agent {
        plan::Agent {
            id: Uuid::from_u128(number.into()).to_string().parse().unwrap(),
            roles: BTreeSet::from([role]),
            labels: label
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            address: IpAddr::from([10, 0, 0, number]),
            health_port: 7445,
        }
    }

    fn sight(number: u8, stand: Stand) -> AgentSight {
        AgentSight {
            id: Uuid::from_u128(number.into()),
            address: IpAddr::from([10, 0, 0, number]),
            stand,
            seen_at: None,
            mistakes: Vec::new(),
        }
    }

    fn counts(up: u64, down: u64, live: u64) -> SeenCounts {
        SeenCounts {
            up,
            down,
            live,
            connect_rate: 1.5,
            ..SeenCounts::default()
        }
    }

    fn traffic(live: u64, accept_rate: f64) -> Traffic {
        Traffic {
            live,
            accept_rate,
            byte_rate: 100.0,
            ..Traffic::default()
        }
    }

    #[test]
    fn the_picture_leads_from_clients_to_processes() {
        let document = Document::parse(FLEET).unwrap();
        let sights = Sights {
            fleet: vec![
                agent(1, Role::Balancer, Some(("tier", "edge"))),
                agent(2, Role::Balancer, None),
                agent(3, Role::Terminator, None),
                agent(4, Role::Terminator, None),
            ],
            agents: vec![
                sight(1, Stand::Serving),
                sight(2, Stand::Failed),
                sight(3, Stand::Behind),
            ],
            listeners: vec![
                ("edge".into(), traffic(7, 2.0)),
                ("gone".into(), traffic(90, 90.0)),
                ("tls".into(), traffic(6, 1.0)),
            ],
            backends: vec![
                ("node".into(), ":3000".into(), counts(2, 0, 4)),
                ("node".into(), ":3001".into(), counts(1, 1, 2)),
                ("other".into(), ":1".into(), counts(9, 9, 9)),
            ],
            serving: vec![
                Serving {
                    pool: "node".into(),
                    serving: "primary".into(),
                    agents: 1,
                    queued: 3,
                },
                Serving {
                    pool: "node".into(),
                    serving: "nobody".into(),
                    agents: 1,
                    queued: 2,
                },
            ],
        };
        let picture = topology(&document, &sights);
        assert_eq!(
            (picture.clients.live, picture.clients.byte_rate),
            (7, 100.0)
        );

        let [edge, tls, plain] = picture.listeners.as_slice() else {
            panic!("{picture:?}");
        };
        assert!(edge.edge && plain.edge && !tls.edge);
        assert_eq!(
            (edge.pools.as_slice(), edge.live),
            (["tls".to_owned()].as_slice(), 7)
        );
        assert_eq!(plain.pools, [""; 0]);
        assert_eq!(
            edge.agents,
            Stands {
                serving: 1,
                ..Stands::default()
            }
        );
        assert_eq!(
            plain.agents,
            Stands {
                serving: 1,
                failed: 1,
                ..Stands::default()
            }
        );
        // The fourth has just joined.
        assert_eq!(
            tls.agents,
            Stands {
                behind: 1,
                offline: 1,
                ..Stands::default()
            }
        );

        let [found, node] = picture.pools.as_slice() else {
            panic!("{picture:?}");
        };
        assert_eq!(
            (found.discover.as_deref(), found.backends),
            (Some("tls"), 2)
        );
        assert_eq!(found.seen, SeenPairs::default());
        assert_eq!((node.backends, node.live, node.queued), (2, 6, 5));
        assert_eq!(
            node.seen,
            SeenPairs {
                up: 3,
                down: 1,
                ..SeenPairs::default()
            }
        );
        assert_eq!(
            node.serving,
            ServedBy {
                primary: 1,
                nobody: 1,
                ..ServedBy::default()
            }
        );
    }
}
