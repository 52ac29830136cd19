//! TCP sockets of a data thread. Reading and writing are tried first and waited
//! for only when the kernel says so; a short read is taken for the last one
//! there is, which saves the call that would say so.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags};
use rustix::pipe::SpliceFlags;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::sources::{Interest, Side, Source, SourceId, Sources};
use super::with;
use crate::sys;

/// MSG_FASTOPEN (tcp(7)): sends a SYN with data.
const FAST_OPEN: SendFlags = SendFlags::from_bits_retain(libc::MSG_FASTOPEN.cast_unsigned());

/// A socket in this thread's epoll, out of it when dropped.
struct Registered<S: AsFd> {
    socket: S,
    id: SourceId,
}

impl<S: AsFd> Registered<S> {
    fn new(socket: S, ready: bool) -> io::Result<Self> {
        let id = with(|engine| engine.sources.insert(ready))?;
        Ok(Self { socket, id })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn source<T>(&self, look: impl FnOnce(&mut Source) -> T) -> io::Result<T> {
        self.sources(|sources| sources.of(self.id, look))?
            .ok_or_else(|| io::Error::other("a socket of another data thread"))
    }

    fn sources<T>(&self, act: impl FnOnce(&Sources) -> T) -> io::Result<T> {
        with(|engine| act(&engine.sources))
    }

    fn ask(&self, wanted: Interest) -> io::Result<()> {
        self.sources(|sources| sources.ask(self.id, self.fd(), wanted))?
    }
}

impl<S: AsFd> Drop for Registered<S> {
    fn drop(&mut self) {
        // A thread that ends forgets all of its sockets.
        let _ = self.sources(|sources| sources.remove(self.id));
    }
}

/// A connection.
pub(crate) struct TcpStream(Registered<OwnedFd>);

impl TcpStream {
    /// An accepted connection. Bytes may have come with it.
    ///
    /// # Errors
    /// On a thread that is no data thread.
    pub(crate) fn accepted(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self(Registered::new(socket, true)?))
    }

    /// Connects a socket made by [`stream_socket`].
    ///
    /// # Errors
    /// As connect(2).
    pub(crate) async fn connect(socket: Socket, target: SocketAddr) -> io::Result<Self> {
        match rustix::net::connect(&socket, &target) {
            Ok(()) => Ok(Self(Registered::new(socket.into(), true)?)),
            Err(Errno::INPROGRESS) => Self::connecting(socket.into()).await,
            Err(error) => Err(error.into()),
        }
    }

    /// As [`TcpStream::connect`], with the bytes to send first; answers how many of them
    /// are sent. They travel in the SYN where host and peer agree to that (RFC 7413).
    ///
    /// # Errors
    /// As connect(2).
    pub(crate) async fn connect_sending(
        socket: Socket,
        target: SocketAddr,
        bytes: &[u8],
    ) -> io::Result<(Self, usize)> {
        // One call instead of three: an option, connect(2), and the first write.
        let flags = SendFlags::NOSIGNAL | FAST_OPEN;
        let stream = match rustix::net::sendto(&socket, bytes, flags, &target) {
            Ok(sent) => return Ok((Self(Registered::new(socket.into(), true)?), sent)),
            // The peer has given no cookie yet: it is asked for one.
            Err(Errno::INPROGRESS) => Self::connecting(socket.into()).await?,
            // This host forbids it.
            Err(Errno::OPNOTSUPP) => Self::connect(socket, target).await?,
            Err(error) => return Err(error.into()),
        };
        let sent = poll_fn(|cx| stream.poll_send(cx, bytes)).await?;
        Ok((stream, sent))
    }

    async fn connecting(socket: OwnedFd) -> io::Result<Self> {
        let stream = Self(Registered::new(socket, false)?);
        // On the same host both have agreed by now, and nobody needs to be woken for it.
        if stream.is_established() {
            stream
                .0
                .source(|source| (source.heard, source.writable) = (true, true))?;
            return Ok(stream);
        }
        stream.0.ask(Interest::ReadWrite)?;
        poll_fn(|cx| stream.poll_connected(cx)).await?;
        Ok(stream)
    }

