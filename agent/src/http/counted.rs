//! The client's stream as hyper sees it: bytes are counted as they pass, and
//! the time of the last one is kept for the idle timer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::Live;
use crate::engine;
use crate::tls;

/// When bytes last passed.
pub(super) struct Activity {
    start: Instant,
    /// Milliseconds after `start`.
    last: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            start: engine::now(),
            last: AtomicU64::default(),
        }
    }
}

impl Activity {
    /// The time of the last byte, exact to the millisecond.
    pub(super) fn last_byte(&self) -> Instant {
        self.start + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }

    fn mark(&self) {
        let passed = engine::now()
            .saturating_duration_since(self.start)
            .as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        self.last.store(passed, Ordering::Relaxed);
    }
}

/// A counted stream.
pub(super) struct Counted {
    stream: tls::Stream,
    live: Arc<Live>,
    activity: Arc<Activity>,
}

impl Counted {
    /// Counts what passes through `stream` for `live`.
    pub(super) fn new(stream: tls::Stream, live: Arc<Live>, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            live,
            activity,
        }
    }

    /// The stream, no longer counted.
    pub(super) fn into_stream(self) -> tls::Stream {
        self.stream
    }

    fn wrote(&self, count: usize) {
        self.live.add_out(count);
        self.activity.mark();
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match ready!(Pin::new(&mut self.stream).poll_read(cx, buffer)) {
            // TLS without close_notify: common, and the end all the same.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(())),
            result => result?,
        }
        let count = buffer.filled().len().saturating_sub(before);
        self.live.add_in(count);
        self.activity.mark();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.wrote(count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.wrote(count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
