//! HTTP/1.1 from the client. hyper parses and writes while there is something to do; a
//! connection at rest is its stream and nothing else, and holds none of its buffers.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tidegate_core::document::Http;
use tidegate_core::framing::Framing;
use tokio::io::AsyncWriteExt;

use super::counted::{Activity, Counted};
use super::exchange::{Exchange, Upgrade};
use super::{cause_of, died_of_age};
use crate::cause::{Cause, Phase};
use crate::engine::{self, sleep_until, timeout_at};
use crate::linger::linger;
use crate::tls;

/// From one look at a connection to the next; after as much rest its buffers go.
const LOOK: Duration = Duration::from_secs(1);
/// Of a body that was refused, as much as comes while we linger.
const WHOLE: u64 = u64::MAX;
/// For the answer to a head that took too long.
const FAREWELL: Duration = Duration::from_secs(1);
/// RFC 9110 section 15.5.9.
const TOO_LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What has become of a client connection.
pub(super) enum End {
    /// The client ended, or said that it would (`Connection: close`).
    Closed,
    /// It carries another protocol now: the stream, what was read of it, and the app's.
    Upgraded(Box<(tls::Stream, Vec<u8>, Upgrade)>),
}

/// Why hyper no longer has the stream.
enum Turn {
    Ended,
    /// Nothing was asked for a while.
    Rests,
    /// A head takes too long, and nothing else is going on.
    HeaderTimeout,
}

/// Serves requests until there are no more.
pub(super) async fn serve(
    client: tls::Stream,
    exchange: &Exchange<'_>,
    http: &Http,
) -> Result<End, Cause> {
    let connection = exchange.connection;
    let activity = Activity::new();
    let most = http.max_header_bytes.get();
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let fields = usize::try_from(http.max_headers.get()).unwrap_or(usize::MAX);
    let framing = Framing::new(most, fields);
    let mut io = Counted::h1(client, &connection.live, &activity, framing);
    let mut builder = Builder::new();
    builder
        // A client that has closed its side is taken to have left, as nginx does:
        // whatever was done for it ends at once, instead of when the app answers.
        .half_close(false)
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_buf_size(most)
        .header_read_timeout(None);
    // More than its own 100 cost it an allocation for each head.
    if fields > 100 {
        builder.max_headers(fields);
    }
    loop {
        let service = service_fn(|request| exchange.answer(request));
        let mut serving = builder.serve_connection(TokioIo::new(io), service);
        let turn = match turn(&mut serving, exchange, &activity, http).await {
            Ok(turn) => turn,
            Err(cause) => {
                if cause == Cause::BadRequest {
                    let io = serving.into_parts().io.into_inner();
                    Box::pin(linger(io.into_stream(), WHOLE)).await;
                }
                return Err(cause);
            }
        };
        let parts = serving.into_parts();
        io = parts.io.into_inner();
        match (turn, exchange.take_upgrade()) {
            (Turn::Ended, Some(upgrade)) => {
                let upgraded = (io.into_stream(), parts.read_buf.into(), upgrade);
                return Ok(End::Upgraded(Box::new(upgraded)));
            }
            (Turn::Ended, None) => {
                if !activity.rests() {
                    Box::pin(linger(io.into_stream(), WHOLE)).await;
                }
                return Ok(End::Closed);
            }
            (Turn::HeaderTimeout, _) => {
                farewell(io).await;
                return Err(Cause::HeaderTimeout);
            }
            (Turn::Rests, _) => {}
        }
        io.unread(&parts.read_buf);
        if !rest(&mut io, exchange).await? {
            return Ok(End::Closed);
        }
    }
}

type Serving<S> = hyper::server::conn::http1::Connection<TokioIo<Counted>, S>;

