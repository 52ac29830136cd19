//! To a backend: pick, connect, and on failure another one at once. Each
//! backend is tried once, all within the caller's deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

use socket2::{SockRef, Socket};
use tidegate_core::pick::{Ask, Choice, View};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use crate::cause::{Cause, Phase};
use crate::connection::Connection;
use crate::engine::{self, TcpStream, timeout_at};
use crate::facts::BackendFacts;
use crate::opening::Opening;
use crate::state::{Backend, Pool};
use crate::{sockets, sys};

/// The address that connections to backends come from: the agent's own, so
/// that backends can tell agents by it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Source(Option<IpAddr>);

impl Source {
    /// `address` of the agent; unspecified = the kernel chooses.
    pub(crate) fn new(address: IpAddr) -> Self {
        Self((!address.is_unspecified()).then_some(address))
    }

    /// The source towards `target`, where there is a choice: loopback and
    /// other addresses do not reach each other.
    fn towards(self, target: IpAddr) -> Option<IpAddr> {
        self.0.filter(|own| {
            own.is_ipv4() == target.is_ipv4() && own.is_loopback() == target.is_loopback()
        })
    }

    /// A socket to connect to `target`.
    ///
    /// # Errors
    /// As socket(2) and bind(2).
    pub(crate) fn socket(self, target: SocketAddr) -> io::Result<Socket> {
        let socket = engine::stream_socket(target)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(own) = self.towards(target.ip()) {
            sys::bind_without_port(&socket)?;
            socket.bind(&SocketAddr::new(own, 0).into())?;
        }
        Ok(socket)
    }

    /// Connects, on the control thread.
    ///
    /// # Errors
    /// As connect(2), and when the connection came back to itself.
    pub(crate) async fn connect_on_control(
        self,
        target: SocketAddr,
    ) -> io::Result<tokio::net::TcpStream> {
        let socket = TcpSocket::from_std_stream(self.socket(target)?.into());
        let stream = socket.connect(target).await?;
        self.refuse_itself(&stream, target)?;
        Ok(stream)
    }

    /// A dead local backend on a port that the kernel also gives out as a source:
    /// TCP's simultaneous open connects such a socket to itself.
    ///
    /// # Errors
    /// `ConnectionRefused` when it did.
    fn refuse_itself(self, stream: impl AsFd, target: SocketAddr) -> io::Result<()> {
        let may_be = target.ip().is_loopback() || self.0.is_none_or(|own| own == target.ip());
        if may_be
            && ephemeral_ports().contains(&target.port())
            && SockRef::from(&stream).local_addr()?.as_socket() == Some(target)
        {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(())
    }
}

/// The ports that the kernel gives out as sources, as it was at start.
fn ephemeral_ports() -> &'static RangeInclusive<u16> {
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

/// A connection to a backend, counted as long as it lives.
pub(crate) struct Upstream {
    pub(crate) stream: TcpStream,
    pub(crate) held: InFlight,
}

/// One connection in a backend's count.
pub(crate) struct InFlight {
    pub(crate) backend: Arc<BackendFacts>,
}

impl InFlight {
    fn on(backend: &Arc<BackendFacts>) -> Self {
        backend.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            backend: Arc::clone(backend),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.backend.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Backends that have failed for one connection or request.
#[derive(Default)]
pub(crate) struct Tried(Vec<usize>);

/// What to open, and with what.
pub(crate) struct Wanted<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) pool: &'a Pool,
    pub(crate) opening: &'a Opening,
    /// Who has spoken first, so that its bytes may travel in the SYN.
    pub(crate) spoken: Option<&'a TcpStream>,
}

impl Wanted<'_> {
    /// Connects to a backend of the pool and sends it the opening.
    ///
    /// # Errors
    /// No backend is up, none accepted, or this host has no descriptor left.
    pub(crate) async fn reach(&self, tried: &mut Tried) -> Result<Upstream, Cause> {
        let connection = self.connection;
        connection.enter(Phase::Connect);
        let mut last = Cause::NoBackend;
        while let Some((backend, held)) = pick(connection, self.pool, tried) {
            connection.live.set_backend(&backend.facts);
            let failure = match self.try_one(backend.spec.address).await {
                Ok((mut stream, sent)) => {
                    backend.facts.connects.fetch_add(1, Ordering::Relaxed);
                    self.send_rest(&mut stream, sent).await?;
                    return Ok(Upstream { stream, held });
                }
                Err(error) => error,
            };
            if sys::out_of_descriptors(&failure) {
                tracing::error!(error = %failure, "no connection to a backend can be opened");
                return Err(Cause::Internal);
            }
            last = match failure.kind() {
                io::ErrorKind::TimedOut => Cause::ConnectTimeout,
                _ => Cause::ConnectFailed,
            };
            let facts = &backend.facts;
            facts.connects_failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(pool = %facts.pool, backend = %facts.name, error = %failure, "connect failed");
        }
        Err(last)
    }

