//! A pool as people write it: its backends and how one of them is chosen. What
//! it refers to is looked at by `check`, and `plan` resolves it for one agent.

use serde::{Deserialize, Serialize};

use super::health_check::HealthCheck;
use super::value::{BackendName, Name, ProxyOut, Weight};
use crate::addr::WrittenAddr;
use crate::pick::Balance;

/// Where connections go.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Unique among pools.
    pub name: Name,
    /// How a backend is chosen.
    #[serde(default)]
    pub balance: Balance,
    /// What a balancer says about the client to the backends.
    #[serde(default)]
    pub proxy_protocol: ProxyOut,
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
}

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
