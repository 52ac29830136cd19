//! HTTP/2 from the client (RFC 9113), WebSockets over it included (RFC 8441). All
//! streams of a connection are futures of its one task: they end with it, whatever ends
//! it, and none is counted or cut apart from it.
//!
//! What a client can make us hold is bounded: streams, windows, header lists, and what
//! waits to be sent. So is what it can make us do in vain (rapid reset,
//! CVE-2023-44487); the h2 crate bounds CONTINUATION frames, and answers SETTINGS and
//! PING one at a time.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tidegate_core::document::Http;

use super::counted::{Activity, Counted};
use super::exchange::Exchange;
use super::{cause_of, died_of_age, websocket};
use crate::cause::Cause;
use crate::connection::Connection;
use crate::engine::{self, sleep_until};
use crate::tls;

/// Unread bytes of one stream, and of all of a connection.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Unsent bytes of one stream.
const UNSENT: usize = 32 << 10;
/// Streams whose errors were ours to tell, and requests that were cancelled, before a
/// client that does little else is sent away.
const RESETS: u32 = 100;
/// From one look at the connection to the next.
const LOOK: Duration = Duration::from_secs(60);
/// For the client to hear GOAWAY and end.
const FAREWELL: Duration = Duration::from_secs(1);

type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// What is begun by streams, on its way to the connection's task.
#[derive(Clone, Default)]
struct Begun<'a>(Rc<RefCell<Vec<Task<'a>>>>);

impl<'a, F: Future<Output = ()> + 'a> Executor<F> for Begun<'a> {
    fn execute(&self, task: F) {
        self.0.borrow_mut().push(Box::pin(task));
    }
}

/// A request that may be dropped before it is answered, and is counted then.
struct Unanswered<'a> {
    cancelled: &'a Cell<u32>,
    is_answered: bool,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.cancelled.set(self.cancelled.get().saturating_add(1));
        }
    }
}

/// Serves requests until the connection ends.
pub(super) async fn serve(
    client: tls::Stream,
    exchange: &Exchange<'_>,
    http: &Http,
) -> Result<(), Cause> {
    let connection = exchange.connection;
    let activity = Activity::new();
    let cancelled = Cell::new(0);
    let begun = Begun::default();
    let service = service_fn(|request| async {
        let mut unanswered = Unanswered {
            cancelled: &cancelled,
            is_answered: false,
        };
        let answer = exchange.answer(request).await;
        unanswered.is_answered = true;
        answer
    });
    let io = TokioIo::new(Counted::h2(client, &activity));
    let serving = Builder::new(begun.clone())
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(UNSENT)
        .max_concurrent_streams(http.max_concurrent_streams.get())
        .max_header_list_size(http.max_header_bytes.get())
        .max_local_error_reset_streams(usize::try_from(RESETS).ok())
        .enable_connect_protocol()
        .serve_connection(io, service);
    let mut serving = std::pin::pin!(serving);
    let mut tasks = FuturesUnordered::new();
    let mut closing: Option<(Instant, Cause)> = None;
    let mut is_draining = false;
    let idle = connection.spec.policy.timeouts.idle.duration();
    loop {
        let look = closing.unwrap_or_else(|| expiry(exchange, &activity)).0;
        let step = poll_fn(|cx| {
            loop {
                if let Poll::Ready(result) = serving.as_mut().poll(cx) {
                    return Poll::Ready(result.map_err(|e| cause_of(&e, exchange)));
                }
                tasks.extend(begun.0.take());
                while let Poll::Ready(Some(())) = tasks.poll_next_unpin(cx) {}
                if is_flood(connection, cancelled.get()) {
                    return Poll::Ready(Err(Cause::ResetFlood));
                }
                while let Some(upgrade) = exchange.take_upgrade() {
                    begun.execute(websocket::carry_stream(upgrade, connection));
                }
                if begun.0.borrow().is_empty() {
                    return Poll::Pending;
                }
            }
        });
        tokio::select! {
            biased;
            ended = step => return match closing {
                Some((_, cause)) => Err(cause),
                None => ended,
            },
            () = connection.worker.draining.cancelled(), if !is_draining => {
                is_draining = true;
                serving.as_mut().graceful_shutdown();
            }
            // Traffic moves the expiry without waking this timer; the end of the last
            // request may bring it forward.
            () = sleep_until(look.min(engine::now() + idle.min(LOOK))) => {
                let now = engine::now();
                match closing.unwrap_or_else(|| expiry(exchange, &activity)) {
                    (end, _) if end > now => {}
                    (_, cause) if closing.is_some() => return Err(cause),
                    (_, cause) => {
                        serving.as_mut().graceful_shutdown();
                        closing = Some((now + FAREWELL, cause));
                    }
                }
            }
        }
    }
}

/// Whether most of what the client asks it also takes back.
fn is_flood(connection: &Connection, cancelled: u32) -> bool {
    cancelled > RESETS && cancelled > connection.live.requests() / 2
}

/// When and why the connection ends if nothing more happens. Between requests neither
/// PING nor a head that comes byte by byte moves it.
fn expiry(exchange: &Exchange<'_>, activity: &Activity) -> (Instant, Cause) {
    let connection = exchange.connection;
    let timeouts = &connection.spec.policy.timeouts;
    let (end, cause) = if connection.live.requests() == 0 {
        (connection.first_byte_deadline(), Cause::FirstByteTimeout)
    } else if exchange.active.get() == 0 {
        let end = exchange.active.rests_since() + timeouts.keep_alive.duration();
        (end, Cause::KeepAliveTimeout)
    } else {
        let end = activity.last_byte() + timeouts.idle.duration();
        (end, Cause::IdleTimeout)
    };
    died_of_age(connection, end, cause)
}
