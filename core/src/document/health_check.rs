//! A pool's health check: what is asked, how often, and what passes. People
//! write the kind as a key beside the numbers; here it is one of four.

use std::fmt;
use std::num::{NonZeroU8, NonZeroU16};
use std::str::FromStr;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::is_default;
use super::server_name::ServerName;
use super::value::{BadValue, Name, Timeout, excerpt, written_as_string};
use crate::health::Thresholds;
use crate::proxy_protocol::Version;

/// How and how often a backend is asked whether it can work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenHealthCheck", into = "WrittenHealthCheck")]
pub struct HealthCheck {
    /// What is asked.
    pub kind: CheckKind,
    /// From one check to the next.
    pub interval: Timeout,
    /// While results are about to change the state, and before the first; absent =
    /// `interval`.
    pub fast_interval: Option<Timeout>,
    /// While it is down; absent = `interval`.
    pub down_interval: Option<Timeout>,
    /// For the whole check.
    pub timeout: Timeout,
    /// Results in a row that change the state.
    pub thresholds: Thresholds,
    /// Another port than the traffic's.
    pub port: Option<NonZeroU16>,
    /// The PROXY header in front of the check.
    pub proxy: CheckProxy,
}

impl HealthCheck {
    /// The defaults around `kind`: every 2 s, 1 s, rise 2, fall 3.
    pub fn of(kind: CheckKind) -> Self {
        Self {
            kind,
            interval: default_interval(),
            fast_interval: None,
            down_interval: None,
            timeout: default_timeout(),
            thresholds: default_thresholds(),
            port: None,
            proxy: CheckProxy::Inherit,
        }
    }
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// Whether it accepts.
    Tcp,
    /// Whether it shakes hands. Whose certificate it shows plays no part.
    Tls(TlsCheck),
    /// What it answers to a GET.
    Http(HttpCheck),
    /// What the agent beside it says on its health port, `/health/<listener>`: also
    /// how much of its weight it can carry.
    Agent(AgentCheck),
}

impl CheckKind {
    fn word(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls(_) => "tls",
            Self::Http(_) => "http",
            Self::Agent(_) => "agent",
        }
    }
}

/// A TLS check: a handshake, and nothing after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsCheck {
    /// The server name to ask for; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<ServerName>,
}

/// A question to an agent of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentCheck {
    /// The listener asked about.
    pub listener: Name,
}

/// The PROXY header in front of a check; always one without a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckProxy {
    /// As the traffic has it, when the check goes to the traffic's port.
    #[default]
    Inherit,
    /// None.
    None,
    /// Version 1.
    V1,
    /// Version 2.
    V2,
}

impl CheckProxy {
    /// What is written, given what goes before the traffic of the same port.
    pub fn version(self, inherited: impl FnOnce() -> Option<Version>) -> Option<Version> {
        match self {
            Self::Inherit => inherited(),
            Self::None => None,
            Self::V1 => Some(Version::V1),
            Self::V2 => Some(Version::V2),
        }
    }
}

/// An HTTP check: `GET path`, and which statuses pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// Origin-form target (RFC 9112 section 3.2.1).
    pub path: CheckPath,
    /// The Host header; the backend's address when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<CheckHost>,
    /// Statuses that pass; 2xx and 3xx when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
}

impl HttpCheck {
    /// Whether `status` passes.
    pub fn passes(&self, status: u16) -> bool {
        match &self.expect {
            Some(expect) => expect.0.contains(&status),
            None => (200..400).contains(&status),
        }
    }
}

/// A path to ask for: begins with `/`, fit for a request line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CheckPath(String);

impl FromStr for CheckPath {
    type Err = BadValue;

    fn from_str(written: &str) -> Result<Self, BadValue> {
        let fits = written.len() <= 1024
            && written.starts_with('/')
            && http::uri::PathAndQuery::try_from(written).is_ok();
        fits.then(|| Self(written.to_owned())).ok_or_else(|| {
            BadValue(format!(
                "{:?} is not a path: write one that begins with '/', such as /health",
                excerpt(written)
            ))
        })
    }
}

impl fmt::Display for CheckPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_string!(CheckPath);

/// A Host header for a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CheckHost(String);

impl FromStr for CheckHost {
    type Err = BadValue;

    fn from_str(written: &str) -> Result<Self, BadValue> {
        let fits = written.len() <= 255 && http::uri::Authority::try_from(written).is_ok();
        fits.then(|| Self(written.to_owned())).ok_or_else(|| {
            BadValue(format!(
                "{:?} is not a host: write NAME or NAME:PORT",
                excerpt(written)
            ))
        })
    }
}