    /// Answers how much of the opening is sent.
    async fn try_one(&self, target: SocketAddr) -> io::Result<(TcpStream, usize)> {
        let source = self.connection.worker.source;
        let listener = &self.connection.listener.spec;
        let deadline = engine::now() + listener.policy.timeouts.connect.duration();
        let socket = source.socket(target)?;
        if let Some(time) = listener.tcp.user_timeout {
            sockets::give_up(&socket, Some(time.duration()))?;
        }
        let early = self.spoken.filter(|_| self.pool.spec.fast_open);
        let Some(client) = early else {
            let connecting = TcpStream::connect(socket, target);
            let stream = timeout_at(deadline, connecting).await??;
            source.refuse_itself(&stream, target)?;
            return Ok((stream, 0));
        };
        // Where the host forbids it, it is an ordinary connect.
        let _ = sys::connect_with_data(&socket);
        let connecting = TcpStream::connect_sending(socket, target, self.opening.bytes());
        let (stream, sent) = timeout_at(deadline, connecting).await??;
        let established = timeout_at(deadline, stream.established(client)).await;
        match established {
            Ok(established) => established?,
            // It has accepted, and only its answer takes long.
            Err(_) if stream.is_established() => {}
            Err(elapsed) => return Err(elapsed.into()),
        }
        source.refuse_itself(&stream, target)?;
        Ok((stream, sent))
    }

    async fn send_rest(&self, stream: &mut TcpStream, sent: usize) -> Result<(), Cause> {
        let rest = self.opening.bytes().get(sent..).unwrap_or_default();
        let written = stream.write_all(rest).await;
        written.map_err(|_| Cause::UpstreamReset)?;
        self.connection.live.add_in(self.opening.payload());
        Ok(())
    }
}

/// The next backend by the pool's algorithm, counted from now on, so that
/// whoever picks meanwhile sees it; it is in `tried` afterwards.
fn pick(
    connection: &Connection,
    pool: &Pool,
    tried: &mut Tried,
) -> Option<(Arc<Backend>, InFlight)> {
    let view = |index: usize| {
        let backend = pool.backends.get(index);
        View {
            open: backend.is_some_and(|b| b.spec.admin.takes_connections()),
            up: backend.is_some_and(|b| b.facts.is_up()),
            ejected: false,
            weight: backend.map_or(0, |b| u32::from(b.spec.weight.get().get()) << 8),
            in_flight: backend.map_or(0, |b| b.facts.in_flight.load(Ordering::Relaxed)),
            limit: None,
            backup: false,
        }
    };
    let ask = Ask { hash: 0, draw: 0 };
    let choice = connection
        .worker
        .picker(pool)?
        .choose(ask, &tried.0, pool.backends.len(), view);
    let Choice::Backend { index, .. } = choice else {
        return None;
    };
    tried.0.push(index);
    let backend = pool.backends.get(index)?;
    Some((Arc::clone(backend), InFlight::on(&backend.facts)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_kept_where_it_can_reach() {
        let source = Source::new("127.0.0.5".parse().unwrap());
        let towards = |ip: &str| source.towards(ip.parse().unwrap()).is_some();
        assert!(towards("127.0.0.1"));
        assert!(!towards("192.0.2.1"));
        assert!(!towards("::1"));
        let any = Source::new("::".parse().unwrap());
        assert_eq!(any.towards("127.0.0.1".parse().unwrap()), None);
    }
}
