//! The client's stream as hyper sees it: what comes has passed `core::framing` where it
//! is HTTP/1.1, bytes are counted, and what timers go by is kept.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tidegate_core::framing::{Framing, Why};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::Live;
use crate::engine;
use crate::tls;

/// Read of a connection that has rested, before hyper has buffers for it again.
const AHEAD: usize = 2048;
/// A head that ends in what no parser takes for HTTP.
const NO_HTTP: &[u8] = b"\0\r\n\r\n";
/// A line that goes on and on.
const NO_END: &[u8] = &[b'x'; 256];

/// What passes, and when.
pub(super) struct Activity {
    last_byte: Cell<Instant>,
    head_since: Cell<Option<Instant>>,
    is_between: Cell<bool>,
    is_flushed: Cell<bool>,
    is_broken: Cell<bool>,
}

impl Activity {
    /// Nothing yet.
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            last_byte: Cell::new(engine::now()),
            head_since: Cell::new(None),
            is_between: Cell::new(true),
            is_flushed: Cell::new(true),
            is_broken: Cell::new(false),
        })
    }

    /// When the last byte passed.
    pub(super) fn last_byte(&self) -> Instant {
        self.last_byte.get()
    }

    /// Since when a head is on its way.
    pub(super) fn head_since(&self) -> Option<Instant> {
        self.head_since.get()
    }

    /// Whether a read has failed: the client broke off, or broke the rules of TLS.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.get()
    }

    /// Whether nothing is on its way in either direction.
    pub(super) fn rests(&self) -> bool {
        self.is_between.get() && self.is_flushed.get()
    }
}

/// A counted stream.
pub(super) struct Counted {
    stream: tls::Stream,
    activity: Rc<Activity>,
    /// Whose bytes these are; in HTTP/2 only bodies are counted, where they pass.
    counted: Option<Arc<Live>>,
    framing: Option<Framing>,
    /// What has passed already, and hyper has not had.
    ahead: Vec<u8>,
    /// Given for ever in place of what was refused.
    substitute: Option<&'static [u8]>,
}

impl Counted {
    /// A stream of HTTP/1.1, whose bytes are `live`'s.
    pub(super) fn h1(
        stream: tls::Stream,
        live: &Arc<Live>,
        activity: &Rc<Activity>,
        framing: Framing,
    ) -> Self {
        Self {
            counted: Some(Arc::clone(live)),
            framing: Some(framing),
            ..Self::h2(stream, activity)
        }
    }

    /// A stream of HTTP/2, whose frames the library looks at.
    pub(super) fn h2(stream: tls::Stream, activity: &Rc<Activity>) -> Self {
        Self {
            stream,
            activity: Rc::clone(activity),
            counted: None,
            framing: None,
            ahead: Vec::new(),
            substitute: None,
        }
    }

    /// The stream, no longer counted.
    pub(super) fn into_stream(self) -> tls::Stream {
        self.stream
    }

    /// Gives back what hyper has had and not used.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        self.ahead.splice(..0, bytes.iter().copied());
    }

    /// Waits for bytes and keeps them; answers whether there are any, or the end.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let mut room = [0; AHEAD];
        let mut buffer = ReadBuf::new(&mut room);
        ready!(self.poll_fresh(cx, &mut buffer))?;
        self.ahead.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(!self.ahead.is_empty()))
    }

    /// Reads from the client what may pass.
    fn poll_fresh(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(bytes) = self.substitute {
            let count = buffer.remaining().min(bytes.len());
            buffer.put_slice(bytes.get(..count).unwrap_or_default());
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        read.inspect_err(|_| self.activity.is_broken.set(true))?;
        let count = buffer.filled().len().saturating_sub(before);
        if let Some(live) = &self.counted {
            live.add_in(count);
        }
        self.activity.last_byte.set(engine::now());
        self.let_pass(before, buffer);
        // Nothing is the end, and this is not.
        match count > 0 && buffer.filled().len() == before {
            true => self.poll_fresh(cx, buffer),
            false => Poll::Ready(Ok(())),
        }
    }

    /// Cuts off what is refused. In its place comes what no parser takes for HTTP, so
    /// that hyper answers in its turn, behind what was asked before: 400 to a control
    /// character, and 431 to a head that goes on and on.
    fn let_pass(&mut self, before: usize, buffer: &mut ReadBuf<'_>) {
        let Some(framing) = &mut self.framing else {
            return;
        };
        let fresh = buffer.filled().get(before..).unwrap_or_default();
        if let Err(refused) = framing.examine(fresh) {
            tracing::debug!(why = ?refused.why, "request refused");
            buffer.set_filled(before + refused.after);
            self.substitute = Some(match refused.why {
                Why::TooLarge => NO_END,
                Why::Malformed(_) => NO_HTTP,
            });
        }
        let activity = &self.activity;
        activity.is_between.set(framing.is_between());
        let since = activity.head_since.get().unwrap_or_else(engine::now);
        activity.head_since.set(framing.in_head().then_some(since));
    }

    fn wrote(&self, count: usize) {
        if let Some(live) = &self.counted {
            live.add_out(count);
        }
        self.activity.last_byte.set(engine::now());
        self.activity.is_flushed.set(false);
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return self.poll_fresh(cx, buffer);
        }
        let count = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(self.ahead.get(..count).unwrap_or_default());
        self.ahead.drain(..count);
        if self.ahead.is_empty() {
            self.ahead = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.activity.is_flushed.set(false);
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.wrote(count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.activity.is_flushed.set(false);
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.wrote(count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.activity.is_flushed.set(true);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
