//! Document and facts to the snapshot of one agent: pure, so that the control
//! plane can plan for the whole fleet before it commits, and a standalone agent
//! for itself with the same result.
//!
//! A document that is right can still be impossible on an agent: two listeners
//! on one address, a certificate that nobody has. Those come back as mistakes
//! with pointers into the document, like any other.

mod listener;
mod pool;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;

use ipnet::IpNet;

use crate::document::{
    AdminState, BackendName, Document, Index, Labels, Listener, Mistake, Name, Role, Timeout,
};
use crate::keyed::HashKey;
use crate::pick::Balance;
use crate::snapshot::{DrainPace, Snapshot};

/// What the fleet is: rows, never anybody's connections.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Enrolled agents that are not revoked.
    pub agents: Vec<Agent>,
    /// Chains by certificate name.
    pub certificates: BTreeMap<Name, Chain>,
    /// What operators say of backends; absent = ready.
    pub admin: BTreeMap<AdminKey, Admin>,
    /// By what balancers spread clients, where a pool has `source_hash`.
    pub hash_key: Option<HashKey>,
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

/// What an operator says of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// The state.
    pub state: AdminState,
    /// How its live connections end while it takes nothing new; absent = by
    /// themselves.
    pub pace: Option<Pace>,
}

impl From<AdminState> for Admin {
    fn from(state: AdminState) -> Self {
        Self { state, pace: None }
    }
}

/// How fast the live connections of a drained backend are closed. It holds the
/// moment when it was said, so that planning again another time gives the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So many in each second, on each agent.
    PerSecond(NonZeroU32),
    /// All of them, spread over the time given.
    Within {
        /// When it was said, in milliseconds since 1970 (UTC).
        since: u64,
        /// For how long from then on.
        within: Timeout,
    },
}

impl Pace {
    fn planned(self) -> DrainPace {
        match self {
            Self::PerSecond(rate) => DrainPace::PerSecond(rate),
            Self::Within { since, within } => {
                let within = u64::try_from(within.duration().as_millis()).unwrap_or(u64::MAX);
                DrainPace::Until {
                    since,
                    until: since.saturating_add(within),
                }
            }
        }
    }
}

impl Facts {
    /// What `agent` is to believe of a backend.
    fn admin(
        &self,
        pool: &Name,
        backend: &BackendName,
        agent: &Name,
    ) -> (AdminState, Option<DrainPace>) {
        if self.admin.is_empty() {
            return (AdminState::Ready, None);
        }
        let said = |agent: Option<&Name>| {
            self.admin.get(&AdminKey {
                pool: pool.clone(),
                backend: backend.clone(),
                agent: agent.cloned(),
            })
        };
        let said = said(Some(agent)).or_else(|| said(None));
        let Admin { state, pace } = said.copied().unwrap_or_default();
        let pace = pace.filter(|_| !state.takes_connections());
        (state, pace.map(Pace::planned))
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
    Planner::new(document, facts).plan(agent)
}

/// Document and facts, prepared once to plan for many agents.
pub struct Planner<'a> {
    document: &'a Document,
    facts: &'a Facts,
    index: Index<'a>,
    /// The balancers of the fleet at exactly their addresses, sorted.
    balancers: Vec<IpNet>,
    /// By discovered listener: the agents that serve it, by id.
    members: HashMap<&'a Name, Vec<(&'a Agent, SocketAddr)>>,
}

impl<'a> Planner<'a> {
    /// Looks at everything once: `plan` for one agent then takes time by what that
    /// agent runs, not by what all of them are.
    pub fn new(document: &'a Document, facts: &'a Facts) -> Self {
        let index = Index::of(document);
        let mut found = HashMap::new();
        for discover in document.pools.iter().filter_map(|p| p.discover.as_ref()) {
            if let Some(listener) = index.listener(&discover.listener) {
                found.entry(&listener.name).or_insert_with(|| {
                    let mut serving: Vec<_> = members(listener, &facts.agents).collect();
                    serving.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
                    serving
                });
            }
        }
        let balancers = facts.agents.iter();
        let balancers = balancers.filter(|a| a.roles.contains(&Role::Balancer));
        let exact: BTreeSet<IpNet> = balancers.map(|a| IpNet::from(a.address)).collect();
        Self {
            document,
            facts,
            index,
            balancers: exact.into_iter().collect(),
            members: found,
        }
    }

    /// What `agent` must run.
    ///
    /// # Errors
    /// Everything that is impossible there.
    pub fn plan(&self, agent: &Agent) -> Result<Snapshot, Vec<Mistake>> {
        let mut planning = Planning {
            fleet: self,
            agent,
            mistakes: Vec::new(),
        };
        let listeners = self.document.listeners.iter().enumerate();
        let served: Vec<_> = listeners.filter(|(_, l)| agent.serves(l)).collect();
        planning.addresses_are_apart(&served);
        let pools = planning.pools(&served);
        let hashes = pools.iter().any(|p| p.balance == Balance::SourceHash);
        let snapshot = Snapshot {
            listeners: planning.listeners(&served),
            certificates: planning.certificates(&served),
            hash_key: self.facts.hash_key.clone().filter(|_| hashes),
            pools,
        };
        if planning.mistakes.is_empty() {
            Ok(snapshot)
        } else {
            Err(planning.mistakes)
        }
    }
}

/// The plan of one agent under way; listeners with their index in the document.
struct Planning<'a> {
    fleet: &'a Planner<'a>,
    agent: &'a Agent,
    mistakes: Vec<Mistake>,
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

#[cfg(test)]
mod tests;
