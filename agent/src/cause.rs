//! Why a connection ended and how far it had come: the vocabulary of access
//! events and of the `closed` metric, after HAProxy's termination states.
//! `docs/causes.md` explains each to operators.

use std::fmt;

use tidegate_core::admit::Refusal;

/// How far a connection had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Accepted, client not admitted yet.
    Accept,
    /// Waiting for the PROXY header.
    ProxyHeader,
    /// Waiting for the client's first bytes, by which it is routed.
    FirstBytes,
    /// In the TLS handshake.
    Handshake,
    /// In HTTP: reading a request, or between two.
    Request,
    /// Waiting for a backend with room.
    Queue,
    /// Looking for a backend that accepts.
    Connect,
    /// Carrying bytes.
    Relay,
}

impl Phase {
    /// All phases, in order.
    pub(crate) const ALL: [Self; 8] = [
        Self::Accept,
        Self::ProxyHeader,
        Self::FirstBytes,
        Self::Handshake,
        Self::Request,
        Self::Queue,
        Self::Connect,
        Self::Relay,
    ];

    /// The label in events and metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::ProxyHeader => "proxy_header",
            Self::FirstBytes => "first_bytes",
            Self::Handshake => "handshake",
            Self::Request => "request",
            Self::Queue => "queue",
            Self::Connect => "connect",
            Self::Relay => "relay",
        }
    }

    /// The reverse of `phase as u8`.
    pub(crate) fn from_u8(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }
}

/// Whose doing an end was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nobody's: connections end.
    Nobody,
    /// The client's.
    Client,
    /// The backend's.
    Upstream,
    /// A rule's that people wrote.
    Policy,
    /// Ours.
    Tidegate,
}

impl Fault {
    /// The label in events.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Policy => "policy",
            Self::Tidegate => "tidegate",
        }
    }
}

/// Declares [`Cause`] once: variant, label, fault and sentence stay together.
macro_rules! causes {
    ($($variant:ident $label:literal $fault:ident $sentence:literal;)*) => {
        /// Why a connection ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Cause {
            $(#[doc = $sentence] $variant,)*
        }

        impl Cause {
            /// All causes, in order.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The label in events and metrics.
            pub(crate) fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// Whose doing it was.
            pub(crate) fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)* }
            }
        }

        impl fmt::Display for Cause {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $sentence,)* })
            }
        }
    };
}

causes! {
    ClientClosed "client_closed" Nobody "the client ended first";
    UpstreamClosed "upstream_closed" Nobody "the backend ended first";
    Answered "answered" Nobody "the listener itself answered: a redirect, or a challenge";
    ClientReset "client_reset" Client "the client reset the connection";
    UpstreamReset "upstream_reset" Upstream "the backend reset the connection";
    IdleTimeout "idle_timeout" Nobody "no byte either way for `idle`";
    HalfClosedTimeout "half_closed_timeout" Nobody "one side had ended, and no byte for `half_closed`";
    KeepAliveTimeout "keep_alive_timeout" Nobody "no further request within `keep_alive`";
    MaxAge "max_age" Policy "as old as `max_age` allows";
    FirstByteTimeout "first_byte_timeout" Client "not ready for payload within `first_byte`";
    Denied "denied" Policy "the policy denies the client";
    NotAllowed "not_allowed" Policy "the policy allows others only";
    ClientLimit "client_limit" Policy "the client has as many connections as the policy grants";
    ClientRate "client_rate" Policy "the client's connections come faster than the policy grants";
    Cut "cut" Policy "a changed policy no longer admits the client";
    Killed "killed" Policy "an operator cut the client's or the backend's connections";
    BackendDrained "backend_drained" Policy "the backend drains, and the connection's time had come";
    NotTrusted "not_trusted" Client "a PROXY header is required, and the peer is not in accept_proxy";
    BadProxyHeader "bad_proxy_header" Client "what came is not a PROXY header";
    ClientAddress "client_address" Client "no connection to the app can come from the client's address";
    NotTls "not_tls" Client "names decide where connections go, and this one does not begin with TLS";
    BadClientHello "bad_client_hello" Client "what came is not a TLS ClientHello";
    NoRoute "no_route" Policy "the client asks for a server name that leads nowhere";
    TlsFailed "tls_failed" Client "the TLS handshake failed";
    BadRequest "bad_request" Client "what came is not HTTP, or has more than one reading";
    HeaderTimeout "header_timeout" Client "the head of a request did not come within `header_timeout`";
    ResetFlood "reset_flood" Client "HTTP/2: the client cancels requests faster than they can be answered, or sends other frames without end that only cost";
    NoBackend "no_backend" Upstream "no backend of the pool is up";
    QueueFull "queue_full" Upstream "every backend has its `max_connections`, and `max_queue` wait";
    QueueTimeout "queue_timeout" Upstream "no backend had room within `queue_timeout`";
    ConnectFailed "connect_failed" Upstream "no backend accepted the connection";
    ConnectTimeout "connect_timeout" Upstream "no backend accepted in time";
    Drained "drained" Tidegate "the agent drains, and the connection was at rest";
    Shutdown "shutdown" Tidegate "the agent stopped";
    Internal "internal" Tidegate "an error of our own or of this host";
}

impl Cause {
    /// The reverse of `cause as u8`.
    pub(crate) fn from_u8(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }
}

impl From<&Refusal> for Cause {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Denied { .. } => Self::Denied,
            Refusal::NotAllowed => Self::NotAllowed,
            Refusal::TooManyConnections { .. } => Self::ClientLimit,
            Refusal::TooFast { .. } => Self::ClientRate,
        }
    }
}

/// What serving a connection comes to: it always ends, `Ok` after it has
/// carried payload, `Err` before.
pub(crate) type Served = Result<Cause, Cause>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_labels_lead_back() {
        for (number, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(Cause::from_u8(number.try_into().unwrap()), Some(*cause));
        }
        for (number, phase) in Phase::ALL.iter().enumerate() {
            assert_eq!(Phase::from_u8(number.try_into().unwrap()), Some(*phase));
        }
        let labels: std::collections::HashSet<_> = Cause::ALL.iter().map(|c| c.label()).collect();
        assert_eq!(labels.len(), Cause::ALL.len());
    }

    #[test]
    fn every_cause_is_documented_for_operators() {
        let page = include_str!("../../docs/causes.md");
        for cause in Cause::ALL {
            assert!(
                page.contains(&format!("| `{}` |", cause.label())),
                "{}",
                cause.label()
            );
        }
    }
}
