//! A listener as people write it: where it listens, what becomes of its
//! connections. What it refers to is looked at by `check`, and `plan` resolves
//! it for one agent.

use serde::{Deserialize, Serialize};

use super::Role;
use super::value::{AcceptProxy, Labels, Name};
use crate::addr::WrittenAddr;
use crate::proxy_protocol::Version;

/// A bound address on the agents that the selector picks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Unique among listeners.
    pub name: Name,
    /// Which kind of work it is.
    pub role: Role,
    /// Labels an agent must have; empty = every agent of the role.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub agents: Labels,
    /// Where to listen; `:port` is the agent's own address.
    pub bind: WrittenAddr,
    /// From whom a PROXY header is required; see [`Listener::accept_proxy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_proxy: Option<AcceptProxy>,
    /// The policy; absent = everybody, with default timeouts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Name>,
    /// TLS, on terminators only and always there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What is inside the TLS; terminators only, `tcp` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// How the app learns the client's address; terminators only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<ClientIp>,
    /// Where its connections go.
    pub pool: Name,
}

impl Listener {
    /// `none` on balancers, `balancers` on terminators unless written.
    pub fn accept_proxy(&self) -> AcceptProxy {
        self.accept_proxy.clone().unwrap_or(match self.role {
            Role::Balancer => AcceptProxy::None,
            Role::Terminator => AcceptProxy::Balancers,
        })
    }

    /// `tcp` unless written.
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or(Mode::Tcp)
    }

    /// `forwarded` in HTTP mode, `none` in TCP mode, unless written.
    pub fn client_ip(&self) -> ClientIp {
        self.client_ip.unwrap_or(match self.mode() {
            Mode::Http => ClientIp::Forwarded,
            Mode::Tcp => ClientIp::None,
        })
    }
}

/// TLS settings of a terminator's listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// By SNI; the first one answers clients that name no other.
    pub certificates: Vec<Name>,
}

/// What a terminator understands of the bytes inside the TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// HTTP/1.1, WebSocket upgrades included.
    Http,
    /// Bytes.
    Tcp,
}

/// How the app learns the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientIp {
    /// X-Forwarded-* and Forwarded (RFC 7239), HTTP mode.
    Forwarded,
    /// A PROXY protocol v1 line, TCP mode.
    ProxyV1,
    /// A PROXY protocol v2 header, TCP mode.
    ProxyV2,
    /// Not at all.
    None,
}

impl ClientIp {
    /// The PROXY header this means, if any.
    pub fn proxy(self) -> Option<Version> {
        match self {
            Self::ProxyV1 => Some(Version::V1),
            Self::ProxyV2 => Some(Version::V2),
            Self::Forwarded | Self::None => None,
        }
    }
}
