//! TLS before HTTP: accepts, shakes hands with a bound on time and number, and
//! hands on what is ready. Both servers of the control plane stand behind it, so
//! that a client that says nothing costs one place for ten seconds, and never the
//! accept loop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tidegate_core::backoff::Backoff;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::ca::ServerIdentity;

/// For one handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way at once; more wait in the kernel's queue.
const AT_ONCE: usize = 512;
/// Ready connections that wait to be served.
const READY: usize = 64;

/// Connections whose handshake is done.
pub(crate) type Ready = mpsc::Receiver<TlsStream<TcpStream>>;

/// Accepts on `listener` until told to stop.
pub(crate) fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    stop: CancellationToken,
) -> Ready {
    let (sender, ready) = mpsc::channel(READY);
    let accepting = Accepting {
        acceptor: TlsAcceptor::from(config),
        at_once: Arc::new(Semaphore::new(AT_ONCE)),
        ready: sender,
    };
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = accepting.run(listener) => {}
        }
    });
    ready
}

struct Accepting {
    acceptor: TlsAcceptor,
    at_once: Arc<Semaphore>,
    ready: mpsc::Sender<TlsStream<TcpStream>>,
}

impl Accepting {
    async fn run(self, listener: TcpListener) {
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        let mut failures = 0;
        loop {
            let Ok(permit) = Arc::clone(&self.at_once).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    failures = 0;
                    self.shake_hands(stream, permit);
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(%error, "accept failed");
                    }
                    tokio::time::sleep(backoff.delay(failures, crate::clock::draw())).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    fn shake_hands(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let (acceptor, ready) = (self.acceptor.clone(), self.ready.clone());
        tokio::spawn(async move {
            let peer = stream.peer_addr();
            let shaking = async {
                stream.set_nodelay(true)?;
                acceptor.accept(stream).await
            };
            let shaken = tokio::time::timeout(HANDSHAKE, shaking).await;
            match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                // Refused: the server behind is gone, and so are we.
                Ok(stream) => drop(ready.send(stream).await),
                Err(error) => tracing::debug!(peer = ?peer.ok(), %error, "no handshake"),
            }
            drop(permit);
        });
    }
}

/// A server certificate that can be replaced while connections come.
pub(crate) struct Replaceable(arc_swap::ArcSwap<CertifiedKey>);

impl Replaceable {
    /// With a first one.
    ///
    /// # Errors
    /// When the key is of a kind that TLS does not use, or not the chain's.
    pub(crate) fn new(identity: ServerIdentity) -> Result<Self, rustls::Error> {
        Ok(Self(arc_swap::ArcSwap::from_pointee(certified(identity)?)))
    }

    /// From now on with another one.
    ///
    /// # Errors
    /// As [`Replaceable::new`]; the old one stays.
    pub(crate) fn replace(&self, identity: ServerIdentity) -> Result<(), rustls::Error> {
        self.0.store(Arc::new(certified(identity)?));
        Ok(())
    }
}

impl std::fmt::Debug for Replaceable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Replaceable")
    }
}

impl ResolvesServerCert for Replaceable {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn certified(identity: ServerIdentity) -> Result<CertifiedKey, rustls::Error> {
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&identity.key)?;
    let certified = CertifiedKey::new(identity.chain, key);
    certified.keys_match()?;
    Ok(certified)
}
