//! REST over HTTPS: serves a router behind [`incoming`], with a bound on the wait
//! for a request, also an idle connection's, and lets requests under way end when
//! it stops.
//!
//! HTTP/1.1 and nothing else: hyper's clock for a request's head runs from the
//! first moment of such a connection, and again from the end of each answer. An
//! HTTP/2 connection has no such clock; whoever answers pings could stay for ever.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::incoming::{self, Bounds};
use crate::limits::Shares;

/// For the head of a request, from the connection's begin or the last answer.
const HEAD: Duration = Duration::from_secs(15);
/// For requests under way when it stops.
const ENDING: Duration = Duration::from_secs(2);

/// TLS with a certificate of the fleet's authority, or a given one.
///
/// # Errors
/// When the protocol versions do not fit the provider, which they do.
pub(crate) fn tls(
    certificate: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves until told to stop.
pub(crate) async fn serve(
    router: axum::Router,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    stop: CancellationToken,
) {
    let bounds = Bounds {
        at_once: Shares::now().rest,
        // Nobody shows one here: a token says who calls.
        unproven: None,
    };
    let mut ready = incoming::accept(listener, tls, bounds, stop.clone());
    let connections = TaskTracker::new();
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => None,
            next = ready.recv() => next,
        };
        let Some(stream) = next else {
            break;
        };
        connections.spawn(connection(stream, router.clone(), HEAD, stop.clone()));
    }
    connections.close();
    // Whoever is slower than that has its answer: the end.
    let _ = tokio::time::timeout(ENDING, connections.wait()).await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: axum::Router,
    head: Duration,
    stop: CancellationToken,
) {
    let service = TowerToHyperService::new(router);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .keep_alive(true)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        // A client that went away, was too slow to ask, or talked nonsense.
        tracing::debug!(%error, "a connection broke");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::sync::Semaphore;

    use super::*;

    /// For what should happen at once.
    const SOON: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(50);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    /// A client's end of a served connection.
    fn served(router: &axum::Router, head: Duration) -> DuplexStream {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let stop = CancellationToken::new();
        tokio::spawn(connection(server, router.clone(), head, stop));
        client
    }

    fn answering() -> axum::Router {
        axum::Router::new().route("/", get(|| async { "answer" }))
    }

    /// All that comes until the server closes.
    async fn until_closed(client: &mut DuplexStream) -> String {
        let mut all = Vec::new();
        let reading = client.read_to_end(&mut all);
        tokio::time::timeout(SOON, reading).await.unwrap().unwrap();
        String::from_utf8(all).unwrap()
    }

    async fn until_answered(client: &mut DuplexStream) {
        let mut answer = Vec::new();
        while !answer.ends_with(b"answer") {
            let reading = client.read_buf(&mut answer);
            let count = tokio::time::timeout(SOON, reading).await.unwrap().unwrap();
            assert_ne!(count, 0, "closed without an answer");
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_client_that_never_says_a_byte_is_closed() {
        let mut client = served(&answering(), SHORT);
        assert_eq!(until_closed(&mut client).await, "");
    }

    #[tokio::test]
    async fn a_client_that_begins_a_request_and_stops_is_closed() {
        let mut client = served(&answering(), SHORT);
        client.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
        assert!(!until_closed(&mut client).await.contains("200"));
    }

    #[tokio::test]
    async fn a_kept_alive_connection_serves_again_and_is_closed_when_idle() {
        let mut client = served(&answering(), SHORT);
        for _ in 0..2 {
            client.write_all(REQUEST).await.unwrap();
            until_answered(&mut client).await;
        }
        assert_eq!(until_closed(&mut client).await, "");
    }

    #[tokio::test]
    async fn a_request_under_way_outlives_the_time_for_its_head() {
        let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (entered, opened) = (Arc::clone(&begun), Arc::clone(&gate));
        let slow = move || async move {
            entered.add_permits(1);
            opened.acquire().await.unwrap().forget();
            "answer"
        };
        let router = axum::Router::new().route("/", get(slow));
        let mut client = served(&router, SHORT);
        client.write_all(REQUEST).await.unwrap();
        let entered = tokio::time::timeout(SOON, begun.acquire()).await;
        entered.unwrap().unwrap().forget();
        // A connection that came later is closed: the time has passed.
        assert_eq!(until_closed(&mut served(&router, SHORT)).await, "");
        gate.add_permits(1);
        until_answered(&mut client).await;
    }

    #[tokio::test]
    async fn http_2_is_neither_offered_nor_spoken() {
        let mut client = served(&answering(), Duration::from_secs(3600));
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        client.write_all(preface).await.unwrap();
        assert_eq!(until_closed(&mut client).await, "");

        let none = rustls::server::ResolvesServerCertUsingSni::new();
        let offered = tls(Arc::new(none)).unwrap();
        assert_eq!(offered.alpn_protocols, [b"http/1.1"]);
    }
}
