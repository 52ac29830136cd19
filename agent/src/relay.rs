//! Bytes both ways until both ends have ended. Half-close is carried through
//! exactly; one timer watches for silence.
//!
//! All connections of a thread read into one buffer and write from it; what a
//! writer does not take at once is kept in memory of exactly that size, and
//! nothing more is read until it is gone. So an idle connection holds none, and
//! one with a slow reader little.

pub(crate) mod pipe;

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use self::pipe::Pipe;
use crate::cause::Cause;
use crate::connection::Connection;
use crate::engine::{self, Sleep, TcpStream, sleep_until};
use crate::sockets;

/// Before this age no connection needs keepalive probes: most never get there, and
/// are spared the calls that ask for them.
const SETTLED: Duration = Duration::from_secs(10);
/// How much is read at once, in bytes; what fills the last is spliced from then on,
/// where both ends can.
const SIZES: [usize; 3] = [16 << 10, 64 << 10, LARGEST];
/// Beyond the last of [`SIZES`].
const SPLICED: u8 = 3;
/// A splice of less than this ends the splicing: copying it is as cheap.
const MUCH: usize = 64 << 10;
const LARGEST: usize = 256 << 10;
/// Read by one direction before others get their turn.
const TURN: usize = 4 * LARGEST;

/// Relays until the end, and says why it came.
pub(crate) fn run<C, U>(client: C, upstream: U, connection: &Connection) -> Relay<'_, C, U>
where
    C: End,
    U: End,
{
    run_after(client, upstream, Leftover::default(), connection)
}

/// Bytes that were read before the relay began.
#[derive(Default)]
pub(crate) struct Leftover {
    pub(crate) from_client: Vec<u8>,
    pub(crate) from_upstream: Vec<u8>,
}

/// As [`run`], with bytes to deliver first.
pub(crate) fn run_after<C, U>(
    client: C,
    upstream: U,
    leftover: Leftover,
    connection: &Connection,
) -> Relay<'_, C, U>
where
    C: End,
    U: End,
{
    let last_byte = engine::now();
    Relay {
        client,
        upstream,
        to_upstream: Direction::after(leftover.from_client),
        to_client: Direction::after(leftover.from_upstream),
        first_end: None,
        was_reset: false,
        last_byte,
        timer: sleep_until(last_byte),
        settles_at: Some(last_byte + SETTLED),
        connection,
    }
}

/// An end of a relay: a stream over one TCP connection.
pub(crate) trait End: AsyncRead + AsyncWrite + Unpin {
    /// Makes closing send RST instead of FIN, and drop what is unsent.
    fn reset_on_close(&self);

    /// Asks a silent peer whether it is still there, as the listener says.
    fn keep_alive(&self, connection: &Connection);

    /// The socket, where its bytes are the stream's: such a one can be spliced.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    /// Whether closing says all that ending our direction would.
    fn ends_by_closing(&self) -> bool {
        false
    }

    /// Whether nothing follows what can be read now but the end.
    fn peer_has_ended(&self) -> bool {
        false
    }

    /// Writes what is followed by more or by the end at once, so that it can
    /// leave with it.
    fn poll_write_last(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.as_mut().poll_write(cx, bytes)
    }
}

impl End for TcpStream {
    fn keep_alive(&self, connection: &Connection) {
        let after = connection.listener.spec.tcp.keepalive.duration();
        // Fails on a connection that is gone already, which needs none.
        let _ = sockets::keep_alive(self, after);
    }

    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn ends_by_closing(&self) -> bool {
        true
    }

    fn peer_has_ended(&self) -> bool {
        self.peer_has_ended()
    }

    fn poll_write_last(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send_last(cx, bytes)
    }

    fn reset_on_close(&self) {
        self.reset_on_close();
    }
}

impl End for TlsStream<TcpStream> {
    fn keep_alive(&self, connection: &Connection) {
        End::keep_alive(self.get_ref().0, connection);
    }

    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

/// A relay at work: the whole of an idle connection, so it is kept small.
pub(crate) struct Relay<'a, C, U> {
    client: C,
    upstream: U,
    to_upstream: Direction,
    to_client: Direction,
    /// Why the first direction ended.
    first_end: Option<Cause>,
    /// Whether a side broke off instead of ending.
    was_reset: bool,
    last_byte: Instant,
    timer: Sleep,
    /// When it is no short connection any more, until then.
    settles_at: Option<Instant>,
    connection: &'a Connection,
}

