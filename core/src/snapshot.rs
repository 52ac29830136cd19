//! What one agent must run: resolved, sorted, and without a secret. Made by
//! `plan`, carried as canonical bytes, compared by hash: same content, same
//! bytes, and an equal hash touches nothing.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::document::{
    AdminState, AllDown, BackendName, Backups, BoundedLoad, CheckKind, Extensions, Http, Limits,
    MaxQueue, Name, Passive, Plain, Redirect, Retries, Tcp, Timeout, Timeouts, Tls, is_default,
};
use crate::health::{Start, Thresholds};
use crate::keyed::HashKey;
use crate::pick::Balance;
use crate::proxy_protocol::Version;

/// Everything one agent runs; each list is sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Bound addresses and what happens on them.
    pub listeners: Vec<Listener>,
    /// Pools that the listeners name.
    pub pools: Vec<Pool>,
    /// Certificates that the listeners name; keys travel apart.
    pub certificates: Vec<Certificate>,
    /// By what clients are spread over backends, where a pool has `source_hash`: the
    /// same on every balancer. It guards no secret, only against clients that would
    /// choose their backend (ADR 008).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_key: Option<HashKey>,
}

impl Snapshot {
    /// Canonical bytes: field order is fixed, lists are sorted by `plan`.
    pub fn encode(&self) -> Vec<u8> {
        // Serialising plain structs, strings and numbers into memory has no failing case.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The reverse of [`Snapshot::encode`].
    ///
    /// # Errors
    /// When the bytes are not a snapshot of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// SHA-256 of the canonical bytes.
    pub fn hash(&self) -> Fingerprint {
        Fingerprint::of(&self.encode())
    }
}

/// A listener on this agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its name in the document.
    pub name: Name,
    /// Where to listen.
    pub bind: SocketAddr,
    /// Who must send a PROXY header. Absent = nobody does, the peer is the
    /// client; empty = nobody may connect yet: a fleet without balancers must not
    /// take strangers for clients.
    pub accept_proxy: Option<Vec<IpNet>>,
    /// What it does about clients.
    pub policy: Policy,
    /// Where its connections go; beside routes, those that match none. The pool is
    /// in the snapshot. Absent = they are refused, or the listener redirects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Name>,
    /// The PROXY header written to the backends of `pool`.
    pub announce: Option<Version>,
    /// What is done with the bytes.
    pub work: Work,
    /// Pools by server name; no name is there twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// What becomes of a connection without TLS, where there are routes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub plain: Plain,
    /// Whether nothing is connected before the client's first bytes. Balancers only:
    /// a terminator's clients always speak first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub client_first: bool,
    /// How the kernel treats its sockets.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tcp: Tcp,
}

/// Server names, and where connections that ask for one of them go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Names in lower case, or `*.` and a name: all those below it.
    pub sni: Vec<String>,
    /// The pool, which is in the snapshot.
    pub pool: Name,
    /// The PROXY header written to its backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announce: Option<Version>,
}

/// What a listener does with the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Relays them.
    Balance,
    /// Terminates TLS.
    Terminate(Box<Terminate>),
    /// Answers plain HTTP with a redirect to https.
    Redirect(Redirect),
}

impl Work {
    /// Whether backends are connected to from the client's own address.
    pub fn is_transparent(&self) -> bool {
        matches!(self, Self::Terminate(terminate) if terminate.transparent)
    }
}

/// TLS, and what is inside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminate {
    /// As the document says it.
    #[serde(flatten)]
    pub tls: Tls,
    /// What the plain bytes are.
    pub inside: Inside,
    /// Whether backends are connected to from the client's own address.
    #[serde(default, skip_serializing_if = "is_default")]
    pub transparent: bool,
}

/// What the bytes inside TLS are taken for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inside {
    /// Bytes.
    Tcp,
    /// HTTP.
    Http {
        /// Whether the app is told about the client in headers.
        forwarded: bool,
        /// What is taken of clients.
        #[serde(default, skip_serializing_if = "is_default")]
        http: Http,
    },
}

/// A policy, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Only these, when not empty.
    pub allow: Vec<IpNet>,
    /// Never these.
    pub deny: Vec<IpNet>,
    /// Bounds per client.
    pub limits: Limits,
    /// How long to wait for whom.
    pub timeouts: Timeouts,
}

