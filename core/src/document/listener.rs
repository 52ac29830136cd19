//! A listener as people write it: where it listens, what becomes of its
//! connections. What it refers to is looked at by `check`, and `plan` resolves
//! it for one agent.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::bounded::{Bounded, Keepalive, UserTimeout};
use super::http::Http;
use super::server_name::ServerPattern;
use super::tls::Tls;
use super::value::{AcceptProxy, BadValue, Labels, Name};
use super::{Role, is_default};
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
    /// How the kernel treats its sockets.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tcp: Tcp,
    /// Balancers only: pools by server name, as the ClientHello says it in the
    /// clear. Nothing is decrypted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// What becomes of a connection that does not begin with TLS; with routes
    /// only, refused when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain: Option<Plain>,
    /// Balancers only: whether clients speak first; absent = known by where the
    /// connections go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_first: Option<bool>,
    /// Balancers only: the listener answers plain HTTP, and leads nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// TLS, on terminators only and always there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What is inside the TLS; terminators only, `tcp` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What is taken of HTTP clients; in HTTP mode only, its defaults when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// How the app learns the client's address; terminators only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<ClientIp>,
    /// Where its connections go; beside routes, those that match none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Name>,
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

    /// Every pool its connections may go to, as often as it is named.
    pub fn pools(&self) -> impl Iterator<Item = &Name> {
        self.pool.iter().chain(self.routes.iter().map(|r| &r.pool))
    }
}

/// Server names, and where connections that ask for one of them go.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { sni: [play.example.com], pool: NAME }"
)]
pub struct Route {
    /// Exact names before patterns, of patterns the longest.
    pub sni: Vec<ServerPattern>,
    /// Where they go.
    pub pool: Name,
}

/// What becomes of a connection that does not begin with TLS, where names decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plain {
    /// It is closed.
    #[default]
    Refuse,
    /// It goes to the listener's `pool`.
    Pool,
}

/// The answer of a listener that sends plain HTTP to https.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a mapping such as { port: 443, status: 308 }, or {}"
)]
pub struct Redirect {
    /// The port in the Location; 443 is left out there (RFC 9110 section 4.2.2).
    pub port: NonZeroU16,
    /// The status of the answer.
    pub status: RedirectStatus,
}

impl Default for Redirect {
    fn default() -> Self {
        const HTTPS: NonZeroU16 = NonZeroU16::new(443).unwrap();
        Self {
            port: HTTPS,
            status: RedirectStatus::default(),
        }
    }
}

/// A status that sends a client elsewhere (RFC 9110 section 15.4): 301, 302, 307
/// or 308.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct RedirectStatus(u16);

impl RedirectStatus {
    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl Default for RedirectStatus {
    /// For ever, and with the same method and body: a POST stays a POST.
    fn default() -> Self {
        Self(308)
    }
}

impl TryFrom<u16> for RedirectStatus {
    type Error = BadValue;

    fn try_from(status: u16) -> Result<Self, BadValue> {
        if matches!(status, 301 | 302 | 307 | 308) {
            return Ok(Self(status));
        }
        Err(BadValue(format!(
            "{status} sends nobody elsewhere: write 301, 302, 307 or 308"
        )))
    }
}

impl From<RedirectStatus> for u16 {
    fn from(status: RedirectStatus) -> Self {
        status.0
    }
}

/// How the kernel treats a listener's sockets, and those it accepts on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tcp {
    /// Connections that may wait to be accepted (listen(2)); the kernel's
    /// `net.core.somaxconn` bounds it as well.
    pub backlog: Bounded<1, 65_535>,
    /// When a silent peer is asked whether it is still there.
    pub keepalive: Keepalive,
    /// How long sent bytes may stay unacknowledged; absent = as the kernel has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_timeout: Option<UserTimeout>,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            backlog: Bounded::near(4096),
            keepalive: Keepalive::default(),
            user_timeout: None,
        }
    }
}

/// What a terminator understands of the bytes inside the TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// HTTP/1.1 and HTTP/2, WebSockets included.
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
    /// As any server does: connections to it come from the client's own address.
    Transparent,
    /// Not at all.
    None,
}

impl ClientIp {
    /// The PROXY header this means, if any.
    pub fn proxy(self) -> Option<Version> {
        match self {
            Self::ProxyV1 => Some(Version::V1),
            Self::ProxyV2 => Some(Version::V2),
            Self::Forwarded | Self::Transparent | Self::None => None,
        }
    }
}
