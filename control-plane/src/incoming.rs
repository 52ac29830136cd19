//! TLS before HTTP: accepts, shakes hands with a bound on time and number, and
//! hands on what is ready. Both servers of the control plane stand behind it, so
//! that a client that says nothing costs one place for ten seconds, and never the
//! accept loop; and so that neither server takes descriptors from the other.
//!
//! A place is taken before a connection is accepted, travels with it, and is given
//! back when it is dropped.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tidegate_core::backoff::Backoff;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::ca::ServerIdentity;

/// For one handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way at once; more wait in the kernel's queue.
const AT_ONCE: usize = 512;
/// Ready connections that wait to be served.
const READY: usize = 64;

/// Connections whose handshake is done.
pub(crate) type Ready = mpsc::Receiver<Bounded>;

/// What a server allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Connections at once, from accept to end; more wait in the kernel's queue.
    pub(crate) at_once: usize,
    /// How long a connection lasts that showed no client certificate. `None` where
    /// nobody shows one.
    pub(crate) unproven: Option<Duration>,
}

/// Accepts on `listener` until told to stop.
pub(crate) fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    bounds: Bounds,
    stop: CancellationToken,
) -> Ready {
    let (accepting, ready) = Accepting::new(config, bounds);
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
    shaking: Arc<Semaphore>,
    places: Arc<Semaphore>,
    unproven: Option<Duration>,
    ready: mpsc::Sender<Bounded>,
}

impl Accepting {
    fn new(config: Arc<ServerConfig>, bounds: Bounds) -> (Self, Ready) {
        let (sender, ready) = mpsc::channel(READY);
        let accepting = Self {
            acceptor: TlsAcceptor::from(config),
            shaking: Arc::new(Semaphore::new(AT_ONCE)),
            places: Arc::new(Semaphore::new(bounds.at_once)),
            unproven: bounds.unproven,
            ready: sender,
        };
        (accepting, ready)
    }

    async fn run(self, listener: TcpListener) {
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        let mut failures = 0;
        loop {
            let Ok(shaking) = Arc::clone(&self.shaking).acquire_owned().await else {
                return;
            };
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    failures = 0;
                    self.shake_hands(stream, place, shaking);
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

    fn shake_hands(
        &self,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
        shaking: OwnedSemaphorePermit,
    ) {
        let (acceptor, ready) = (self.acceptor.clone(), self.ready.clone());
        let unproven = self.unproven;
        tokio::spawn(async move {
            let peer = stream.peer_addr();
            let handshake = async {
                stream.set_nodelay(true)?;
                acceptor.accept(stream).await
            };
            let shaken = tokio::time::timeout(HANDSHAKE, handshake).await;
            match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                // Refused: the server behind is gone, and so are we.
                Ok(stream) => drop(ready.send(Bounded::new(stream, place, unproven)).await),
                Err(error) => tracing::debug!(peer = ?peer.ok(), %error, "no handshake"),
            }
            drop(shaking);
        });
    }
}

/// A connection that has a place, and perhaps an end.
pub(crate) struct Bounded {
    stream: TlsStream<TcpStream>,
    end: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Bounded {
    fn new(
        stream: TlsStream<TcpStream>,
        place: OwnedSemaphorePermit,
        unproven: Option<Duration>,
    ) -> Self {
        let proven = stream.get_ref().1.peer_certificates().is_some();
        let end = unproven.filter(|_| !proven);
        Self {
            stream,
            end: end.map(|time| Box::pin(tokio::time::sleep(time))),
            _place: place,
        }
    }

    /// An error once the end has come; else whoever polls is woken by it.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(end) = &mut self.end else {
            return Ok(());
        };
        match end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Bounded {
    type ConnectInfo = <TlsStream<TcpStream> as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

// A peer that reads nothing can hold up writes: the end counts for them too.
impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
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

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::RootCertStore;
    use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client;
    use uuid::Uuid;

    use super::*;
    use crate::ca::Authority;
    use crate::clock;
    use crate::model::AgentId;

    /// For what should happen at once.
    const SOON: Duration = Duration::from_secs(20);
    const HOUR: Duration = Duration::from_secs(3600);

    /// The link's own TLS on a port, and who may come there.
    struct Port {
        authority: Authority,
        address: std::net::SocketAddr,
        places: Arc<Semaphore>,
        ready: Ready,
    }

    impl Port {
        async fn with(bounds: Bounds) -> Self {
            let cluster = Uuid::now_v7();
            let (certificate, key) = Authority::make(cluster, clock::now()).unwrap();
            let authority = Authority::load(cluster, certificate, &key).unwrap();
            let names = ["localhost".to_owned()];
            let identity = authority.issue_server(&names, clock::now(), HOUR).unwrap();
            let replaceable = Arc::new(Replaceable::new(identity).unwrap());
            let config = crate::link::tls(&authority, replaceable).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (accepting, ready) = Accepting::new(config, bounds);
            let places = Arc::clone(&accepting.places);
            tokio::spawn(accepting.run(listener));
            Self {
                authority,
                address,
                places,
                ready,
            }
        }

        /// Both ends of a connection.
        async fn connected(&mut self, agent: bool) -> (client::TlsStream<TcpStream>, Bounded) {
            let connecting = self.connect(agent);
            let client = tokio::time::timeout(SOON, connecting).await.unwrap();
            let server = tokio::time::timeout(SOON, self.ready.recv()).await;
            (client, server.unwrap().unwrap())
        }

        async fn connect(&self, agent: bool) -> client::TlsStream<TcpStream> {
            let mut roots = RootCertStore::empty();
            roots.add(self.authority.certificate().clone()).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots);
            let config = if agent {
                let key = KeyPair::generate().unwrap();
                let request = CertificateParams::default().serialize_request(&key);
                let (agent, csr) = (AgentId(Uuid::now_v7()), request.unwrap().der().to_vec());
                let issued = self.authority.issue_agent(&csr, agent, clock::now(), HOUR);
                let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
                config.with_client_auth_cert(vec![issued.unwrap().0], key)
            } else {
                Ok(config.with_no_client_auth())
            };
            #[expect(
                clippy::disallowed_methods,
                reason = "a test's own client, under the test's deadline"
            )]
            let stream = TcpStream::connect(self.address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let connector = TlsConnector::from(Arc::new(config.unwrap()));
            connector.connect(name, stream).await.unwrap()
        }
    }