/// A pool, resolved for this agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name in the document.
    pub name: Name,
    /// How a backend is chosen.
    pub balance: Balance,
    /// In the order of the document; discovered ones by agent.
    pub backends: Vec<Backend>,
    /// How they are checked.
    pub check: Check,
    /// What one backend may have at most, in percent of its share; with
    /// `source_hash` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounded_load: Option<BoundedLoad>,
    /// What a balancer's PROXY header of version 2 holds besides the addresses.
    #[serde(default, skip_serializing_if = "is_default")]
    pub extensions: Extensions,
    /// Which backups serve.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backups: Backups,
    /// What becomes of connections when no backend but backups is up.
    #[serde(default, skip_serializing_if = "is_default")]
    pub all_down: AllDown,
    /// Connections that may wait for a backend, on this agent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_queue: MaxQueue,
    /// For how long they wait; absent = the listener's connect timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_timeout: Option<Timeout>,
    /// How long a backend that comes up takes to get its whole share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Timeout>,
    /// How many other backends are tried after a failed connect.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: Retries,
    /// What failed connects do to a backend.
    #[serde(default, skip_serializing_if = "is_default")]
    pub passive: Passive,
    /// Whether the client's first bytes travel in the SYN to the backend.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fast_open: bool,
}

/// A backend, resolved for this agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Its name in the pool.
    pub name: BackendName,
    /// Where its traffic goes.
    pub address: SocketAddr,
    /// Where its checks go.
    pub check_address: SocketAddr,
    /// Its share.
    pub weight: crate::document::Weight,
    /// Whether it takes traffic before its first check.
    pub start: Start,
    /// What the operator says of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub admin: AdminState,
    /// Live connections that this agent gives it at most; absent = no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<NonZeroU32>,
    /// Whether it serves only when the others are down.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backup: bool,
    /// How its live connections are closed, while the operator lets it take nothing
    /// new; absent = they end by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainPace>,
}

/// How fast the live connections of a drained backend are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainPace {
    /// So many in each second, on this agent.
    PerSecond(NonZeroU32),
    /// All of them, spread between two moments with jitter; at the end none is left.
    /// In milliseconds since 1970 (UTC), by the control plane's clock: planning again
    /// moves neither, and an agent that starts again goes on where it would be.
    Until {
        /// When it begins.
        since: u64,
        /// When the last one is closed.
        until: u64,
    },
}

/// How a pool's backends are checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is asked.
    pub kind: CheckKind,
    /// From one check to the next.
    pub interval: Timeout,
    /// For the whole check.
    pub timeout: Timeout,
    /// Results in a row that change the state.
    pub thresholds: Thresholds,
    /// PROXY header (without a client) in front of it.
    pub proxy: Option<Version>,
    /// While results are about to change the state; absent = `interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_interval: Option<Timeout>,
    /// While it is down; absent = `interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_interval: Option<Timeout>,
}

/// A certificate: its chain is public, its key is found by the fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its name in the document.
    pub name: Name,
    /// SHA-256 of the chain as PEM: another chain is another version.
    pub fingerprint: Fingerprint,
    /// PEM, leaf first.
    pub chain: String,
}

/// A SHA-256, in text as lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl Fingerprint {
    /// As the wire carries it.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Fingerprint {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

/// Text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 64 hexadecimal digits")]
pub struct BadFingerprint;

impl TryFrom<String> for Fingerprint {
    type Error = BadFingerprint;

    fn try_from(text: String) -> Result<Self, BadFingerprint> {
        let mut bytes = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return Err(BadFingerprint);
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            let digit = |c: u8| {
                char::from(c)
                    .to_digit(16)
                    .and_then(|d| u8::try_from(d).ok())
            };
            let [high, low] = pair.map(digit);
            *byte = high
                .zip(low)
                .map(|(h, l)| h << 4 | l)
                .ok_or(BadFingerprint)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_survives_its_text() {
        let fingerprint = Fingerprint::of(b"tidegate");
        assert_eq!(
            Fingerprint::try_from(fingerprint.to_string()),
            Ok(fingerprint)
        );
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65)] {
            assert_eq!(Fingerprint::try_from(bad.to_owned()), Err(BadFingerprint));
        }
    }
}
