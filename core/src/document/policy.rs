//! A policy as people write it: whom a listener admits, how much of whom, and
//! how long it waits. `admit` and the agent act on it.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::value::{Cidr, Name, Timeout};
use crate::rate::Rate;

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
    /// How much of whom.
    #[serde(default)]
    pub limits: Limits,
    /// How long to wait for whom.
    #[serde(default)]
    pub timeouts: Timeouts,
}

/// How much of whom, counted by each agent on each listener for itself. A client
/// is an IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Live connections from one client; absent = no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_per_client: Option<NonZeroU32>,
    /// New connections from one client; the surplus is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_per_client: Option<Rate>,
    /// Live connections from all clients; absent = no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<NonZeroU32>,
    /// New connections from all clients; the surplus waits to be accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_connections: Option<Rate>,
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
    /// A connection's whole life; absent = unbounded. Each draws its own from the
    /// last tenth before it, so that what came at once does not come back at once.
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
