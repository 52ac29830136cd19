//! HTTP inside TLS: every request of a kept connection goes to the app with headers that
//! tell about the client, none of them forged; a WebSocket becomes a relay of bytes.
//!
//! `h1` and `h2` speak with the client by hyper, `exchange` does one request, the same
//! for both, and `upstream` keeps the connections to the app. Bodies are streamed, never
//! collected. Owns neither TLS (`terminator`), nor where requests end
//! (`core::framing`), nor the headers' rules (`core::forwarded`).

mod body;
mod counted;
mod exchange;
mod h1;
mod h2;
mod page;
mod upstream;
mod websocket;

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use tidegate_core::document::Versions;
use tidegate_core::snapshot::{Inside, Work};

use self::exchange::Exchange;
use self::h1::End;
use crate::cause::{Cause, Phase, Served};
use crate::connection::Connection;
use crate::proxy::Arrival;
use crate::state::Listener;
use crate::tls;

/// What is offered by ALPN, best first.
pub(crate) fn alpn(versions: Versions) -> Vec<Vec<u8>> {
    let h2 = versions.h2().then(|| b"h2".to_vec());
    let h1 = versions.h1().then(|| b"http/1.1".to_vec());
    h2.into_iter().chain(h1).collect()
}

/// Serves the requests of one client connection.
pub(crate) async fn serve(
    client: tls::Stream,
    connection: &mut Connection,
    listener: Arc<Listener>,
    arrival: Arrival,
) -> Served {
    let connection = &*connection;
    connection.enter(Phase::Request);
    let spec = Arc::clone(&listener.spec);
    let Work::Terminate(terminate) = &spec.work else {
        return Err(Cause::Internal);
    };
    let Inside::Http { forwarded, http } = &terminate.inside else {
        return Err(Cause::Internal);
    };
    let agreed = connection.live.tls().and_then(|tls| tls.alpn.as_deref());
    let is_h2 = agreed == Some(b"h2");
    let exchange = Exchange::new(connection, listener, arrival, http, *forwarded);
    let result = match is_h2 || !http.versions.h1() {
        true => h2::serve(client, &exchange, http)
            .await
            .map(|()| End::Closed),
        false => h1::serve(client, &exchange, http).await,
    };
    drop(exchange);
    let cause = match result {
        Ok(End::Upgraded(upgraded)) => {
            let (client, read, upgrade) = *upgraded;
            connection.enter(Phase::Relay);
            return websocket::carry(client, read, upgrade.upstream, upgrade.held, connection)
                .await;
        }
        Ok(End::Closed) if connection.worker.draining.is_cancelled() => Cause::Drained,
        Ok(End::Closed) => Cause::ClientClosed,
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

/// The end that a connection has anyway, or that of its age, whichever is sooner.
fn died_of_age(connection: &Connection, end: Instant, cause: Cause) -> (Instant, Cause) {
    match connection.end_of_life() {
        Some(age) if age < end => (age, Cause::MaxAge),
        _ => (end, cause),
    }
}

fn cause_of(error: &hyper::Error, exchange: &Exchange<'_>) -> Cause {
    tracing::debug!(error = %error, "HTTP connection ended");
    if error.is_timeout() {
        return match exchange.connection.live.requests() {
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
        // The body that we hand on broke off. It is the app's, which does not get on
        // without the client's.
        return match exchange.has_broken_off() {
            true => Cause::ClientClosed,
            false => Cause::UpstreamReset,
        };
    }
    match is_of_socket(error) {
        true => Cause::ClientReset,
        // Cancelled before we have seen them, the library counts requests.
        false if is_flood(error) => Cause::ResetFlood,
        // What the library refuses of HTTP/2.
        false => Cause::BadRequest,
    }
}

/// Whether the library has had enough of a client's frames (RFC 9113 section 7).
fn is_flood(error: &hyper::Error) -> bool {
    let source = error.source();
    let source = source.and_then(|source| source.downcast_ref::<::h2::Error>());
    source.and_then(::h2::Error::reason) == Some(::h2::Reason::ENHANCE_YOUR_CALM)
}

/// Whether the connection itself failed, and not what came by it.
fn is_of_socket(error: &hyper::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error.is::<io::Error>() {
            return true;
        }
        source = error.source();
    }
    false
}
