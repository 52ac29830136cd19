//! Bytes both ways until both ends have ended. Half-close is carried through
//! exactly; one timer watches for silence.
//!
//! All connections of a thread read into one buffer and write from it; what a
//! writer does not take at once is kept in memory of exactly that size, and
//! nothing more is read until it is gone. So an idle connection holds none, and
//! one with a slow reader what was read last: 256 KiB at most, and where there are
//! many of them 16 KiB.

mod direction;
mod held;
pub(crate) mod pipe;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tidegate_core::document::Close;
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use self::direction::with_scratch;
use self::direction::{Broken, Direction};
pub(crate) use self::held::Held;
use crate::cause::Cause;
use crate::connection::Connection;
use crate::engine::{self, Sleep, TcpStream, sleep_until};
use crate::{sockets, tls};

/// Before this age no connection needs keepalive probes: most never get there, and
/// are spared the calls that ask for them.
const SETTLED: Duration = Duration::from_secs(10);

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

    /// Whether its connection is over when the other end has ended, whatever it still says.
    fn leaves_with_other(&self) -> bool {
        false
    }

    /// Whether nothing follows what can be read now but the end.
    fn peer_has_ended(&self) -> bool {
        false
    }

    /// Whether the peer has broken off, while nothing is read from it.
    fn is_reset(&self, cx: &Context<'_>) -> bool;

    /// Writes what only the end follows, at once, so that it can leave with it.
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
        let after = connection.spec.tcp.keepalive.duration();
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

    fn is_reset(&self, cx: &Context<'_>) -> bool {
        // A socket that cannot be asked is as good as gone.
        self.poll_reset(cx).map_or(true, |reset| reset.is_ready())
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

impl End for tls::Stream {
    fn keep_alive(&self, connection: &Connection) {
        End::keep_alive(self.socket(), connection);
    }

    fn ends_by_closing(&self) -> bool {
        self.close() == Close::Fast
    }

    fn leaves_with_other(&self) -> bool {
        self.close() == Close::Fast
    }

    fn is_reset(&self, cx: &Context<'_>) -> bool {
        End::is_reset(self.socket(), cx)
    }

    fn poll_write_last(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_seal(cx, bytes, true)
    }

    fn reset_on_close(&self) {
        self.socket().reset_on_close();
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
        let closes =
            client.leaves_with_other() || (self.to_upstream.ended() && client.ends_by_closing());
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
        let leaves = self.client.leaves_with_other();
        if self.to_client.ended() && (leaves || self.to_upstream.ended()) {
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
        let timeouts = &self.connection.spec.policy.timeouts;
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
