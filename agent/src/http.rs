//! HTTP/1.1 inside TLS: every request of a kept connection goes to the app with
//! headers that tell about the client, none of them forged; a WebSocket
//! upgrade becomes a relay of bytes.
//!
//! A client connection keeps one connection to the app for itself. hyper frames
//! messages on both sides; bodies are streamed, never collected. Owns neither
//! TLS (`terminator`) nor the headers' rules (`core::forwarded`).

mod counted;
mod exchange;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use self::counted::{Activity, Counted};
use self::exchange::{Exchange, Upgrade};
use crate::cause::{Cause, Phase, Served};
use crate::connection::Connection;
use crate::engine::{self, HyperTimer, TcpStream, sleep_until};
use crate::proxy::Arrival;
use crate::relay::{self, Leftover};
use crate::state::Listener;
use crate::tls;

/// The head of a request, at most. Node.js itself takes 16 KiB.
const LARGEST_HEAD: usize = 64 << 10;

/// Serves the requests of one client connection.
pub(crate) async fn serve(
    client: tls::Stream,
    connection: &mut Connection,
    listener: Arc<Listener>,
    arrival: Arrival,
    forwarded: bool,
) -> Served {
    let connection = &*connection;
    connection.enter(Phase::Request);
    let activity = Arc::new(Activity::default());
    let exchange = Exchange::new(connection, listener, arrival, forwarded);
    let result = requests(client, connection, &activity, &exchange).await;
    let upgrade = exchange.take_upgrade();
    drop(exchange);
    if let (Ok(()), Some(upgrade)) = (&result, upgrade) {
        connection.enter(Phase::Relay);
        return websocket(upgrade, connection).await;
    }
    let cause = match result {
        // The client ended, or said that it would (`Connection: close`).
        Ok(()) if connection.worker.draining.is_cancelled() => Cause::Drained,
        Ok(()) => Cause::ClientClosed,
        Err(cause) => cause,
    };
    if matches!(cause, Cause::KeepAliveTimeout | Cause::Drained) {
        connection.enter(Phase::Request);
    }
    if connection.live.requests() == 0 {
        Err(cause)
    } else {
        Ok(cause)
    }
}

/// Until the connection ends or is upgraded.
async fn requests(
    client: tls::Stream,
    connection: &Connection,
    activity: &Arc<Activity>,
    exchange: &Exchange<'_>,
) -> Result<(), Cause> {
    let timeouts = connection.spec.policy.timeouts;
    let io = Counted::new(client, Arc::clone(&connection.live), Arc::clone(activity));
    let service = service_fn(|request| exchange.answer(request));
    let serving = hyper::server::conn::http1::Builder::new()
        // A client that has closed its side is taken to have left, as nginx does:
        // whatever was done for it ends at once, instead of when the app answers.
        .half_close(false)
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_buf_size(LARGEST_HEAD)
        .timer(HyperTimer)
        .header_read_timeout(timeouts.keep_alive.duration())
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    tokio::pin!(serving);
    let idle = timeouts.idle.duration();
    let mut draining = false;
    loop {
        // Traffic moves the expiry without waking this timer; the first request
        // may bring it forward, so it is looked at again after `idle` at most.
        let look = expiry(connection, activity, idle)
            .0
            .min(engine::now() + idle);
        tokio::select! {
            biased;
            result = &mut serving => return result.map_err(|e| cause_of(&e, connection)),
            () = connection.worker.draining.cancelled(), if !draining => {
                draining = true;
                serving.as_mut().graceful_shutdown();
            }
            () = sleep_until(look) => {
                let (expiry, cause) = expiry(connection, activity, idle);
                if expiry <= engine::now() {
                    return Err(cause);
                }
            }
        }
    }
}

/// When and why the connection ends if nothing more happens. Between two
/// requests hyper's own timer (`keep_alive`) is the shorter one.
fn expiry(connection: &Connection, activity: &Activity, idle: Duration) -> (Instant, Cause) {
    let silence = if connection.live.requests() == 0 {
        (connection.first_byte_deadline(), Cause::FirstByteTimeout)
    } else {
        (activity.last_byte() + idle, Cause::IdleTimeout)
    };
    match connection.end_of_life() {
        Some(end) if end < silence.0 => (end, Cause::MaxAge),
        _ => silence,
    }
}

fn cause_of(error: &hyper::Error, connection: &Connection) -> Cause {
    tracing::debug!(error = %error, "HTTP connection ended");
    if error.is_timeout() {
        return match connection.live.requests() {
            0 => Cause::FirstByteTimeout,
            _ => Cause::KeepAliveTimeout,
        };
    }
    if error.is_parse() || error.is_parse_too_large() {
        return Cause::BadRequest;
    }
    if error.is_incomplete_message() {
        return Cause::ClientClosed;
    }
    if error.is_user() {
        // The body that we hand on broke off, and the body is the app's.
        return Cause::UpstreamReset;
    }
    Cause::ClientReset
}

/// After `101 Switching Protocols` both connections carry bytes.
async fn websocket(upgrade: Upgrade, connection: &Connection) -> Served {
    let Upgrade {
        client,
        upstream,
        held,
    } = upgrade;
    let (client, upstream) = tokio::try_join!(client, upstream).map_err(|error| {
        tracing::debug!(%error, "upgrade failed");
        Cause::ClientReset
    })?;
    let client = client
        .downcast::<TokioIo<Counted>>()
        .map_err(|_| Cause::Internal)?;
    let upstream = upstream
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| Cause::Internal)?;
    let leftover = Leftover {
        from_client: client.read_buf.into(),
        from_upstream: upstream.read_buf.into(),
    };
    let cause = relay::run_after(
        client.io.into_inner().into_stream(),
        upstream.io.into_inner(),
        leftover,
        connection,
    )
    .await;
    drop(held);
    Ok(cause)
}
