//! To a backend: pick, connect, and on failure another one at once. Each
//! backend is tried once, all within the caller's deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock};

use socket2::{SockRef, Socket};
use tidegate_core::pick::{Ask, Balance, Choice};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use crate::cause::{Cause, Phase};
use crate::connection::Connection;
use crate::control::draw_bits;
use crate::engine::{self, TcpStream, timeout_at};
use crate::facts::{InFlight, Serving};
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

/// What came of a choice.
enum Chosen {
    Backend(Arc<Backend>, InFlight),
    /// All that may serve have as many connections as they may.
    Full,
    Nobody,
}

impl Wanted<'_> {
    /// Connects to a backend of the pool and sends it the opening. One that does not
    /// accept is left for another one at once.
    ///
    /// # Errors
    /// No backend is up, none accepted, or this host has no descriptor left.
    pub(crate) async fn reach(&self, tried: &mut Tried) -> Result<Upstream, Cause> {
        let connection = self.connection;
        let most = usize::try_from(self.pool.spec.retries.get()).unwrap_or(usize::MAX);
        let mut last = None;
        while tried.0.len() <= most {
            connection.enter(Phase::Connect);
            let (backend, held) = match self.choose(tried) {
                Chosen::Backend(backend, held) => (backend, held),
                Chosen::Full if last.is_none() => self.wait_for_room(tried).await?,
                Chosen::Full | Chosen::Nobody => break,
            };
            connection.live.set_backend(&backend.facts);
            match self.try_one(backend.spec.address).await {
                Ok((mut stream, sent)) => {
                    backend.facts.connected();
                    self.send_rest(&mut stream, sent).await?;
                    return Ok(Upstream { stream, held });
                }
                Err(error) => last = Some(self.failed(&backend, &error)?),
            }
        }
        Err(last.unwrap_or(Cause::NoBackend))
    }

    /// The next backend by the pool's rules, counted from now on, so that whoever
    /// chooses meanwhile sees it; it is in `tried` afterwards.
    fn choose(&self, tried: &mut Tried) -> Chosen {
        let (pool, worker) = (self.pool, &self.connection.worker);
        let ask = self.ask();
        loop {
            let choice = worker.picker(pool).map(|mut picker| {
                picker.choose(ask, &tried.0, pool.backends.len(), |index| pool.view(index))
            });
            let index = match choice {
                Some(Choice::Backend { index, tier }) => {
                    pool.facts.serve_by(tier.into());
                    index
                }
                Some(Choice::Full { .. }) => return Chosen::Full,
                Some(Choice::Nobody) | None => {
                    if tried.0.is_empty() {
                        pool.facts.serve_by(Serving::Nobody);
                    }
                    return Chosen::Nobody;
                }
            };
            let Some(backend) = pool.backends.get(index) else {
                return Chosen::Nobody;
            };
            // Taken by another thread between the choice and now: choose again.
            if let Some(held) = InFlight::enter(&backend.facts, backend.spec.max_connections) {
                tried.0.push(index);
                return Chosen::Backend(Arc::clone(backend), held);
            }
        }
    }

    fn ask(&self) -> Ask {
        let client = self.connection.live.client().map(|client| client.key());
        let source = self.pool.source.as_ref().zip(client);
        let random = self.pool.spec.balance == Balance::RandomTwo;
        Ask {
            hash: source.map_or(0, |(source, client)| source.key.client(client)),
            draw: if random { draw_bits() } else { 0 },
        }
    }

    /// Until a backend has room. Whoever waited before is served before.
    async fn wait_for_room(&self, tried: &mut Tried) -> Result<(Arc<Backend>, InFlight), Cause> {
        let connection = self.connection;
        connection.enter(Phase::Queue);
        let spec = &self.pool.spec;
        let timeouts = &connection.listener.spec.policy.timeouts;
        let patience = spec.queue_timeout.unwrap_or(timeouts.connect).duration();
        let deadline = engine::now() + patience;
        let most = usize::try_from(spec.max_queue.get()).unwrap_or(usize::MAX);
        loop {
            let turn = self.pool.facts.queue.enter(most);
            let mut turn = turn.ok_or(Cause::QueueFull)?;
            // Room that was made before it stood there was told to nobody.
            if turn.first
                && let Chosen::Backend(backend, held) = self.choose(tried)
            {
                return Ok((backend, held));
            }
            let waited = timeout_at(deadline, turn.come()).await;
            waited.map_err(|_| Cause::QueueTimeout)?;
            match self.choose(tried) {
                Chosen::Backend(backend, held) => return Ok((backend, held)),
                Chosen::Full => {}
                Chosen::Nobody => return Err(Cause::NoBackend),
            }
        }
    }

    /// Takes note of a connect that failed; answers with what it means for the client.
    fn failed(&self, backend: &Backend, error: &io::Error) -> Result<Cause, Cause> {
        let (facts, passive) = (&backend.facts, self.pool.spec.passive);
        if sys::out_of_descriptors(error) {
            tracing::error!(%error, "no connection to a backend can be opened");
            return Err(Cause::Internal);
        }
        let (pool, name) = (&facts.pool.name, &facts.name);
        tracing::debug!(%pool, backend = %name, %error, "connect failed");
        if let Some(time) = facts.connect_failed(passive, || self.pool.up_and_ejected()) {
            let seconds = time.as_secs();
            tracing::warn!(%pool, backend = %name, %error, seconds, "backend ejected: connects failed");
        }
        Ok(match error.kind() {
            io::ErrorKind::TimedOut => Cause::ConnectTimeout,
            _ => Cause::ConnectFailed,
        })
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