impl fmt::Display for CheckHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_string!(CheckHost);

/// Statuses that pass: one, or a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expect(Vec<u16>);

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl<'de> Visitor<'de> for Written {
            type Value = Expect;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status from 100 to 599, or a list such as [200, 204]")
            }

            fn visit_u64<E: de::Error>(self, status: u64) -> Result<Expect, E> {
                match u16::try_from(status) {
                    Ok(status @ 100..=599) => Ok(Expect(vec![status])),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(status), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Expect, A::Error> {
                let mut statuses = Vec::new();
                while let Some(one) = seq.next_element::<Expect>()? {
                    statuses.extend(one.0);
                }
                if statuses.is_empty() {
                    return Err(de::Error::custom(
                        "an empty list passes nothing: name a status",
                    ));
                }
                Ok(Expect(statuses))
            }
        }

        deserializer.deserialize_any(Written)
    }
}

/// A health check as people write it: the kind is a key beside the numbers.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenHealthCheck {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<TcpCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls: Option<TlsCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<HttpCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<AgentCheck>,
    #[serde(default = "default_interval")]
    interval: Timeout,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fast_interval: Option<Timeout>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    down_interval: Option<Timeout>,
    #[serde(default = "default_timeout")]
    timeout: Timeout,
    #[serde(default = "default_rise")]
    rise: NonZeroU8,
    #[serde(default = "default_fall")]
    fall: NonZeroU8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<NonZeroU16>,
    #[serde(default, skip_serializing_if = "is_default")]
    proxy: CheckProxy,
}

/// `tcp: {}`: nothing to say about it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TcpCheck {}

fn default_interval() -> Timeout {
    Timeout::from_secs(2)
}

fn default_timeout() -> Timeout {
    Timeout::from_secs(1)
}

fn default_rise() -> NonZeroU8 {
    default_thresholds().rise
}

fn default_fall() -> NonZeroU8 {
    default_thresholds().fall
}

fn default_thresholds() -> Thresholds {
    const TWO: NonZeroU8 = NonZeroU8::new(2).unwrap();
    const THREE: NonZeroU8 = NonZeroU8::new(3).unwrap();
    Thresholds {
        rise: TWO,
        fall: THREE,
    }
}

impl TryFrom<WrittenHealthCheck> for HealthCheck {
    type Error = BadValue;

    fn try_from(written: WrittenHealthCheck) -> Result<Self, BadValue> {
        let kinds = [
            written.tcp.map(|TcpCheck {}| CheckKind::Tcp),
            written.tls.map(CheckKind::Tls),
            written.http.map(CheckKind::Http),
            written.agent.map(CheckKind::Agent),
        ];
        let mut kinds = kinds.into_iter().flatten();
        let kind = kinds.next().unwrap_or(CheckKind::Tcp);
        if let Some(other) = kinds.next() {
            return Err(BadValue(format!(
                "both {} and {}: a pool has one check, keep one",
                kind.word(),
                other.word()
            )));
        }
        let has_header = matches!(written.proxy, CheckProxy::V1 | CheckProxy::V2);
        if has_header && matches!(kind, CheckKind::Agent(_)) {
            return Err(BadValue(
                "an agent's health port takes no PROXY header: leave proxy out".into(),
            ));
        }
        Ok(Self {
            kind,
            interval: written.interval,
            fast_interval: written.fast_interval,
            down_interval: written.down_interval,
            timeout: written.timeout,
            thresholds: Thresholds {
                rise: written.rise,
                fall: written.fall,
            },
            port: written.port,
            proxy: written.proxy,
        })
    }
}

impl From<HealthCheck> for WrittenHealthCheck {
    fn from(check: HealthCheck) -> Self {
        let (mut tcp, mut tls, mut http, mut agent) = (None, None, None, None);
        match check.kind {
            CheckKind::Tcp => tcp = Some(TcpCheck {}),
            CheckKind::Tls(check) => tls = Some(check),
            CheckKind::Http(check) => http = Some(check),
            CheckKind::Agent(check) => agent = Some(check),
        }
        Self {
            tcp,
            tls,
            http,
            agent,
            interval: check.interval,
            fast_interval: check.fast_interval,
            down_interval: check.down_interval,
            timeout: check.timeout,
            rise: check.thresholds.rise,
            fall: check.thresholds.fall,
            port: check.port,
            proxy: check.proxy,
        }
    }
}
