//! A decrypted connection: `session` over a socket, as a stream of bytes.
//!
//! All connections of a thread receive into one buffer and send from it. What is
//! left of a record that has not come whole, or of bytes that the socket does not take,
//! is kept in memory of exactly that size; an idle connection holds none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::RecvFlags;
use tidegate_core::document::Close;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::record::{self, MOST_ADDED, MOST_BYTES, MOST_CONTENT, Place};
use super::session::{Fatal, Received, Session};
use crate::engine::TcpStream;
use crate::relay::Held;

/// Content that is sealed before it is sent: more would only be kept waiting.
const MOST_AT_ONCE: usize = 256 << 10;
const SCRATCH: usize = MOST_AT_ONCE + MOST_BYTES + (MOST_AT_ONCE / MOST_CONTENT + 2) * MOST_ADDED;

/// The bytes of a record that ends our direction, at most.
const MOST_END: usize = MOST_ADDED + 2;

/// A client's connection, decrypted.
pub(crate) struct Stream {
    socket: TcpStream,
    /// Apart: a stream is moved about, and this is large.
    inner: Box<Inner>,
}

struct Inner {
    session: Session,
    /// Sealed, and not sent yet.
    outgoing: Held,
    /// Whether `outgoing` may wait for company: it is a ticket, which nobody waits for.
    may_wait: bool,
    /// Received, and not opened yet.
    sealed: Held,
    /// Opened, and not read yet.
    opened: Held,
    close: Close,
    end: End,
}

/// How far the end of our direction is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// The last record is made.
    Sealed,
    /// An alert is the last, and what was to be read is not to be trusted.
    Failed,
}

/// What a handshake leaves to the stream that follows it.
pub(super) struct Shaken {
    pub(super) session: Session,
    /// Sealed records to send.
    pub(super) outgoing: Vec<u8>,
    /// Received behind the handshake, not opened yet.
    pub(super) sealed: Vec<u8>,
    /// Received with the handshake's end, and opened with it.
    pub(super) opened: Vec<u8>,
}

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

impl Stream {
    pub(super) fn new(socket: TcpStream, shaken: Shaken, close: Close) -> Self {
        let may_wait = !shaken.outgoing.is_empty();
        let inner = Box::new(Inner {
            session: shaken.session,
            outgoing: Held::of(shaken.outgoing.into()),
            may_wait,
            sealed: Held::of(shaken.sealed.into()),
            opened: Held::of(shaken.opened.into()),
            close,
            end: End::Open,
        });
        Self { socket, inner }
    }

    /// The connection underneath. Its bytes are not to be touched.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// How it says that it ends.
    pub(crate) fn close(&self) -> Close {
        self.inner.close
    }

    /// As `poll_write`. With `last` nothing follows: the end is sealed along with the
    /// last of the bytes, and what is sent waits for the FIN.
    pub(crate) fn poll_seal(
        &mut self,
        cx: &Context<'_>,
        bytes: &[u8],
        last: bool,
    ) -> Poll<io::Result<usize>> {
        let Self { socket, inner } = self;
        if inner.end != End::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !inner.may_wait {
            ready!(inner.poll_outgoing(cx, socket, false))?;
        }
        inner.may_wait = false;
        BUFFER.with_borrow_mut(|buffer| {
            // What waited for company, if anything did.
            let mut at = inner.outgoing.copy_to(buffer);
            inner.outgoing.advance(at);
            let now = bytes.get(..MOST_AT_ONCE).unwrap_or(bytes);
            let taken = inner.session.send(now, buffer, &mut at);
            let taken = taken.map_err(|_| io::Error::other("the session's keys are used up"))?;
            if last && taken == bytes.len() {
                inner.seal_end(buffer, &mut at);
            }
            inner.send(cx, socket, buffer.get(..at).unwrap_or_default(), last)?;
            Poll::Ready(Ok(taken))
        })
    }
}

impl Inner {
    /// Seals the end of our direction into `out` from `at` on, where it is one to tell.
    fn seal_end(&mut self, out: &mut [u8], at: &mut usize) {
        self.end = End::Sealed;
        if self.close == Close::Notify {
            self.session.end(out, at);
        }
    }

