//! Bytes both ways until both ends have ended. Half-close is carried through
//! exactly; one timer watches for silence; a buffer is held only while bytes
//! are in flight, so an idle connection holds none.
//!
//! Buffers come from a pool of the thread and grow with the traffic: a read
//! that fills its buffer makes the next one larger, a small one the next
//! smaller.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::server::TlsStream;

use crate::cause::Cause;
use crate::connection::{Connection, Live};

/// Sizes of buffers, in bytes. There is no smaller first one: it would save
/// nothing on idle connections, and cost most answers a second read.
const SIZES: [usize; 3] = [16 << 10, 64 << 10, 256 << 10];
/// Free buffers kept per thread, by size: 5 MiB at most.
const KEPT: [usize; 3] = [64, 16, 12];

/// How long a relay waits.
#[derive(Clone, Copy)]
pub(crate) struct Timers {
    idle: Duration,
    half_closed: Duration,
    end_of_life: Option<Instant>,
}

impl Timers {
    /// Those of the connection's policy.
    pub(crate) fn of(connection: &Connection) -> Self {
        let timeouts = &connection.listener.spec.policy.timeouts;
        Self {
            idle: timeouts.idle.duration(),
            half_closed: timeouts.half_closed.duration(),
            end_of_life: connection.end_of_life(),
        }
    }
}

/// Relays until the end, and says why it came.
pub(crate) async fn run<C, U>(
    client: C,
    upstream: U,
    connection: &Connection,
    timers: Timers,
) -> Cause
where
    C: End,
    U: End,
{
    run_after(client, upstream, Leftover::default(), connection, timers).await
}

/// Bytes that were read before the relay began.
#[derive(Default)]
pub(crate) struct Leftover {
    pub(crate) from_client: Vec<u8>,
    pub(crate) from_upstream: Vec<u8>,
}

/// As [`run`], with bytes to deliver first.
pub(crate) async fn run_after<C, U>(
    client: C,
    upstream: U,
    leftover: Leftover,
    connection: &Connection,
    timers: Timers,
) -> Cause
where
    C: End,
    U: End,
{
    let mut relay = Relay {
        client,
        upstream,
        to_upstream: Direction::after(leftover.from_client),
        to_client: Direction::after(leftover.from_upstream),
        first_end: None,
        was_reset: false,
        last_byte: Instant::now(),
        live: &connection.live,
    };
    let timer = sleep_until(relay.expiry(&timers).0);
    tokio::pin!(timer);
    let mut half_closed = false;
    let cause = poll_fn(|cx| {
        loop {
            if let Poll::Ready(cause) = relay.poll(cx) {
                return Poll::Ready(cause);
            }
            // Traffic only moves the expiry on, so it need not move the timer;
            // half-close brings it forward.
            if !half_closed && relay.first_end.is_some() {
                half_closed = true;
                timer.as_mut().reset(relay.expiry(&timers).0);
            }
            ready!(timer.as_mut().poll(cx));
            let (expiry, cause) = relay.expiry(&timers);
            if expiry <= Instant::now() {
                return Poll::Ready(cause);
            }
            timer.as_mut().reset(expiry);
        }
    })
    .await;
    if relay.was_reset {
        // As directly connected, the other end learns that it was not an end.
        relay.client.reset_on_close();
        relay.upstream.reset_on_close();
    }
    cause
}

/// An end of a relay: a stream over one TCP connection.
pub(crate) trait End: AsyncRead + AsyncWrite + Unpin {
    /// Makes closing send RST instead of FIN, and drop what is unsent.
    fn reset_on_close(&self);
}

impl End for TcpStream {
    fn reset_on_close(&self) {
        // Fails on a connection that is gone already, which is as good.
        let _ = self.set_zero_linger();
    }
}

impl End for TlsStream<TcpStream> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

struct Relay<'a, C, U> {
    client: C,
    upstream: U,
    to_upstream: Direction,
    to_client: Direction,
    /// Why the first direction ended.
    first_end: Option<Cause>,
    /// Whether a side broke off instead of ending.
    was_reset: bool,
    last_byte: Instant,
    live: &'a Live,
}

