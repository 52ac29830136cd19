//! The document: what people write and apply. Types here hold exactly what was
//! written; `plan` resolves them for one agent.
//!
//! [`Document::parse`] answers with every mistake at once, each with the JSON
//! pointer of its place (RFC 6901) and the mend. A value that cannot be right
//! by itself is refused by its type (`value`), a resource by its fields
//! (`read`), and what only shows between resources by `check`.
//!
//! To add a field: put it on its struct with a default, and if it refers to or
//! excludes something else, add the rule to `check`.

mod certificate;
mod check;
mod health_check;
mod read;
mod value;

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::addr::WrittenAddr;
use crate::pick::Balance;
use crate::proxy_protocol::Version;
pub use certificate::{Certificate, Material, SecretPem};
pub use health_check::{CheckKind, HealthCheck, HttpCheck};
pub use value::{
    AcceptProxy, AdminState, BackendName, Cidr, Labels, Name, ProxyOut, Timeout, Weight,
};

/// All listeners, pools, policies and certificates, in the order written.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Document {
    /// What is bound, on which agents.
    pub listeners: Vec<Listener>,
    /// Where connections go.
    pub pools: Vec<Pool>,
    /// What listeners do about clients.
    pub policies: Vec<Policy>,
    /// Names of certificates; standalone agents also find the material here.
    pub certificates: Vec<Certificate>,
}

/// The two kinds of work an agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Spreads TCP, never decrypts.
    Balancer,
    /// Terminates TLS beside the app.
    Terminator,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Balancer => "balancer",
            Self::Terminator => "terminator",
        })
    }
}

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

/// What a listener does about clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Unique among policies.
    pub name: Name,
    /// Only these, when not empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Cidr>,
    /// Never these, whatever `allow` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<Cidr>,
    /// Bounds per client.
    #[serde(default)]
    pub limits: Limits,
    /// How long to wait for whom.
    #[serde(default)]
    pub timeouts: Timeouts,
}

/// Bounds per client (IPv4 address or IPv6 /64).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Live connections to a listener from one client; absent = no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_per_client: Option<NonZeroU32>,
}

/// How long a listener waits. Every wait on a peer has one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// For one backend to accept.
    pub connect: Timeout,
    /// For everything before the first payload byte: PROXY header, TLS
    /// handshake, request head, connect.
    pub first_byte: Timeout,
    /// Without a byte either way, on TCP and upgraded connections.
    pub idle: Timeout,
    /// Between two requests of an HTTP connection.
    pub keep_alive: Timeout,
    /// Without a byte after one side has ended its direction.
    pub half_closed: Timeout,
    /// A connection's whole life; absent = unbounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Timeout>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Timeout::from_secs(5),
            first_byte: Timeout::from_secs(10),
            idle: Timeout::from_secs(3600),
            keep_alive: Timeout::from_secs(60),
            half_closed: Timeout::from_secs(30),
            max_age: None,
        }
    }
}

/// Something wrong in a document, or impossible on an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mistake {
    /// Where: a JSON pointer (RFC 6901) into the document; empty = all of it.
    pub pointer: String,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl Mistake {
    /// A mistake at `pointer`.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.pointer, self.message)
        }
    }
}

impl Document {
    /// Reads YAML or JSON.
    ///
    /// # Errors
    /// Every mistake found, sorted by place, never an empty list.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        let read = read::document(read::tree(text)?)?;
        let mut mistakes = read.mistakes;
        check::references(&read.document, &read.places, &mut mistakes);
        settled(read.document, mistakes)
    }

    /// YAML or JSON to a tree, for [`Document::of_fleet`].
    ///
    /// # Errors
    /// When the text is neither.
    pub fn tree(text: &str) -> Result<Value, Vec<Mistake>> {
        read::tree(text)
    }

    /// Reads a value as a resource is read, for what is said beside the document.
    ///
    /// # Errors
    /// Every mistake in it, with pointers into the value.
    pub fn part<T: DeserializeOwned>(value: Value) -> Result<T, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        read::resource(value, "", &mut mistakes).ok_or(mistakes)
    }

    /// Reads the document of a fleet, where chains and keys are `uploaded` and
    /// the document only names them.
    ///
    /// # Errors
    /// As [`Document::parse`], and a certificate that was never uploaded or
    /// brings its key along.
    pub fn of_fleet(tree: Value, uploaded: &BTreeSet<Name>) -> Result<Self, Vec<Mistake>> {
        let mut read = read::document(tree)?;
        let mut mistakes = read.mistakes;
        check::certificates_are_uploaded(&read.document, &read.places, uploaded, &mut mistakes);
        let named = &mut read.places.certificates.names;
        named.extend(uploaded.iter().cloned());
        check::references(&read.document, &read.places, &mut mistakes);
        settled(read.document, mistakes)
    }

    /// Every certificate that the document names, as declared or by a listener.
    pub fn certificate_names(&self) -> BTreeSet<&Name> {
        let declared = self.certificates.iter().map(|c| &c.name);
        let used = self.listeners.iter().filter_map(|l| l.tls.as_ref());
        declared
            .chain(used.flat_map(|tls| &tls.certificates))
            .collect()
    }

    /// Turns the names in the pointers of an agent's mistakes
    /// (`/listeners/edge/bind`) into indexes: an agent knows resources by name,
    /// and a pointer leads into the document as written.
    pub fn locate(&self, mistakes: Vec<Mistake>) -> Vec<Mistake> {
        let index_of = |kind: &str, name: &str| match kind {
            "listeners" => self.listeners.iter().position(|l| l.name.as_str() == name),
            "pools" => self.pools.iter().position(|p| p.name.as_str() == name),
            "certificates" => self
                .certificates
                .iter()
                .position(|c| c.name.as_str() == name),
            _ => None,
        };
        let located = |mut mistake: Mistake| {
            let mut keys = mistake.pointer.splitn(4, '/');
            if let (Some(""), Some(kind), Some(name)) = (keys.next(), keys.next(), keys.next())
                && let Some(index) = index_of(kind, name)
            {
                let below = keys
                    .next()
                    .map_or_else(String::new, |rest| format!("/{rest}"));
                mistake.pointer = format!("/{kind}/{index}{below}");
            }
            mistake
        };
        mistakes.into_iter().map(located).collect()
    }

    /// The policy a listener names, or the default one.
    pub fn policy(&self, name: Option<&Name>) -> Option<&Policy> {
        let name = name?;
        self.policies.iter().find(|p| p.name == *name)
    }
}

/// The document, unless something is wrong with it.
fn settled(document: Document, mut mistakes: Vec<Mistake>) -> Result<Document, Vec<Mistake>> {
    if mistakes.is_empty() {
        return Ok(document);
    }
    mistakes.sort();
    mistakes.dedup();
    Err(mistakes)
}

#[cfg(test)]
mod tests;