impl<C, U> Future for Relay<'_, C, U>
where
    C: End,
    U: End,
{
    type Output = Cause;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cause> {
        let relay = self.get_mut();
        let moved = relay.move_bytes(cx);
        let cause = ready!(match moved {
            Poll::Pending => relay.poll_timers(cx),
            ended => ended,
        });
        if relay.was_reset {
            // As directly connected, the other end learns that it was not an end.
            relay.client.reset_on_close();
            relay.upstream.reset_on_close();
        }
        Poll::Ready(cause)
    }
}

impl<C, U> Relay<'_, C, U>
where
    C: End,
    U: End,
{
    fn move_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        use Cause::{ClientClosed, ClientReset, UpstreamClosed, UpstreamReset};

        let (client, upstream) = (&mut self.client, &mut self.upstream);
        let closes = self.to_client.ended() && upstream.ends_by_closing();
        let up = self.to_upstream.poll(cx, client, upstream, closes);
        let sent = std::mem::take(&mut self.to_upstream.uncounted);
        if sent > 0 {
            self.connection.live.add_in(sent);
        }
        if let Some(cause) = self.judge(&up, ClientClosed, [ClientReset, UpstreamReset]) {
            return Poll::Ready(cause);
        }
        self.to_client.reader_broken |= matches!(up, Poll::Ready(Err(Broken::Writing)));

        let (client, upstream) = (&mut self.client, &mut self.upstream);
        let closes = self.to_upstream.ended() && client.ends_by_closing();
        let down = self.to_client.poll(cx, upstream, client, closes);
        let received = std::mem::take(&mut self.to_client.uncounted);
        if received > 0 {
            self.connection.live.add_out(received);
        }
        if let Some(cause) = self.judge(&down, UpstreamClosed, [UpstreamReset, ClientReset]) {
            return Poll::Ready(cause);
        }
        self.to_upstream.reader_broken |= matches!(down, Poll::Ready(Err(Broken::Writing)));

        if sent > 0 || received > 0 {
            self.last_byte = engine::now();
        }
        if self.to_upstream.ended() && self.to_client.ended() {
            return Poll::Ready(self.first_end.unwrap_or(ClientClosed));
        }
        Poll::Pending
    }

    /// Traffic only moves the expiry on, for which the timer need not move: it is
    /// looked at when it is due, or when an end has brought it forward.
    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        if self.timer.is_waiting() {
            return Poll::Pending;
        }
        let now = engine::now();
        let (expiry, cause) = self.expiry();
        if expiry <= now {
            return Poll::Ready(cause);
        }
        if self.settles_at.is_some_and(|at| at <= now) {
            self.settles_at = None;
            self.upstream.keep_alive(self.connection);
        }
        let next = self.settles_at.map_or(expiry, |at| at.min(expiry));
        self.timer.reset(next);
        Pin::new(&mut self.timer).poll(cx).map(|()| cause)
    }

    /// Takes note of how a direction ended; answers when that is the end of all.
    fn judge(
        &mut self,
        direction: &Poll<Result<(), Broken>>,
        ended: Cause,
        [reading, writing]: [Cause; 2],
    ) -> Option<Cause> {
        match direction {
            Poll::Pending => None,
            Poll::Ready(Ok(())) => {
                self.half_close(ended);
                None
            }
            // Nothing more can come from there, and what it sent is not whole.
            Poll::Ready(Err(Broken::Reading)) => {
                self.was_reset = true;
                Some(self.first_end.unwrap_or(reading))
            }
            // It takes no more, but may still have something to say: an answer
            // to a request it did not read to the end.
            Poll::Ready(Err(Broken::Writing)) => {
                self.half_close(writing);
                None
            }
        }
    }

    fn half_close(&mut self, cause: Cause) {
        if self.first_end.is_none() {
            self.first_end = Some(cause);
            self.last_byte = engine::now();
            self.timer.reset(self.last_byte);
        }
    }

    fn expiry(&self) -> (Instant, Cause) {
        let timeouts = &self.connection.listener.spec.policy.timeouts;
        let (silence, cause) = match self.first_end {
            None => (timeouts.idle, Cause::IdleTimeout),
            Some(_) => (timeouts.half_closed, Cause::HalfClosedTimeout),
        };
        let silence = self.last_byte + silence.duration();
        match self.connection.end_of_life() {
            Some(end) if end < silence => (end, Cause::MaxAge),
            _ => (silence, cause),
        }
    }
}