impl<C, U> Relay<'_, C, U>
where
    C: End,
    U: End,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        use Cause::{ClientClosed, ClientReset, UpstreamClosed, UpstreamReset};

        let (client, upstream) = (&mut self.client, &mut self.upstream);
        let up = self.to_upstream.poll(cx, client, upstream);
        let sent = std::mem::take(&mut self.to_upstream.uncounted);
        if sent > 0 {
            self.live.add_in(sent);
        }
        if let Some(cause) = self.judge(&up, ClientClosed, [ClientReset, UpstreamReset]) {
            return Poll::Ready(cause);
        }
        self.to_client.reader_broken |= matches!(up, Poll::Ready(Err(Broken::Writing)));

        let (client, upstream) = (&mut self.client, &mut self.upstream);
        let down = self.to_client.poll(cx, upstream, client);
        let received = std::mem::take(&mut self.to_client.uncounted);
        if received > 0 {
            self.live.add_out(received);
        }
        if let Some(cause) = self.judge(&down, UpstreamClosed, [UpstreamReset, ClientReset]) {
            return Poll::Ready(cause);
        }
        self.to_upstream.reader_broken |= matches!(down, Poll::Ready(Err(Broken::Writing)));

        if sent > 0 || received > 0 {
            self.last_byte = Instant::now();
        }
        if self.to_upstream.ended() && self.to_client.ended() {
            return Poll::Ready(self.first_end.unwrap_or(ClientClosed));
        }
        Poll::Pending
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
                if self.first_end.is_none() {
                    self.first_end = Some(ended);
                    self.last_byte = Instant::now();
                }
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
                if self.first_end.is_none() {
                    self.first_end = Some(writing);
                    self.last_byte = Instant::now();
                }
                None
            }
        }
    }

    fn expiry(&self, timers: &Timers) -> (Instant, Cause) {
        let silence = match self.first_end {
            None => (self.last_byte + timers.idle, Cause::IdleTimeout),
            Some(_) => (
                self.last_byte + timers.half_closed,
                Cause::HalfClosedTimeout,
            ),
        };
        match timers.end_of_life {
            Some(end) if end < silence.0 => (end, Cause::MaxAge),
            _ => silence,
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
    pending: Option<Pending>,
    /// Index into [`SIZES`] for the next read.
    size: usize,
    stage: Stage,
    /// A write to the reader has failed: the kernel has told of the reset there
    /// already, and a read will say that it is a plain end.
    reader_broken: bool,
    /// Bytes written since they were last counted.
    uncounted: usize,
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

/// Bytes read and not yet written.
struct Pending {
    buffer: Buffer,
    from: usize,
    to: usize,
}

impl Direction {
    fn after(leftover: Vec<u8>) -> Self {
        let pending = (!leftover.is_empty()).then(|| Pending {
            from: 0,
            to: leftover.len(),
            buffer: Buffer::own(leftover),
        });
        Self {
            pending,
            ..Self::default()
        }
    }

    fn ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Moves what can be moved. Ready once: at its end, or at its failure.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.ended() {
            return Poll::Pending;
        }
        let end = ready!(self.advance(cx, reader, writer));
        self.pending = None;
        self.stage = Stage::Ended;
        Poll::Ready(end)
    }

    fn advance<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if self.pending.is_some() && ready!(self.write(cx, writer)).is_err() {
                return Poll::Ready(Err(Broken::Writing));
            }
            match self.stage {
                Stage::Flushing => {
                    if ready!(Pin::new(&mut *writer).poll_flush(cx)).is_err() {
                        return Poll::Ready(Err(Broken::Writing));
                    }
                    self.stage = Stage::Reading;
                }
                Stage::Reading => match ready!(self.read(cx, reader)) {
                    Ok(0) if self.reader_broken => return Poll::Ready(Err(Broken::Reading)),
                    Ok(0) => self.stage = Stage::Closing,
                    Ok(_) => {}
                    Err(_) => return Poll::Ready(Err(Broken::Reading)),
                },
                // A writer that is gone already cannot be told, and need not be.
                Stage::Closing | Stage::Ended => {
                    return Pin::new(&mut *writer).poll_shutdown(cx).map(|_| Ok(()));
                }
            }
        }
    }

    fn read<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = Buffer::take(self.size);
        let mut filled = ReadBuf::new(buffer.bytes());
        let capacity = filled.capacity();
        match ready!(Pin::new(reader).poll_read(cx, &mut filled)) {
            Ok(()) => {}
            // TLS without close_notify: common, and the end all the same.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(0)),
            Err(e) => return Poll::Ready(Err(e)),
        }
        let count = filled.filled().len();
        if count == capacity {
            self.size = (self.size + 1).min(SIZES.len() - 1);
        } else if count < capacity / 8 {
            self.size = self.size.saturating_sub(1);
        }
        if count > 0 {
            self.pending = Some(Pending {
                buffer,
                from: 0,
                to: count,
            });
        }
        Poll::Ready(Ok(count))
    }

    fn write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        while let Some(pending) = &mut self.pending {
            let rest = pending
                .buffer
                .bytes()
                .get(pending.from..pending.to)
                .unwrap_or_default();
            let count = ready!(Pin::new(&mut *writer).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            pending.from += count;
            self.uncounted += count;
            if pending.from >= pending.to {
                self.pending = None;
                self.stage = Stage::Flushing;
            }
        }
        Poll::Ready(Ok(()))
    }
}

thread_local! {
    static FREE: RefCell<[Vec<Box<[u8]>>; SIZES.len()]> = const { RefCell::new([const { Vec::new() }; SIZES.len()]) };
}

/// A buffer that goes back to its thread's pool in `Drop`.
struct Buffer {
    bytes: Box<[u8]>,
    /// Index into [`SIZES`]; `None` for one that came from elsewhere.
    size: Option<usize>,
}

impl Buffer {
    fn take(size: usize) -> Self {
        let free = FREE.with_borrow_mut(|free| free.get_mut(size).and_then(Vec::pop));
        let length = SIZES.get(size).copied().unwrap_or(SIZES[0]);
        let bytes = free.unwrap_or_else(|| vec![0; length].into_boxed_slice());
        Self {
            bytes,
            size: Some(size),
        }
    }

    fn own(bytes: Vec<u8>) -> Self {
        Self {
            bytes: bytes.into_boxed_slice(),
            size: None,
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(size) = self.size else { return };
        let bytes = std::mem::take(&mut self.bytes);
        FREE.with_borrow_mut(|free| {
            if let (Some(free), Some(kept)) = (free.get_mut(size), KEPT.get(size))
                && free.len() < *kept
            {
                free.push(bytes);
            }
        });
    }
}