    /// Sends what the socket takes, and keeps the rest.
    fn send(
        &mut self,
        cx: &Context<'_>,
        socket: &TcpStream,
        mut bytes: &[u8],
        last: bool,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            match poll_some(cx, socket, bytes, last) {
                Poll::Ready(sent) => bytes = bytes.get(sent?..).unwrap_or_default(),
                Poll::Pending => {
                    self.outgoing = Held::of(bytes.into());
                    break;
                }
            }
        }
        Ok(())
    }

    fn poll_outgoing(
        &mut self,
        cx: &Context<'_>,
        socket: &TcpStream,
        last: bool,
    ) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let sent = ready!(poll_some(cx, socket, self.outgoing.rest(), last))?;
            self.outgoing.advance(sent);
        }
        self.may_wait = false;
        Poll::Ready(Ok(()))
    }

    /// Adds a sealed record to what is to be sent, and tries to send it.
    fn owe(&mut self, cx: &Context<'_>, socket: &TcpStream, owed: &[u8]) {
        if owed.is_empty() {
            return;
        }
        self.outgoing.push(owed);
        // What is not sent now leaves with what is written next. That nothing can be sent is
        // told to whoever writes.
        let _ = self.poll_outgoing(cx, socket, false);
    }

    /// Fills `out` from the records that are here, and receives more while there is
    /// nothing for it.
    fn poll_open(
        &mut self,
        cx: &Context<'_>,
        socket: &TcpStream,
        out: &mut ReadBuf<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<()>> {
        let mut filled = self.sealed.copy_to(buffer);
        // Content for all of `out`, with what sealing added; at least one record.
        let room = out.remaining();
        let most = room.saturating_add((room / MOST_CONTENT + 1) * MOST_ADDED);
        let most = most.max(MOST_BYTES).min(buffer.len());
        loop {
            let before = out.filled().len();
            let records = buffer.get_mut(..filled).unwrap_or_default();
            let used = match self.open_all(cx, socket, records, out) {
                Ok(used) => used,
                Err(fatal) => return Poll::Ready(Err(self.fail(cx, socket, fatal))),
            };
            let is_over = out.filled().len() > before || self.session.is_ended();
            buffer.copy_within(used..filled, 0);
            filled -= used;
            if is_over {
                self.sealed
                    .replace(buffer.get(..filled).unwrap_or_default());
                return Poll::Ready(Ok(()));
            }
            let room = buffer.get_mut(filled..most).unwrap_or_default();
            match socket.poll_receive(cx, room, RecvFlags::empty()) {
                // Without close_notify: common, and the end all the same.
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(count)) => filled += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.sealed
                        .replace(buffer.get(..filled).unwrap_or_default());
                    return Poll::Pending;
                }
            }
        }
    }

    /// Opens whole records until `out` is full; answers how many bytes of `records`
    /// they were.
    fn open_all(
        &mut self,
        cx: &Context<'_>,
        socket: &TcpStream,
        records: &mut [u8],
        out: &mut ReadBuf<'_>,
    ) -> Result<usize, Fatal> {
        let mut used = 0;
        let mut owed = Vec::new();
        while out.remaining() > 0 {
            let rest = records.get_mut(used..).unwrap_or_default();
            let Some(length) = record::length(rest)? else {
                break;
            };
            let Some(record) = rest.get_mut(..length) else {
                break;
            };
            // Memory that was never written is not written twice: what cannot be opened to
            // where it goes is opened in place, and copied.
            let filled = out.filled().len();
            let room = out.initialized_mut().get_mut(filled..).unwrap_or_default();
            match self.session.receive(record, room, &mut owed)? {
                Received::Nothing => {}
                Received::End => {
                    used += length;
                    break;
                }
                Received::Data(opened) if opened.place == Place::Out => {
                    out.advance(opened.content.len());
                }
                Received::Data(opened) => {
                    let content = record.get(opened.content).unwrap_or_default();
                    let (now, later) = content.split_at(content.len().min(out.remaining()));
                    out.put_slice(now);
                    self.opened.replace(later);
                }
            }
            used += length;
        }
        self.owe(cx, socket, &owed);
        Ok(used)
    }

    fn fail(&mut self, cx: &Context<'_>, socket: &TcpStream, fatal: Fatal) -> io::Error {
        let mut owed = Vec::new();
        if let Fatal::Ours(alert) = fatal
            && self.end == End::Open
        {
            self.session.alert(alert, &mut owed);
        }
        self.end = End::Failed;
        self.owe(cx, socket, &owed);
        io::Error::new(io::ErrorKind::InvalidData, format!("{fatal:?}"))
    }
}

/// Sends some of `bytes`; with `last` they wait for the FIN, which comes at once.
fn poll_some(
    cx: &Context<'_>,
    socket: &TcpStream,
    bytes: &[u8],
    last: bool,
) -> Poll<io::Result<usize>> {
    match last {
        true => socket.poll_send_last(cx, bytes),
        false => socket.poll_send(cx, bytes),
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { socket, inner } = &mut *self;
        if inner.end == End::Failed {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        if !inner.opened.is_empty() {
            let rest = inner.opened.rest();
            let now = rest.get(..buffer.remaining()).unwrap_or(rest);
            buffer.put_slice(now);
            let count = now.len();
            inner.opened.advance(count);
            return Poll::Ready(Ok(()));
        }
        if inner.session.is_ended() || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        BUFFER.with_borrow_mut(|scratch| inner.poll_open(cx, socket, buffer, scratch))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_seal(cx, bytes, false)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, inner } = &mut *self;
        inner.poll_outgoing(cx, socket, false)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, inner } = &mut *self;
        if inner.end == End::Open {
            let (mut record, mut length) = ([0; MOST_END], 0);
            inner.seal_end(&mut record, &mut length);
            inner
                .outgoing
                .push(record.get(..length).unwrap_or_default());
        }
        // One packet with the FIN.
        ready!(inner.poll_outgoing(cx, socket, true))?;
        Poll::Ready(socket.end())
    }
}
