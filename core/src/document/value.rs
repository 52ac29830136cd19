//! The small values a document is made of: names, times, networks. Each type refuses by itself what can
//! never be right, with a message that names the mend; none needs a later
//! look.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::addr::{WrittenAddr, canonical_net};
use crate::proxy_protocol::Version;

/// Labels of an agent, or those a selector asks for.
pub type Labels = BTreeMap<String, String>;

/// A value refused by its type; serde adds where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(pub(super) String);

/// Implements the serde side of a type that is written as one string.
macro_rules! written_as_string {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = BadValue;

            fn try_from(written: String) -> Result<Self, BadValue> {
                written.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}

pub(super) use written_as_string;

/// The name of a resource: lower-case letters, digits, `-`, `.` and `_`,
/// beginning with a letter or digit, at most 63.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadValue;

    fn from_str(written: &str) -> Result<Self, BadValue> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
        let begins_well =
            written.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if begins_well && written.len() <= 63 && written.chars().all(allowed) {
            return Ok(Self(written.into()));
        }
        Err(BadValue(format!(
            "{:?} is not a name: write 1 to 63 of a-z, 0-9, '-', '.', '_', beginning with a letter \
             or digit",
            excerpt(written)
        )))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_string!(Name);

/// The name of a backend in its pool: a name as given, or the address as
/// written (`127.0.0.1:3000`, `:3000`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackendName(Arc<str>);

impl BackendName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BackendName {
    type Err = BadValue;

    fn from_str(written: &str) -> Result<Self, BadValue> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if (1..=63).contains(&written.len()) && written.chars().all(allowed) {
            return Ok(Self(written.into()));
        }
        Err(BadValue(format!(
            "{:?} is not a backend's name: write 1 to 63 letters, digits, '-', '.', '_', ':', or \
             leave it out to use the address",
            excerpt(written)
        )))
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<WrittenAddr> for BackendName {
    fn from(address: WrittenAddr) -> Self {
        Self(address.to_string().into())
    }
}

impl From<&Name> for BackendName {
    fn from(name: &Name) -> Self {
        Self(Arc::clone(&name.0))
    }
}

written_as_string!(BackendName);

/// How long to wait: written `1s`, `500ms`, `1h 30m`; 1 ms to 366 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timeout(Duration);

impl Timeout {
    const LONGEST: Duration = Duration::from_secs(366 * 86_400);

    /// A timeout of `secs` seconds, for defaults.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// The time itself.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Timeout {
    type Err = BadValue;

    fn from_str(written: &str) -> Result<Self, BadValue> {
        let bad = || {
            BadValue(format!(
                "{:?} is not a time: write a number and a unit, such as 500ms, 10s, 5m, 1h, 24h; \
                 from 1ms to 366d",
                excerpt(written)
            ))
        };
        let time = humantime::parse_duration(written).map_err(|_| bad())?;
        Self::try_from(time).map_err(|_| bad())
    }
}

impl TryFrom<Duration> for Timeout {
    type Error = BadValue;

    fn try_from(time: Duration) -> Result<Self, BadValue> {
        if (Duration::from_millis(1)..=Self::LONGEST).contains(&time) {
            return Ok(Self(time));
        }
        Err(BadValue(format!(
            "{} is out of bounds: from 1ms to 366d",
            humantime::format_duration(time)
        )))
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

written_as_string!(Timeout);

/// A network: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(IpNet);

impl Cidr {
    /// Without host bits, IPv4-mapped networks as IPv4.
    pub fn net(self) -> IpNet {
        self.0
    }
}

impl FromStr for Cidr {
    type Err = BadValue;

    fn from_str(written: &str) -> Result<Self, BadValue> {
        let net = match written.parse::<std::net::IpAddr>() {
            Ok(ip) => IpNet::from(ip),
            Err(_) => written.parse::<IpNet>().map_err(|_| {
                BadValue(format!(
                    "{:?} is not a network: write ADDRESS/LENGTH, such as 192.0.2.0/24 or \
                     2001:db8::/32, or one address",
                    excerpt(written)
                ))
            })?,
        };
        if net.trunc() != net {
            // Whether the author meant the host or its network cannot be told.
            return Err(BadValue(format!(
                "{written} has bits after its /{}: write {} for the network, or {} for the one \
                 address",
                net.prefix_len(),
                net.trunc(),
                net.addr()
            )));
        }
        Ok(Self(canonical_net(net)))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

written_as_string!(Cidr);

/// A backend's share among the others: 0 to 256, and 0 takes nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Weight(u16);

impl Weight {
    /// The share.
    pub fn get(self) -> u16 {
        self.0
    }

    /// The share, unless it takes nothing new.
    pub fn share(self) -> Option<NonZeroU16> {
        NonZeroU16::new(self.0)
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<u16> for Weight {
    type Error = BadValue;

    fn try_from(weight: u16) -> Result<Self, BadValue> {
        if weight <= 256 {
            return Ok(Self(weight));
        }
        Err(BadValue(format!(
            "{weight} is not a weight: write 0 to 256; 0 takes nothing new"
        )))
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

/// What an operator says of a backend, outside the document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminState {
    /// Normal: checks decide.
    #[default]
    Ready,
    /// No new connections; old ones finish.
    Drain,
    /// As `Drain`, and no checks either.
    Maintenance,
}

impl AdminState {
    /// Whether new connections may go there, as far as the operator cares.
    pub fn takes_connections(self) -> bool {
        self == Self::Ready
    }

    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maintenance => "maintenance",
        }
    }
}

impl FromStr for AdminState {
    type Err = BadValue;

    fn from_str(written: &str) -> Result<Self, BadValue> {
        let all = [Self::Ready, Self::Drain, Self::Maintenance];
        let found = all.into_iter().find(|state| state.as_str() == written);
        found.ok_or_else(|| {
            BadValue(format!(
                "{:?} is not an admin state: write ready, drain or maintenance",
                excerpt(written)
            ))
        })
    }
}

impl fmt::Display for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// From whom a listener requires a PROXY header; from anybody else on such a
/// listener the connection is refused. Never optional: an optional header is
/// one that any client can forge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptProxy {
    /// No header is looked for: the peer is the client.
    None,
    /// From the balancers of the fleet, at exactly their addresses.
    Balancers,
    /// From these networks.
    From(Vec<Cidr>),
}

impl Serialize for AcceptProxy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::Balancers => serializer.serialize_str("balancers"),
            Self::From(nets) => nets.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for AcceptProxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand, since `untagged` would lose which element of the list is wrong.
        struct Written;

        impl<'de> Visitor<'de> for Written {
            type Value = AcceptProxy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("none, balancers, or a list of networks such as [10.0.0.0/8]")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AcceptProxy, E> {
                match text {
                    "none" => Ok(AcceptProxy::None),
                    "balancers" => Ok(AcceptProxy::Balancers),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<AcceptProxy, A::Error> {
                let mut nets = Vec::new();
                while let Some(net) = seq.next_element()? {
                    nets.push(net);
                }
                if nets.is_empty() {
                    return Err(de::Error::custom(
                        "an empty list accepts nobody: write none",
                    ));
                }
                Ok(AcceptProxy::From(nets))
            }
        }

        deserializer.deserialize_any(Written)
    }
}

/// The version of the PROXY header that somebody writes, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyOut {
    /// Nothing.
    #[default]
    None,
    /// PROXY protocol version 1.
    V1,
    /// PROXY protocol version 2.
    V2,
}

impl ProxyOut {
    /// The version to write, if any.
    pub fn version(self) -> Option<Version> {
        match self {
            Self::None => None,
            Self::V1 => Some(Version::V1),
            Self::V2 => Some(Version::V2),
        }
    }
}

/// The beginning of a wrong value, for its error: what is refused may be huge.
pub(super) fn excerpt(written: &str) -> String {
    written.chars().take(64).collect()
}