/// Which side of a direction failed.
enum Broken {
    Reading,
    Writing,
}

/// Bytes one way.
#[derive(Default)]
struct Direction {
    /// Read, and refused by the writer so far.
    pending: Pending,
    /// While it splices, and has not written all of it.
    pipe: Option<Pipe>,
    /// Bytes written since they were last counted.
    uncounted: usize,
    /// Index into [`SIZES`] for the next read.
    size: u8,
    stage: Stage,
    /// A write to the reader has failed: the kernel has told of the reset there
    /// already, and a read will say that it is a plain end.
    reader_broken: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Reading,
    /// Written; the writer (TLS) may still hold some of it back.
    Flushing,
    /// The reader has ended: the writer is told.
    Closing,
    Ended,
}

/// Bytes read and not yet written, from `from` on. Without any it holds no memory.
#[derive(Default)]
struct Pending {
    bytes: Box<[u8]>,
    from: usize,
}

impl Pending {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.from..).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.from >= self.bytes.len()
    }

    fn advance(&mut self, count: usize) {
        self.from += count;
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

impl Direction {
    fn after(leftover: Vec<u8>) -> Self {
        Self {
            pending: Pending {
                bytes: leftover.into_boxed_slice(),
                from: 0,
            },
            ..Self::default()
        }
    }

    fn ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Moves what can be moved. Ready once: at its end, or at its failure. `closes`
    /// says that the writer is closed next.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        closes: bool,
    ) -> Poll<Result<(), Broken>>
    where
        R: End,
        W: End,
    {
        if self.ended() {
            return Poll::Pending;
        }
        let end = ready!(self.advance(cx, reader, writer, closes));
        self.pending = Pending::default();
        self.pipe = None;
        self.stage = Stage::Ended;
        Poll::Ready(end)
    }

    fn advance<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        closes: bool,
    ) -> Poll<Result<(), Broken>>
    where
        R: End,
        W: End,
    {
        let mut turn = TURN;
        loop {
            if !self.pending.is_empty() && ready!(self.write_pending(cx, writer)).is_err() {
                return Poll::Ready(Err(Broken::Writing));
            }
            if self.pipe.is_some() && ready!(self.write_spliced(cx, writer)).is_err() {
                return Poll::Ready(Err(Broken::Writing));
            }
            match self.stage {
                Stage::Flushing => {
                    if ready!(Pin::new(&mut *writer).poll_flush(cx)).is_err() {
                        return Poll::Ready(Err(Broken::Writing));
                    }
                    self.stage = Stage::Reading;
                }
                Stage::Reading if turn == 0 => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Stage::Reading if self.size == SPLICED => {
                    let read = ready!(self.splice(cx, reader, writer));
                    turn = turn.saturating_sub(read?);
                }
                Stage::Reading => {
                    let read = with_scratch(|scratch| self.carry(cx, reader, writer, scratch));
                    turn = turn.saturating_sub(ready!(read)?);
                }
                Stage::Closing if closes => return Poll::Ready(Ok(())),
                // A writer that is gone already cannot be told, and need not be.
                Stage::Closing | Stage::Ended => {
                    return Pin::new(&mut *writer).poll_shutdown(cx).map(|_| Ok(()));
                }
            }
        }
    }

    /// Reads into `scratch` and writes from there; keeps only what the writer does
    /// not take. Answers how much was read.
    fn carry<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        scratch: &mut [u8],
    ) -> Poll<Result<usize, Broken>>
    where
        R: End,
        W: End,
    {
        let mut bytes = match ready!(self.read(cx, reader, scratch)) {
            Ok([]) if self.reader_broken => return Poll::Ready(Err(Broken::Reading)),
            Ok(bytes) => bytes,
            Err(_) => return Poll::Ready(Err(Broken::Reading)),
        };
        let count = bytes.len();
        if count == 0 {
            self.stage = Stage::Closing;
            return Poll::Ready(Ok(0));
        }
        self.stage = Stage::Flushing;
        // The end is read next, and a FIN of its own would be a packet more.
        let last = reader.peer_has_ended() && count < self.capacity();
        while !bytes.is_empty() {
            let writing = Pin::new(&mut *writer);
            let written = match last {
                true => writing.poll_write_last(cx, bytes),
                false => writing.poll_write(cx, bytes),
            };
            match written {
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.uncounted += written;
                    bytes = bytes.get(written..).unwrap_or_default();
                }
                Poll::Ready(_) => return Poll::Ready(Err(Broken::Writing)),
                Poll::Pending => {
                    self.pending = Pending {
                        bytes: bytes.into(),
                        from: 0,
                    };
                    break;
                }
            }
        }
        Poll::Ready(Ok(count))
    }

    /// Moves what has come into a pipe. Answers how much.
    fn splice<R: End, W: End>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &R,
        writer: &W,
    ) -> Poll<Result<usize, Broken>> {
        let pipe = reader.socket().zip(writer.socket()).zip(Pipe::take());
        let Some(((reader, _), mut pipe)) = pipe else {
            self.size = SPLICED - 1;
            return Poll::Ready(Ok(0));
        };
        // Dropped, and so given back, where there is nothing to move.
        match ready!(reader.poll_splice_from(cx, pipe.write_end(), pipe::CAPACITY)) {
            Ok(0) if self.reader_broken => return Poll::Ready(Err(Broken::Reading)),
            Ok(0) => self.stage = Stage::Closing,
            Ok(count) => {
                if count < MUCH {
                    self.size = SPLICED - 1;
                }
                pipe.held = count;
                self.pipe = Some(pipe);
                return Poll::Ready(Ok(count));
            }
            Err(_) => return Poll::Ready(Err(Broken::Reading)),
        }
        Poll::Ready(Ok(0))
    }

    fn write_spliced<W: End>(&mut self, cx: &mut Context<'_>, writer: &W) -> Poll<io::Result<()>> {
        while let Some(pipe) = &mut self.pipe
            && let Some(writer) = writer.socket()
        {
            let moved = writer.poll_splice_to(cx, pipe.read_end(), pipe.held);
            let count = ready!(moved)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            pipe.held = pipe.held.saturating_sub(count);
            self.uncounted += count;
            if pipe.held == 0 {
                self.pipe = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn read<'s, R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        scratch: &'s mut [u8],
    ) -> Poll<io::Result<&'s [u8]>> {
        let capacity = self.capacity();
        let mut filled = ReadBuf::new(scratch.get_mut(..capacity).unwrap_or_default());
        match ready!(Pin::new(reader).poll_read(cx, &mut filled)) {
            Ok(()) => {}
            // TLS without close_notify: common, and the end all the same.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(&[])),
            Err(e) => return Poll::Ready(Err(e)),
        }
        let count = filled.filled().len();
        if count == capacity {
            self.size = (self.size + 1).min(SPLICED);
        } else if count < capacity / 8 {
            self.size = self.size.saturating_sub(1);
        }
        Poll::Ready(Ok(scratch.get(..count).unwrap_or_default()))
    }

    fn capacity(&self) -> usize {
        let capacity = SIZES.get(usize::from(self.size)).copied();
        capacity.unwrap_or(LARGEST)
    }

    fn write_pending<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let count = ready!(Pin::new(&mut *writer).poll_write(cx, self.pending.rest()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(count);
            self.uncounted += count;
            self.stage = Stage::Flushing;
        }
        Poll::Ready(Ok(()))
    }
}

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; LARGEST].into_boxed_slice());
}

/// Lends the thread's one buffer: it is in the processor's cache already, and no
/// connection keeps it.
pub(crate) fn with_scratch<T>(act: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| act(scratch))
}
