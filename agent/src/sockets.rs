//! Listening sockets: claimed, bound, and tuned as the document says. What a
//! listening socket has (keepalive, no delay, user timeout) is inherited by the
//! connections accepted from it, so that none of them costs a call.
//!
//! SO_REUSEPORT lets a second program of the same user bind an address
//! silently and take half of its connections. So an address is claimed first,
//! by an abstract socket of its name, and tried without SO_REUSEPORT.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::time::Duration;

use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tidegate_core::document::UserTimeout;
use tidegate_core::snapshot::{Listener, Work};

use crate::sys;

/// Connections with data in their SYN that are not established yet, per socket.
const FAST_OPEN_QUEUE: u16 = 1024;
/// Keepalive probes follow each other this fast, and so many may stay without an
/// answer: a minute until a peer is taken for dead.
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

/// What the document says of a listener's sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    backlog: u32,
    keepalive: Duration,
    user_timeout: Option<Duration>,
    /// For how long the kernel keeps a connection to itself that has no data yet; 0
    /// where a client may wait for us to speak.
    seconds_for_data: u16,
    fast_open: bool,
}

impl Options {
    /// Those of a listener.
    pub(crate) fn of(listener: &Listener) -> Self {
        let waits = listener.policy.timeouts.first_byte.duration().as_secs();
        let waits = u16::try_from(waits).unwrap_or(u16::MAX).max(1);
        let client_speaks = listener.client_first || !matches!(listener.work, Work::Balance);
        Self {
            backlog: listener.tcp.backlog.get(),
            keepalive: listener.tcp.keepalive.duration(),
            user_timeout: listener.tcp.user_timeout.map(UserTimeout::duration),
            seconds_for_data: if client_speaks { waits } else { 0 },
            fast_open: matches!(listener.work, Work::Terminate(_)),
        }
    }

    /// Sets them, on a socket that listens or is about to.
    ///
    /// # Errors
    /// As setsockopt(2) and listen(2).
    pub(crate) fn set_on(&self, socket: &TcpListener) -> io::Result<()> {
        let options = SockRef::from(socket);
        options.set_tcp_nodelay(true)?;
        keep_alive(socket, self.keepalive)?;
        give_up(socket, self.user_timeout)?;
        sys::accept_with_data(socket, self.seconds_for_data)?;
        let pending = if self.fast_open { FAST_OPEN_QUEUE } else { 0 };
        // Where the host forbids it there is none, which `host` tells.
        let _ = sys::listen_with_fast_open(socket, pending);
        options.listen(i32::try_from(self.backlog).unwrap_or(i32::MAX))
    }
}

/// Asks a peer that is silent for `after` whether it is still there.
///
/// # Errors
/// As setsockopt(2).
pub(crate) fn keep_alive(socket: impl AsFd, after: Duration) -> io::Result<()> {
    let times = TcpKeepalive::new()
        .with_time(after)
        .with_interval(PROBE_EVERY)
        .with_retries(PROBES);
    SockRef::from(&socket).set_tcp_keepalive(&times)
}

/// Gives a peer up that does not acknowledge what was sent; `None` leaves that to
/// the kernel.
///
/// # Errors
/// As setsockopt(2).
pub(crate) fn give_up(socket: impl AsFd, after: Option<Duration>) -> io::Result<()> {
    let millis = after.map_or(0, |after| after.as_millis());
    let millis = u32::try_from(millis).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(socket, millis)?)
}

/// Takes an address among all agents of this network namespace.
///
/// # Errors
/// Who has it, or why it cannot be, in words.
pub(crate) fn claim(address: SocketAddr) -> Result<UnixListener, String> {
    let name = UnixAddr::from_abstract_name(format!("tidegate/{address}"))
        .map_err(|error| format!("cannot be claimed: {error}"))?;
    UnixListener::bind_addr(&name).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let whose = owner(address).map_or_else(String::new, |pid| format!(" (process {pid})"));
            format!(
                "is taken by another agent on this machine{whose}: stop that one, or give each an \
                 --address of its own"
            )
        }
        _ => format!("cannot be claimed: {error}"),
    })
}

/// Never waits: nobody accepts on a claim, so its queue may be full.
fn owner(address: SocketAddr) -> Option<i32> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).ok()?;
    socket.set_nonblocking(true).ok()?;
    socket
        .connect(&SockAddr::unix(format!("\0tidegate/{address}")).ok()?)
        .ok()?;
    let credentials = sockopt::socket_peercred(&socket).ok()?;
    Some(credentials.pid.as_raw_nonzero().get())
}

/// Binds `count` sockets that share an address, with these options; `ours` when one
/// that overlaps is ours already.
///
/// # Errors
/// Why it cannot be, in words.
pub(crate) fn bind(
    address: SocketAddr,
    options: &Options,
    count: usize,
    ours: bool,
) -> Result<Vec<TcpListener>, String> {
    let explained = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            "is taken by another program: stop that one, or bind another port".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "is not an address of this machine: bind one that is".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "needs a privilege: ports below 1024 take CAP_NET_BIND_SERVICE".to_owned()
        }
        _ => format!("cannot be bound: {error}"),
    };
    // Alone first: with SO_REUSEPORT a listening socket of the same user would
    // be shared without a word.
    if !ours {
        socket(address, false).map_err(explained)?;
    }
    let sockets: Vec<TcpListener> = (0..count)
        .map(|_| socket(address, true).map(TcpListener::from))
        .collect::<io::Result<_>>()
        .map_err(explained)?;
    // None listens before all are bound: a listening socket that is closed
    // again resets who has connected meanwhile.
    for socket in &sockets {
        options.set_on(socket).map_err(explained)?;
    }
    Ok(sockets)
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    // Over connections of the last process that are still in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` serves IPv4 as well; other IPv6 addresses have no IPv4 side.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}
