//! Where connections to backends come from: the agent's own address, so that
//! backends can tell agents by it, or several, since each gives some 28,000 more
//! connections to the same backend.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use socket2::{SockRef, Socket};
use tokio::net::TcpSocket;

use crate::{engine, sys};

/// The addresses that connections come from.
#[derive(Clone, Debug)]
pub(crate) struct Source(Arc<Addresses>);

#[derive(Debug)]
struct Addresses {
    own: Vec<Address>,
    /// Where the kernel chooses.
    any: Address,
    /// Whose turn it is.
    next: AtomicUsize,
}

#[derive(Debug)]
struct Address {
    /// `None`: the kernel chooses.
    ip: Option<IpAddr>,
    /// Connections from it.
    used: AtomicU64,
}

impl Address {
    fn new(ip: Option<IpAddr>) -> Self {
        Self {
            ip,
            used: AtomicU64::default(),
        }
    }

    /// Loopback and other addresses do not reach each other.
    fn reaches(&self, target: IpAddr) -> bool {
        self.ip.is_some_and(|own| {
            own.is_ipv4() == target.is_ipv4() && own.is_loopback() == target.is_loopback()
        })
    }
}

impl Default for Source {
    /// Wherever the kernel likes.
    fn default() -> Self {
        Self::new([])
    }
}

impl Source {
    /// In turn from these; an unspecified one leaves it to the kernel.
    pub(crate) fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let own = addresses.into_iter().filter(|ip| !ip.is_unspecified());
        Self(Arc::new(Addresses {
            own: own.map(|ip| Address::new(Some(ip))).collect(),
            any: Address::new(None),
            next: AtomicUsize::new(0),
        }))
    }

    /// How many of its addresses reach `target`, 1 at least: so many tries until it is
    /// known that no port is left.
    pub(crate) fn choices(&self, target: IpAddr) -> usize {
        let reaching = self.0.own.iter().filter(|own| own.reaches(target));
        reaching.count().max(1)
    }

    /// A socket to connect to `target`, and the port it will take.
    ///
    /// # Errors
    /// As socket(2) and bind(2).
    pub(crate) fn socket(&self, target: SocketAddr) -> io::Result<(Socket, Port)> {
        let socket = engine::stream_socket(target)?;
        socket.set_tcp_nodelay(true)?;
        let place = self.place(target.ip());
        if let Some(own) = place.and_then(|place| self.0.own.get(place)?.ip) {
            sys::bind_without_port(&socket)?;
            socket.bind(&SocketAddr::new(own, 0).into())?;
        }
        Ok((socket, Port::of(&self.0, place)))
    }

    /// Whose turn it is among those that reach `target`.
    fn place(&self, target: IpAddr) -> Option<usize> {
        let own = &self.0.own;
        let turn = match own.len() {
            0 | 1 => 0,
            _ => self.0.next.fetch_add(1, Ordering::Relaxed),
        };
        let start = turn.checked_rem(own.len())?;
        let mut places = (start..own.len()).chain(0..start);
        places.find(|place| own.get(*place).is_some_and(|own| own.reaches(target)))
    }

    /// Connects, on the control thread.
    ///
    /// # Errors
    /// As connect(2), and when the connection came back to itself.
    pub(crate) async fn connect_on_control(
        &self,
        target: SocketAddr,
    ) -> io::Result<tokio::net::TcpStream> {
        let (socket, _port) = self.socket(target)?;
        let socket = TcpSocket::from_std_stream(socket.into());
        let stream = socket.connect(target).await?;
        self.refuse_itself(&stream, target)?;
        Ok(stream)
    }

    /// A dead local backend on a port that the kernel also gives out as a source:
    /// TCP's simultaneous open connects such a socket to itself.
    ///
    /// # Errors
    /// `ConnectionRefused` when it did.
    pub(crate) fn refuse_itself(&self, stream: impl AsFd, target: SocketAddr) -> io::Result<()> {
        let own = &self.0.own;
        let is_own = own.is_empty() || own.iter().any(|own| own.ip == Some(target.ip()));
        if (is_own || target.ip().is_loopback())
            && ephemeral_ports().contains(&target.port())
            && SockRef::from(&stream).local_addr()?.as_socket() == Some(target)
        {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(())
    }

    /// Each address (`any`: the kernel chooses), and how many connections come from it.
    pub(crate) fn used(&self) -> Vec<(String, u64)> {
        let all = self.0.own.iter().chain([&self.0.any]);
        all.map(|address| {
            let name = address.ip.map_or_else(|| "any".into(), |ip| ip.to_string());
            (name, address.used.load(Ordering::Relaxed))
        })
        .collect()
    }
}

/// One source port in use, counted as long as this lives.
#[derive(Debug)]
pub(crate) struct Port {
    addresses: Arc<Addresses>,
    place: Option<usize>,
}

impl Port {
    fn of(addresses: &Arc<Addresses>, place: Option<usize>) -> Self {
        let port = Self {
            addresses: Arc::clone(addresses),
            place,
        };
        port.address().used.fetch_add(1, Ordering::Relaxed);
        port
    }

    fn address(&self) -> &Address {
        let own = self.place.and_then(|place| self.addresses.own.get(place));
        own.unwrap_or(&self.addresses.any)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.address().used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The ports that the kernel gives out as sources, as it was at start.
pub(crate) fn ephemeral_ports() -> &'static RangeInclusive<u16> {
    static PORTS: LazyLock<RangeInclusive<u16>> = LazyLock::new(|| {
        let written = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        let written = written.unwrap_or_default();
        let mut ports = written
            .split_whitespace()
            .map_while(|port| port.parse().ok());
        match (ports.next(), ports.next()) {
            (Some(first), Some(last)) => first..=last,
            // Not told: any port may be one.
            _ => 0..=u16::MAX,
        }
    });
    &PORTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(addresses: &[&str]) -> Source {
        Source::new(addresses.iter().map(|ip| ip.parse().unwrap()))
    }

    #[test]
    fn a_source_is_taken_where_it_can_reach() {
        let source = source(&["127.0.0.5"]);
        let place = |ip: &str| source.place(ip.parse().unwrap());
        assert_eq!(place("127.0.0.1"), Some(0));
        assert_eq!(place("192.0.2.1"), None);
        assert_eq!(place("::1"), None);
        assert_eq!(source.choices("::1".parse().unwrap()), 1);
        let any = Source::new(["::".parse().unwrap()]);
        assert_eq!(any.place("127.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn several_take_turns_and_ports_are_counted_while_they_are_used() {
        let source = source(&["127.0.0.5", "::1", "127.0.0.6"]);
        let target = "127.0.0.1:1".parse().unwrap();
        let held: Vec<_> = (0..6).map(|_| source.socket(target).unwrap()).collect();
        let used = |ip: &str| {
            let all = source.used();
            all.iter().find(|(name, _)| name == ip).unwrap().1
        };
        assert_eq!(used("127.0.0.5") + used("127.0.0.6"), 6);
        assert!(used("127.0.0.5") >= 2 && used("127.0.0.6") >= 2);
        assert_eq!((used("::1"), used("any")), (0, 0));
        assert_eq!(source.choices(target.ip()), 2);
        let bound = SockRef::from(&held[0].0).local_addr().unwrap();
        let bound = bound.as_socket().unwrap();
        assert!(["127.0.0.5", "127.0.0.6"].contains(&bound.ip().to_string().as_str()));
        drop(held);
        assert_eq!(used("127.0.0.5") + used("127.0.0.6"), 0);
    }
}
