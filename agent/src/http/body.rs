//! Bodies on their way, never collected: counted where frames are not, bounded, and
//! with what ends when they do.

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::upstream::Lease;
use crate::connection::Live;
use crate::engine;
use crate::worker::Worker;

type BoxError = Box<dyn Error + Send + Sync>;

/// How far the body of a request has come.
pub(super) struct Progress {
    last: Cell<Instant>,
    is_over: Cell<bool>,
    is_too_large: Cell<bool>,
    has_broken_off: Rc<Cell<bool>>,
}

impl Progress {
    /// Nothing of it has come; `has_broken_off` is set when the client leaves before its end.
    pub(super) fn new(has_broken_off: &Rc<Cell<bool>>) -> Rc<Self> {
        Rc::new(Self {
            last: Cell::new(engine::now()),
            is_over: Cell::new(false),
            is_too_large: Cell::new(false),
            has_broken_off: Rc::clone(has_broken_off),
        })
    }

    /// When it last moved.
    pub(super) fn last(&self) -> Instant {
        self.last.get()
    }

    /// Whether all of it is on its way to the app.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Whether it is larger than it may be.
    pub(super) fn is_too_large(&self) -> bool {
        self.is_too_large.get()
    }
}

/// What goes to the app: the client's body, or none when a request is sent again.
pub(super) struct Upload {
    body: Option<Incoming>,
    left: u64,
    progress: Rc<Progress>,
    counted: Option<Arc<Live>>,
}

impl Upload {
    /// A client's body of at most `limit` bytes; counted for `counted`.
    pub(super) fn new(
        body: Incoming,
        limit: u64,
        progress: &Rc<Progress>,
        counted: Option<Arc<Live>>,
    ) -> Self {
        progress.is_over.set(body.is_end_stream());
        Self {
            body: Some(body),
            left: limit,
            progress: Rc::clone(progress),
            counted,
        }
    }

    /// Nothing.
    pub(super) fn none(progress: &Rc<Progress>) -> Self {
        progress.is_over.set(true);
        Self {
            body: None,
            left: 0,
            progress: Rc::clone(progress),
            counted: None,
        }
    }

    fn admit(&mut self, frame: &Frame<Bytes>) -> Result<(), BoxError> {
        self.progress.last.set(engine::now());
        let size = frame.data_ref().map_or(0, Bytes::len);
        if let Some(live) = &self.counted {
            live.add_in(size);
        }
        match self.left.checked_sub(size as u64) {
            Some(left) => self.left = left,
            None => {
                self.progress.is_too_large.set(true);
                return Err("the body is larger than max_body_bytes".into());
            }
        }
        Ok(())
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        let is_over = frame.is_none() || body.is_end_stream();
        Poll::Ready(match frame {
            None => {
                self.progress.is_over.set(true);
                None
            }
            Some(Err(error)) => {
                self.progress.has_broken_off.set(true);
                Some(Err(error.into()))
            }
            Some(Ok(frame)) => Some(self.admit(&frame).map(|()| {
                self.progress.is_over.set(is_over);
                frame
            })),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = || SizeHint::with_exact(0);
        self.body.as_ref().map_or_else(none, Body::size_hint)
    }
}

/// What goes to the client: the app's body, or a page of ours.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every answer is the app's"
)]
pub(super) enum Download {
    App(Answer),
    Page(Full<Bytes>),
}

/// The app's body, and the connection it comes by.
pub(super) struct Answer {
    body: Incoming,
    lease: Option<Lease>,
    worker: Arc<Worker>,
    counted: Option<Arc<Live>>,
    /// Taken from when it is over.
    _active: Active,
}

/// Requests at work on one client connection.
#[derive(Clone)]
pub(super) struct Count(Rc<(Cell<usize>, Cell<Instant>)>);

impl Default for Count {
    fn default() -> Self {
        Self(Rc::new((Cell::new(0), Cell::new(engine::now()))))
    }
}

impl Count {
    /// So many.
    pub(super) fn get(&self) -> usize {
        self.0.0.get()
    }

    /// When the last one was over.
    pub(super) fn rests_since(&self) -> Instant {
        self.0.1.get()
    }

    /// One more, until it is dropped.
    pub(super) fn enter(&self) -> Active {
        self.0.0.set(self.get() + 1);
        Active(self.clone())
    }
}

/// One request at work.
pub(super) struct Active(Count);

impl Drop for Active {
    fn drop(&mut self) {
        let Count(count) = &self.0;
        count.0.set(count.0.get().saturating_sub(1));
        count.1.set(engine::now());
    }
}

impl Answer {
    /// What comes by `lease`.
    pub(super) fn new(
        body: Incoming,
        lease: Lease,
        worker: &Arc<Worker>,
        counted: Option<Arc<Live>>,
        active: Active,
    ) -> Self {
        let mut answer = Self {
            body,
            lease: Some(lease),
            worker: Arc::clone(worker),
            counted,
            _active: active,
        };
        answer.release_at_end();
        answer
    }

    /// At once, not when it is asked again: nobody asks beyond a known length. One that
    /// breaks off takes its connection with it.
    fn release_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.release(&self.worker);
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Page(page) => {
                let frame = ready!(Pin::new(page).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|never: Infallible| match never {})))
            }
            Self::App(answer) => {
                let frame = ready!(Pin::new(&mut answer.body).poll_frame(cx));
                if let (Some(Ok(frame)), Some(live)) = (&frame, &answer.counted) {
                    live.add_out(frame.data_ref().map_or(0, Bytes::len));
                }
                if frame.is_none()
                    && let Some(lease) = answer.lease.take()
                {
                    lease.release(&answer.worker);
                }
                answer.release_at_end();
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::App(answer) => answer.body.is_end_stream(),
            Self::Page(page) => page.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::App(answer) => answer.body.size_hint(),
            Self::Page(page) => page.size_hint(),
        }
    }
}