async fn turn<S, B>(
    serving: &mut Serving<S>,
    exchange: &Exchange<'_>,
    activity: &Rc<Activity>,
    http: &Http,
) -> Result<Turn, Cause>
where
    Serving<S>: Future<Output = hyper::Result<()>> + Unpin,
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connection = exchange.connection;
    let draining = &connection.worker.draining;
    let mut is_draining = false;
    loop {
        // Traffic moves the expiry without waking this timer.
        let look = expiry(exchange, activity, http).0.min(engine::now() + LOOK);
        tokio::select! {
            biased;
            result = &mut *serving => {
                return match result {
                    // Between requests the library takes it for an end.
                    _ if activity.is_broken() => Err(Cause::ClientReset),
                    Ok(()) => Ok(Turn::Ended),
                    Err(error) => Err(cause_of(&error, exchange)),
                };
            }
            () = draining.cancelled(), if !is_draining => {
                is_draining = true;
                std::pin::Pin::new(&mut *serving).graceful_shutdown();
            }
            () = sleep_until(look) => {
                let now = engine::now();
                let (expiry, cause) = expiry(exchange, activity, http);
                let is_idle = exchange.active.get() == 0;
                if expiry <= now {
                    return match cause {
                        Cause::HeaderTimeout if is_idle => Ok(Turn::HeaderTimeout),
                        cause => Err(cause),
                    };
                }
                let has_rested = activity.last_byte() + LOOK <= now;
                if is_idle && activity.rests() && has_rested && !is_draining {
                    return Ok(Turn::Rests);
                }
            }
        }
    }
}

/// Until the next request begins; answers whether one does.
async fn rest(io: &mut Counted, exchange: &Exchange<'_>) -> Result<bool, Cause> {
    let connection = exchange.connection;
    let keep_alive = connection.spec.policy.timeouts.keep_alive.duration();
    let end = exchange.active.rests_since() + keep_alive;
    let (end, cause) = match connection.live.requests() {
        0 => (connection.first_byte_deadline(), Cause::FirstByteTimeout),
        _ => (end, Cause::KeepAliveTimeout),
    };
    let (end, cause) = died_of_age(connection, end, cause);
    connection.enter(Phase::Request);
    tokio::select! {
        biased;
        came = poll_fn(|cx| io.poll_ahead(cx)) => match came {
            Ok(true) => Ok(true),
            Ok(false) => {
                // It has ended; so do we, in the way of TLS.
                let _gone = timeout_at(engine::now() + FAREWELL, io.shutdown()).await;
                Ok(false)
            }
            Err(_) => Err(Cause::ClientReset),
        },
        () = connection.worker.draining.cancelled() => Err(Cause::Drained),
        () = sleep_until(end) => Err(cause),
    }
}

async fn farewell(mut io: Counted) {
    let saying = async {
        io.write_all(TOO_LATE).await?;
        io.shutdown().await
    };
    // Who is that slow may not hear it.
    let _said = timeout_at(engine::now() + FAREWELL, saying).await;
}

/// When and why the connection ends if nothing more happens.
fn expiry(exchange: &Exchange<'_>, activity: &Activity, http: &Http) -> (Instant, Cause) {
    let connection = exchange.connection;
    let timeouts = &connection.spec.policy.timeouts;
    let is_first = connection.live.requests() == 0;
    let mut end = match (is_first, exchange.active.get()) {
        (true, _) => (connection.first_byte_deadline(), Cause::FirstByteTimeout),
        (false, 0) => {
            let end = exchange.active.rests_since() + timeouts.keep_alive.duration();
            // What was answered may still be on its way to a slow reader.
            match activity.rests() {
                true => (end, Cause::KeepAliveTimeout),
                false => (
                    activity.last_byte() + timeouts.idle.duration(),
                    Cause::IdleTimeout,
                ),
            }
        }
        (false, _) => (
            activity.last_byte() + timeouts.idle.duration(),
            Cause::IdleTimeout,
        ),
    };
    if let Some(since) = activity.head_since() {
        let late = since + http.header_timeout.duration();
        if late < end.0 {
            end = (late, Cause::HeaderTimeout);
        }
    }
    died_of_age(connection, end.0, end.1)
}
