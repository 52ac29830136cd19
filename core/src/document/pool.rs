//! A pool as people write it: its backends and how one of them is chosen. What
//! it refers to is looked at by `check`, and `plan` resolves it for one agent.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::bounded::Bounded;
use super::health_check::HealthCheck;
use super::is_default;
use super::passive::Passive;
use super::proxy_protocol::ProxyProtocol;
use super::value::{BackendName, Name, Timeout, Weight};
use crate::addr::WrittenAddr;
use crate::pick::{AllDown, Backups, Balance};

/// Where connections go.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Unique among pools.
    pub name: Name,
    /// How a backend is chosen.
    #[serde(default)]
    pub balance: Balance,
    /// With `source_hash` only: what a backend may have at most, in percent of its
    /// share of all connections; absent = no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounded_load: Option<BoundedLoad>,
    /// What a balancer says about the client to the backends.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    /// Listed by hand ...
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<Backend>,
    /// ... or found: each agent that serves a listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discover: Option<Discover>,
    /// How backends are checked; absent = `tcp` for listed ones, the agent's
    /// own health port for discovered ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// How many backup backends serve when no other one can.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backups: Backups,
    /// What becomes of connections when no backend but backups is up.
    #[serde(default, skip_serializing_if = "is_default")]
    pub all_down: AllDown,
    /// Connections that may wait while every usable backend has its
    /// `max_connections`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_queue: MaxQueue,
    /// For how long they wait; absent = the listener's connect timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_timeout: Option<Timeout>,
    /// How long a backend that comes up takes to get its whole share; absent = it
    /// has it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Timeout>,
    /// How many other backends are tried after a failed connect.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: Retries,
    /// What failed connects do to a backend.
    #[serde(default, skip_serializing_if = "is_default")]
    pub passive: Passive,
    /// Whether a client's first bytes travel in the SYN to the backend (RFC 7413);
    /// absent = where the pool discovers terminators and the balancer has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_open: Option<bool>,
}

/// Percent of the mean, 101 to 1000. At 100 nobody could be given the next one.
pub type BoundedLoad = Bounded<101, 1000>;

/// One address of a pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Unique in its pool; the address as written unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<BackendName>,
    /// Where it listens; `:port` is the agent's own address.
    pub address: WrittenAddr,
    /// Its share among the others.
    #[serde(default)]
    pub weight: Weight,
    /// Live connections it is given by one agent at most; absent = no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<NonZeroU32>,
    /// Whether it serves only when the others are down.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backup: bool,
}

impl Backend {
    /// Its name in the pool: health and counts hang on it.
    pub fn name(&self) -> BackendName {
        self.name.clone().unwrap_or_else(|| self.address.into())
    }
}

/// Where discovered backends come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discover {
    /// A terminator's listener: every agent that serves it is a backend.
    pub listener: Name,
}

/// How many connections may wait in a pool on one agent: 0 to 100000, 1024 unless
/// written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MaxQueue(Bounded<0, 100_000>);

impl MaxQueue {
    /// The number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl Default for MaxQueue {
    fn default() -> Self {
        Self(Bounded::near(1024))
    }
}

/// How many other backends are tried: 0 to 10, 3 unless written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Retries(Bounded<0, 10>);

impl Retries {
    /// The number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self(Bounded::near(3))
    }
}
