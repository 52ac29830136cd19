//! `client_ip: transparent`: from which addresses a connection to the app can come,
//! and where it goes. The agent calls it for each connection; what the host has to
//! allow for it is the agent's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::addr::{ClientAddr, PeerAddr};

/// A client's address, as one that connections to the app can come from. Their port is
/// for the kernel to choose: the client's own may be taken here, by a listening socket
/// or by an earlier connection of the same client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source(IpAddr);

impl Source {
    /// That of `client`, as `peer` tells it, or is itself.
    ///
    /// # Errors
    /// No connection over loopback can come from it; or another host names a loopback
    /// address, which is there, and the app would take the client for one here.
    pub fn of(client: ClientAddr, peer: PeerAddr) -> Result<Self, NotASource> {
        let ip = client.ip();
        let is_of_peer = ip.is_loopback() && !peer.ip().is_loopback();
        if is_source(ip) && !is_of_peer {
            Ok(Self(ip))
        } else {
            Err(NotASource(ip))
        }
    }

    /// The address.
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// Where it reaches `backend`, which is a loopback address: a client of the other
    /// family goes to the same port of its own family's loopback address, since a
    /// connection has one family at both ends.
    pub fn target(self, backend: SocketAddr) -> SocketAddr {
        let ip = match (self.0, backend.ip()) {
            (IpAddr::V4(_), IpAddr::V6(_)) => Ipv4Addr::LOCALHOST.into(),
            (IpAddr::V6(_), IpAddr::V4(_)) => Ipv6Addr::LOCALHOST.into(),
            (_, written) => written,
        };
        SocketAddr::new(ip, backend.port())
    }
}

/// An address that no connection over loopback can come from. The kernel would put one
/// of this host's in its place, or refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no connection to the app can come from {0}")]
pub struct NotASource(pub IpAddr);

/// Unspecified, multicast and broadcast addresses name no single host (RFC 1122 section
/// 3.2.1.3, RFC 4291 sections 2.5.2 and 2.7); link-local ones of IPv6 mean nothing
/// without their interface (RFC 4291 section 2.5.6), which is not the loopback one.
fn is_source(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let this_network = v4.octets().starts_with(&[0]);
            !this_network && !v4.is_multicast() && !v4.is_broadcast()
        }
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast() && !v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(client: &str, peer: &str) -> Option<Source> {
        let socket = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 50_000);
        let client = ClientAddr::new(socket(client));
        Source::of(client, PeerAddr::new(socket(peer))).ok()
    }

    fn route(client: &str, backend: &str) -> Option<(String, String)> {
        let source = source(client, client)?;
        let target = source.target(backend.parse().unwrap());
        Some((source.ip().to_string(), target.to_string()))
    }

    #[test]
    fn a_client_reaches_the_app_on_its_own_family() {
        for (client, backend, source, target) in [
            (
                "203.0.113.7",
                "127.0.0.5:3000",
                "203.0.113.7",
                "127.0.0.5:3000",
            ),
            ("203.0.113.7", "[::1]:3000", "203.0.113.7", "127.0.0.1:3000"),
            ("2001:db8::7", "127.0.0.5:3000", "2001:db8::7", "[::1]:3000"),
            ("2001:db8::7", "[::1]:3000", "2001:db8::7", "[::1]:3000"),
            (
                "::ffff:203.0.113.7",
                "127.0.0.1:1",
                "203.0.113.7",
                "127.0.0.1:1",
            ),
            // On this host itself.
            ("127.0.0.1", "127.0.0.1:1", "127.0.0.1", "127.0.0.1:1"),
            ("::1", "127.0.0.1:1", "::1", "[::1]:1"),
        ] {
            let expected = Some((source.to_owned(), target.to_owned()));
            assert_eq!(route(client, backend), expected, "{client} to {backend}");
        }
    }

    #[test]
    fn what_names_no_host_is_no_source() {
        for client in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::ffff:0.0.0.0",
            "ff02::1",
            "fe80::1",
        ] {
            assert_eq!(route(client, "127.0.0.1:1"), None, "{client}");
        }
    }
    #[test]
    fn a_loopback_address_is_believed_on_this_host_only() {
        for (client, peer, is_source) in [
            ("127.0.0.1", "127.0.0.9", true),
            ("::1", "127.0.0.1", true),
            ("127.0.0.1", "10.0.0.9", false),
            ("::1", "2001:db8::9", false),
            ("203.0.113.7", "10.0.0.9", true),
        ] {
            let found = source(client, peer).is_some();
            assert_eq!(found, is_source, "{client} by {peer}");
        }
    }
}