    /// After [`TcpStream::connect_sending`]: until the peer is known to have accepted.
    /// It answers mostly, and its answer says so. Only when the client has more to
    /// say first is the kernel asked.
    ///
    /// # Errors
    /// As connect(2).
    pub(crate) async fn established(&self, client: &Self) -> io::Result<()> {
        self.0.ask(Interest::Read)?;
        client.0.ask(Interest::Read)?;
        poll_fn(|cx| {
            if self.poll_connected(cx)?.is_ready() {
                return Poll::Ready(Ok(()));
            }
            let waits = client.0.source(|source| {
                source.wake_by(cx.waker());
                source.readable
            })?;
            if waits && self.is_established() {
                return Poll::Ready(Ok(()));
            }
            if waits {
                self.0.ask(Interest::ReadWrite)?;
            }
            Poll::Pending
        })
        .await
    }

    /// Whether the peer has accepted the connection.
    pub(crate) fn is_established(&self) -> bool {
        // Refused in SYN_SENT, and after a reset.
        rustix::net::getpeername(&self.0.socket).is_ok()
    }

    fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (heard, broken) = self.0.source(|source| {
            source.wake_by(cx.waker());
            (source.heard, source.broken)
        })?;
        if !heard {
            return Poll::Pending;
        }
        if broken && let Err(error) = rustix::net::sockopt::socket_error(&self.0.socket)? {
            return Poll::Ready(Err(error.into()));
        }
        Poll::Ready(Ok(()))
    }

    /// Reads into `buffer`; 0 is the peer's end.
    pub(crate) fn poll_receive(
        &self,
        cx: &Context<'_>,
        buffer: &mut [u8],
        flags: RecvFlags,
    ) -> Poll<io::Result<usize>> {
        let length = buffer.len();
        self.poll_io(cx, Side::Read, length, || {
            rustix::net::recv(&self.0.socket, &mut *buffer, flags).map(|(count, _)| count)
        })
    }

    /// Tries, and waits for the kernel's word where that is refused. Less than `length`
    /// is taken for all that there is, to read or of room.
    fn poll_io(
        &self,
        cx: &Context<'_>,
        side: Side,
        length: usize,
        mut call: impl FnMut() -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let ready = self.0.source(|source| {
                source.wake_by(cx.waker());
                *source.ready(side)
            })?;
            if !ready {
                self.0.ask(side.interest())?;
                return Poll::Pending;
            }
            match call() {
                Ok(count) => {
                    if 0 < count && count < length {
                        self.0.source(|source| source.used_up(side))?;
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.0.source(|source| *source.ready(side) = false)?,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Writes what there is room for.
    pub(crate) fn poll_send(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_io(cx, Side::Write, bytes.len(), || {
            rustix::net::send(&self.0.socket, bytes, SendFlags::NOSIGNAL)
        })
    }

    /// As [`TcpStream::poll_send`] for the last bytes: they leave with the end.
    pub(crate) fn poll_send_last(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_io(cx, Side::Write, bytes.len(), || {
            rustix::net::send(&self.0.socket, bytes, SendFlags::NOSIGNAL | SendFlags::MORE)
        })
    }

    /// Moves what has come into a pipe, without a copy; 0 is the peer's end.
    pub(crate) fn poll_splice_from(
        &self,
        cx: &Context<'_>,
        pipe: Option<BorrowedFd<'_>>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let pipe = pipe.ok_or(io::ErrorKind::BrokenPipe)?;
        // A splice ends where the pipe is full or pages do: a short one is not the last.
        self.poll_io(cx, Side::Read, 0, || splice(self.0.fd(), pipe, most))
    }

    /// Moves `most` bytes out of a pipe that has them.
    pub(crate) fn poll_splice_to(
        &self,
        cx: &Context<'_>,
        pipe: Option<BorrowedFd<'_>>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let pipe = pipe.ok_or(io::ErrorKind::BrokenPipe)?;
        self.poll_io(cx, Side::Write, 0, || splice(pipe, self.0.fd(), most))
    }

    /// Whether the peer's end has come, in order, behind whatever there is to read.
    pub(crate) fn peer_has_ended(&self) -> bool {
        let ended = |source: &mut Source| source.ended && !source.reset;
        self.0.source(ended).unwrap_or(false)
    }

    /// Whether the peer has broken off, for whom nothing reads meanwhile; it is woken
    /// when that happens.
    pub(crate) fn poll_reset(&self, cx: &Context<'_>) -> io::Result<Poll<()>> {
        self.0.ask(Interest::Read)?;
        let reset = self.0.source(|source| {
            source.wake_by(cx.waker());
            source.reset
        })?;
        Ok(if reset {
            Poll::Ready(())
        } else {
            Poll::Pending
        })
    }

    /// Looks at what has come without taking it.
    ///
    /// # Errors
    /// As recv(2).
    pub(crate) async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| {
            let count = ready!(self.poll_receive(cx, buffer, RecvFlags::PEEK))?;
            // Nothing was taken, so there still is something.
            self.0.source(|source| source.readable = true)?;
            Poll::Ready(Ok(count))
        })
        .await
    }

    /// The address it was accepted on, or connects from.
    ///
    /// # Errors
    /// As getsockname(2).
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        SockRef::from(&self.0.socket)
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Ends our direction.
    pub(crate) fn end(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0.socket, Shutdown::Write)?)
    }

    /// Makes closing send RST instead of FIN, and drop what is unsent.
    pub(crate) fn reset_on_close(&self) {
        // Fails on a connection that is gone already, which is as good.
        let _ = SockRef::from(&self.0.socket).set_linger(Some(Duration::ZERO));
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = buffer.remaining();
        let fd = self.0.fd();
        let count = self.poll_io(cx, Side::Read, length, || sys::receive(fd, buffer));
        count.map_ok(|_| ())
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        self.poll_io(cx, Side::Write, length, || {
            rustix::io::writev(&self.0.socket, slices)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.end())
    }
}

fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> Result<usize, Errno> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    rustix::pipe::splice(from, None, to, None, most, flags)
}

/// A socket to connect.
///
/// # Errors
/// As socket(2).
pub(crate) fn stream_socket(target: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    Socket::new_raw(Domain::for_address(target), kind, Some(Protocol::TCP))
}

/// An accepted connection and who made it.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
}

/// A listening socket. Level-triggered: what is not accepted now is reported again,
/// so that no call is needed to learn that the queue is empty.
pub(crate) struct TcpListener {
    socket: Registered<Arc<std::net::TcpListener>>,
    /// Whether the kernel reports who waits.
    watched: AtomicBool,
}

impl TcpListener {
    /// Takes over a listening socket that does not block.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub(crate) fn new(socket: Arc<std::net::TcpListener>) -> io::Result<Self> {
        Ok(Self {
            socket: Registered::new(socket, false)?,
            watched: AtomicBool::new(false),
        })
    }

    /// Until somebody waits to be accepted.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.watch(true)?;
        poll_fn(|cx| {
            let readable = self.socket.source(|source| {
                source.wake_by(cx.waker());
                std::mem::take(&mut source.readable)
            })?;
            match readable {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Hears nothing of the queue until [`TcpListener::readable`] is called again:
    /// who waits for something else must not be woken for it over and over.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub(crate) fn ignore(&self) -> io::Result<()> {
        self.watch(false)
    }

    fn watch(&self, on: bool) -> io::Result<()> {
        if self.watched.swap(on, Ordering::Relaxed) == on {
            return Ok(());
        }
        let socket = &self.socket;
        let watched = socket.sources(|sources| sources.watch(socket.id, socket.fd(), on))?;
        if watched.is_err() {
            // The next one tries again.
            self.watched.store(!on, Ordering::Relaxed);
        }
        watched
    }

    /// accept4(2): the new socket is non-blocking without a second call.
    ///
    /// # Errors
    /// As accept4(2), `WouldBlock` when nobody waits.
    pub(crate) fn accept(&self) -> io::Result<Accepted> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (socket, peer) = rustix::net::acceptfrom_with(self.socket.fd(), flags)?;
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
        let peer = peer.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted))?;
        Ok(Accepted {
            stream: TcpStream::accepted(socket)?,
            peer,
        })
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        // Whoever shares the socket keeps it open, and it would be reported for ever.
        let _ = self.ignore();
    }
}