    #[tokio::test]
    async fn a_place_is_taken_by_a_connection_and_given_back_with_it() {
        let mut port = Port::with(Bounds {
            at_once: 1,
            unproven: None,
        })
        .await;
        for _ in 0..3 {
            let (_client, server) = port.connected(true).await;
            assert_eq!(port.places.available_permits(), 0);
            drop(server);
        }
    }

    #[tokio::test]
    async fn a_handshake_that_fails_gives_its_place_back() {
        let mut port = Port::with(Bounds {
            at_once: 1,
            unproven: None,
        })
        .await;
        #[expect(
            clippy::disallowed_methods,
            reason = "a test's own client, under the test's deadline"
        )]
        let mut nonsense = TcpStream::connect(port.address).await.unwrap();
        nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        port.connected(true).await;
    }

    #[tokio::test]
    async fn a_connection_without_a_certificate_ends_and_one_with_it_stays() {
        let mut port = Port::with(Bounds {
            at_once: 8,
            unproven: Some(Duration::from_millis(50)),
        })
        .await;
        let (mut agent, mut proven) = port.connected(true).await;
        let (_client, mut stranger) = port.connected(false).await;
        let read = tokio::time::timeout(SOON, stranger.read_u8()).await;
        assert_eq!(read.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        let written = stranger.write_all(b"x").await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // The agent came first, so its time would be over by now.
        agent.write_all(b"x").await.unwrap();
        let read = tokio::time::timeout(SOON, proven.read_u8()).await;
        assert_eq!(read.unwrap().unwrap(), b'x');
    }

    #[tokio::test]
    async fn a_certificate_is_seen_through_the_bound() {
        let mut port = Port::with(Bounds {
            at_once: 8,
            unproven: None,
        })
        .await;
        let (_agent, proven) = port.connected(true).await;
        assert!(proven.connect_info().peer_certs().is_some());
        let (_client, stranger) = port.connected(false).await;
        assert!(stranger.connect_info().peer_certs().is_none());
    }
}
