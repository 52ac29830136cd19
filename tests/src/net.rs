//! A network per test: `127.x.y.0/24`, held by nobody else on this machine, so
//! that tests run side by side and still use fixed ports.
//!
//! The claim is an abstract socket: it lives in the same network namespace as the
//! addresses it stands for, and the kernel drops it with the process.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Networks are `127.32.0.0/24` up to `127.63.255.0/24`: away from `127.0.0.x`,
/// where the demo and most programs are.
const NETWORKS: u32 = 32 * 256;

/// A claimed /24; free again when dropped.
pub struct Net {
    number: u32,
    _claim: UnixListener,
}

impl Net {
    /// Claims a network.
    pub fn claim() -> Self {
        // Neighbours in time get networks far apart, also within a process: what
        // used the last one may be about to close its sockets.
        static CLAIMS: AtomicU32 = AtomicU32::new(0);
        let claim = std::process::id().wrapping_add(CLAIMS.fetch_add(1009, Ordering::Relaxed));
        let start = claim.wrapping_mul(2_654_435_761) >> 8;
        for step in 0..NETWORKS {
            let number = start.wrapping_add(step) % NETWORKS;
            let name = format!("tidegate-tests/net-{number}");
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)
                .expect("the name is short");
            match UnixListener::bind_addr(&address) {
                Ok(claim) => {
                    return Self {
                        number,
                        _claim: claim,
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => panic!("cannot claim a network: {error}"),
            }
        }
        panic!("all {NETWORKS} test networks are taken");
    }

    /// The address that ends in `host`.
    pub fn ip(&self, host: u8) -> IpAddr {
        let [high, low] = self.bytes();
        Ipv4Addr::new(127, high, low, host).into()
    }

    /// The address that ends in `host`, with a port.
    pub fn at(&self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(host), port)
    }

    /// A port that is this network's on every address: for wildcard listeners,
    /// which would otherwise be in the way of other tests.
    pub fn wildcard_port(&self) -> u16 {
        20_000 + u16::try_from(self.number).expect("there are 8,192 networks")
    }

    /// The balancer's address.
    pub fn balancer(&self) -> IpAddr {
        self.ip(1)
    }

    /// The address of terminator 0 or 1.
    pub fn terminator(&self, index: u8) -> IpAddr {
        self.ip(2 + index)
    }

    /// The address of a client, 0 to 149.
    pub fn client(&self, index: u8) -> IpAddr {
        assert!(
            index < 150,
            "a network has 150 clients; Net::far_client has more"
        );
        self.ip(100 + index)
    }

    /// One of many clients that are not in this network. Others may use the same
    /// address: connections differ by where they go.
    pub fn far_client(&self, index: u16) -> IpAddr {
        let (third, fourth) = (index / 250, index % 250 + 1);
        let byte = |n: u16| u8::try_from(n).expect("there are 62,500 far clients");
        Ipv4Addr::new(127, 200, byte(third), byte(fourth)).into()
    }

    /// The first three numbers with a dot: `127.40.7.`.
    pub fn prefix(&self) -> String {
        let [high, low] = self.bytes();
        format!("127.{high}.{low}.")
    }

    /// The network as people write it.
    pub fn cidr(&self) -> String {
        format!("{}0/24", self.prefix())
    }

    /// A port that no other test uses on the unspecified address.
    pub fn shared_port(&self) -> u16 {
        // Below the ports the kernel hands out, above the well-known ones.
        20_000 + u16::try_from(self.number).expect("there are 8192 networks")
    }

    fn bytes(&self) -> [u8; 2] {
        let [.., high, low] = self.number.to_be_bytes();
        [32 + high, low]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_networks_are_apart() {
        let (one, other) = (Net::claim(), Net::claim());
        assert_ne!(one.cidr(), other.cidr());
        assert_ne!(one.shared_port(), other.shared_port());
        assert!(one.ip(7).to_string().starts_with(&one.prefix()));
    }
}
