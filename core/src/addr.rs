//! Addresses, each with its meaning in the type: the client's, the peer's, an
//! address as people write it, and the key under which a client is counted.
//!
//! Dual-stack sockets report an IPv4 client as `::ffff:a.b.c.d`. That form is
//! undone here, in the constructors, and nowhere else, so that a rule about
//! `192.0.2.0/24` holds whichever socket the client came through.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The client's own address and port: the socket's where the client connects
/// directly, the PROXY header's where a trusted sender says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddr(SocketAddr);

impl ClientAddr {
    /// The only constructor; un-maps IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2).
    pub fn new(addr: SocketAddr) -> Self {
        Self(unmapped(addr))
    }

    /// The address without the port.
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// Address and port.
    pub fn socket(self) -> SocketAddr {
        self.0
    }

    /// What this client is counted under.
    pub fn key(self) -> ClientKey {
        ClientKey::new(self.ip())
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The other end of a TCP connection as the kernel tells it: the client, or
/// whoever forwards for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(SocketAddr);

impl PeerAddr {
    /// Un-maps IPv4-mapped IPv6, like [`ClientAddr::new`].
    pub fn new(addr: SocketAddr) -> Self {
        Self(unmapped(addr))
    }

    /// The address without the port.
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// The peer taken as the client itself: nobody forwards for it.
    pub fn as_client(self) -> ClientAddr {
        ClientAddr(self.0)
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One client in limits and statistics: an IPv4 address, or an IPv6 /64, since
/// a single IPv6 customer usually holds a whole /64 and can use all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey(IpAddr);

impl ClientKey {
    /// The key of an address; IPv6 loses its interface identifier.
    pub fn new(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self(IpAddr::V4(v4)),
            IpAddr::V6(v6) => {
                let network = u128::from(v6) & !u128::from(u64::MAX);
                Self(IpAddr::V6(Ipv6Addr::from(network)))
            }
        }
    }
}

impl ClientKey {
    /// As the wire carries it: 4 bytes of an IPv4 address, or the 8 of an IPv6
    /// network.
    pub fn to_bytes(self) -> Vec<u8> {
        match self.0 {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().into_iter().take(8).collect(),
        }
    }

    /// The reverse of [`ClientKey::to_bytes`]; `None` for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.len() {
            4 => Some(Self::new(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?))),
            8 => {
                let network = u64::from_be_bytes(bytes.try_into().ok()?);
                let v6 = Ipv6Addr::from(u128::from(network) << 64);
                Some(Self::new(IpAddr::V6(v6)))
            }
            _ => None,
        }
    }

    /// The network: a /32 or a /64.
    pub fn net(self) -> IpNet {
        let length = if self.0.is_ipv4() { 32 } else { 64 };
        IpNet::new(self.0, length).unwrap_or_else(|_| IpNet::from(self.0))
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => write!(f, "{v6}/64"),
        }
    }
}

/// An address as written in a document: whole (`192.0.2.7:443`, `[::]:443`),
/// or `:443`, which stands for the agent's own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WrittenAddr {
    /// `:port`, relative to the agent.
    Port(NonZeroU16),
    /// Taken as written.
    Full(SocketAddr),
}

impl WrittenAddr {
    /// The address on an agent whose own address is `agent`.
    pub fn on(self, agent: IpAddr) -> SocketAddr {
        match self {
            Self::Port(port) => SocketAddr::new(agent, port.get()),
            Self::Full(addr) => addr,
        }
    }
}

impl fmt::Display for WrittenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, ":{port}"),
            Self::Full(addr) => addr.fmt(f),
        }
    }
}

/// Why an address in a document was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{written:?} is not an address: write IP:PORT ([IP]:PORT for IPv6), or :PORT for the agent's \
     own address; the port is 1 to 65535, and names are not resolved"
)]
pub struct BadAddr {
    written: String,
}

impl FromStr for WrittenAddr {
    type Err = BadAddr;

    fn from_str(written: &str) -> Result<Self, BadAddr> {
        let parsed = match written.strip_prefix(':') {
            Some(port) => port.parse().ok().map(Self::Port),
            None => written
                .parse()
                .ok()
                .filter(|a: &SocketAddr| a.port() != 0)
                .map(Self::Full),
        };
        parsed.ok_or_else(|| BadAddr {
            written: written.chars().take(64).collect(),
        })
    }
}

impl TryFrom<String> for WrittenAddr {
    type Error = BadAddr;

    fn try_from(written: String) -> Result<Self, BadAddr> {
        written.parse()
    }
}

impl From<WrittenAddr> for String {
    fn from(addr: WrittenAddr) -> Self {
        addr.to_string()
    }
}

/// A CIDR in the form rules are compared in: host bits cleared, and a network
/// inside `::ffff:0:0/96` as the IPv4 network it means.
pub fn canonical_net(net: IpNet) -> IpNet {
    let net = net.trunc();
    match net {
        IpNet::V6(v6) if net.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => ipnet::Ipv4Net::new(v4, net.prefix_len() - 96).map_or(net, IpNet::V4),
            None => net,
        },
        _ => net,
    }
}

/// An address that is neither client nor peer, un-mapped as they are.
pub fn unmapped(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mapped_client_is_its_ipv4_self() {
        let mapped: SocketAddr = "[::ffff:192.0.2.9]:77".parse().unwrap();
        assert_eq!(ClientAddr::new(mapped).to_string(), "192.0.2.9:77");
        assert_eq!(PeerAddr::new(mapped).as_client(), ClientAddr::new(mapped));
    }

    #[test]
    fn an_ipv6_client_is_counted_by_its_64() {
        let key = ClientKey::new("2001:db8:1:2:a:b:c:d".parse().unwrap());
        assert_eq!(key, ClientKey::new("2001:db8:1:2::1".parse().unwrap()));
        assert_eq!(key.to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn written_addresses() {
        let agent: IpAddr = "10.0.0.5".parse().unwrap();
        for (written, on_agent) in [
            (":443", "10.0.0.5:443"),
            ("192.0.2.7:80", "192.0.2.7:80"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ] {
            let addr: WrittenAddr = written.parse().unwrap();
            assert_eq!(addr.on(agent).to_string(), on_agent);
            assert_eq!(addr.to_string(), written);
        }
        for bad in [
            "",
            ":",
            ":0",
            ":65536",
            "443",
            "localhost:80",
            "10.0.0.1",
            "10.0.0.1:0",
        ] {
            assert!(bad.parse::<WrittenAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mapped_network_is_its_ipv4_network() {
        for (written, meant) in [
            ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("2001:db8::7/32", "2001:db8::/32"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(canonical_net(written.parse().unwrap()).to_string(), meant);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(text in ".{0,40}") {
            if let Ok(addr) = text.parse::<WrittenAddr>() {
                prop_assert_eq!(addr.to_string().parse::<WrittenAddr>().unwrap(), addr);
            }
        }
    }
}
