//! REST over HTTPS: serves a router behind [`incoming`], with a bound on idle
//! time before a request and on connections at once, and lets requests under way
//! end when it stops.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::incoming;

/// Connections at once; more wait for their turn.
const AT_ONCE: usize = 1024;
/// For the head of a request, also the first of a connection.
const HEAD: Duration = Duration::from_secs(15);
/// HTTP/2 pings, also while idle.
const KEEPALIVE: Duration = Duration::from_secs(20);
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
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves until told to stop.
pub(crate) async fn serve(
    router: axum::Router,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    stop: CancellationToken,
) {
    let mut ready = incoming::accept(listener, tls, stop.clone());
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let connections = TaskTracker::new();
    loop {
        let next = async {
            let permit = Arc::clone(&at_once).acquire_owned().await.ok()?;
            Some((ready.recv().await?, permit))
        };
        let next = tokio::select! {
            () = stop.cancelled() => None,
            next = next => next,
        };
        let Some((stream, permit)) = next else {
            break;
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            connection(stream, router, stop).await;
            drop(permit);
        });
    }
    connections.close();
    // Whoever is slower than that has its answer: the end.
    let _ = tokio::time::timeout(ENDING, connections.wait()).await;
}

async fn connection(stream: TlsStream<TcpStream>, router: axum::Router, stop: CancellationToken) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE);
    let service = TowerToHyperService::new(router);
    let serving = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        // A client that went away, or talked nonsense.
        tracing::debug!(%error, "a connection broke");
    }
}
