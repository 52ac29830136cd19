//! Which addresses of loopback the fleet takes, and who has one that is taken.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::str::FromStr;

use anyhow::{Context, bail};

use crate::dev::TERMINATORS;

/// The Node.js processes beside each terminator.
pub(super) const NODE_PORTS: [u16; 2] = [3000, 3001];
/// Where a terminator takes connections.
const TERMINATOR_PORT: u16 = 8443;
const HEALTH_PORT: u16 = 7445;
const REST_PORT: u16 = 7443;
const LINK_PORT: u16 = 7444;
/// Where clients connect, unless told otherwise.
pub(super) const DEFAULT_PORT: u16 = 8443;

/// The first three numbers of all addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network([u8; 3]);

/// Where everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    /// Of all of them.
    pub(super) network: Network,
    /// Where clients connect.
    pub(super) port: u16,
}

impl Default for Network {
    fn default() -> Self {
        Self([127, 0, 0])
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let parts: Option<Vec<u8>> = written.split('.').map(|part| part.parse().ok()).collect();
        match parts.as_deref() {
            Some(&[127, b, c]) => Ok(Self([127, b, c])),
            _ => Err("write 127.X.Y, such as 127.0.77".to_owned()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.0;
        write!(f, "{a}.{b}.{c}")
    }
}

impl Addresses {
    /// The address with that last number.
    pub(super) fn ip(&self, host: u8) -> IpAddr {
        let [a, b, c] = self.network.0;
        Ipv4Addr::new(a, b, c, host).into()
    }

    fn at(&self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(host), port)
    }

    /// Where REST is answered.
    pub(super) fn rest(&self) -> SocketAddr {
        self.at(1, REST_PORT)
    }

    /// Where agents connect.
    pub(super) fn link(&self) -> SocketAddr {
        self.at(1, LINK_PORT)
    }

    /// Where REST is answered.
    pub(super) fn rest_url(&self) -> String {
        format!("https://{}", self.rest())
    }

    /// Where clients connect.
    pub(super) fn traffic_url(&self) -> String {
        match self.network {
            network if network == Network::default() => format!("https://localhost:{}", self.port),
            _ => format!("https://{}", self.at(1, self.port)),
        }
    }

    /// Fails with the first address that somebody has.
    pub(super) fn are_free(&self) -> anyhow::Result<()> {
        let mut addresses = vec![
            self.at(1, self.port),
            self.at(1, HEALTH_PORT),
            self.rest(),
            self.link(),
        ];
        for (_, host) in TERMINATORS {
            let ports = NODE_PORTS.into_iter().chain([TERMINATOR_PORT, HEALTH_PORT]);
            addresses.extend(ports.map(|port| self.at(host, port)));
        }
        for address in addresses {
            match TcpListener::bind(address) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
                    "{address} is taken. Who has it: ss -ltnp 'sport = :{}'\n\
                     Stop that program, or take other addresses and another directory: \
                     tidegate dev --network 127.0.77 --state-dir DIR{}",
                    address.port(),
                    if address == self.at(1, self.port) {
                        " (or --port 9443)"
                    } else {
                        ""
                    },
                ),
                Err(error) => return Err(error).with_context(|| format!("cannot use {address}")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_of_loopback() {
        assert_eq!("127.8.9".parse(), Ok(Network([127, 8, 9])));
        for wrong in ["10.0.0", "127.0", "127.0.0.1", "127.0.256", ""] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_usual_network_is_reached_by_the_usual_name() {
        let usual = Addresses {
            network: Network::default(),
            port: 8443,
        };
        assert_eq!(usual.traffic_url(), "https://localhost:8443");
        let other = Addresses {
            network: Network([127, 8, 9]),
            port: 9443,
        };
        assert_eq!(other.traffic_url(), "https://127.8.9.1:9443");
        assert_eq!(other.rest_url(), "https://127.8.9.1:7443");
    }

    #[test]
    fn a_taken_address_is_named_with_what_to_do() {
        let network = Network([127, 31, 250]);
        let addresses = Addresses {
            network,
            port: 8443,
        };
        addresses.are_free().unwrap();
        let _somebody = TcpListener::bind("127.31.250.3:3001").unwrap();
        let error = addresses.are_free().unwrap_err().to_string();
        assert!(
            error.contains("127.31.250.3:3001") && error.contains("--network"),
            "{error}"
        );
    }
}
