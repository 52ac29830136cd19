//! An agent whose every message is the test's own, on the real link: for what the
//! real agent never says, says twice, or never lets see.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::version::TLS13;
use tidegate_proto::v1::agent_link_client::AgentLinkClient;
use tidegate_proto::v1::agent_message::Message as Up;
use tidegate_proto::v1::control_message::Message as Down;
use tidegate_proto::v1::enrollment_client::EnrollmentClient;
use tidegate_proto::v1::snapshot_status::State;
use tidegate_proto::{MAX_MESSAGE_BYTES, PROTOCOL_VERSION, REASON, SERVER_NAME, convert, v1};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::within;

/// A control plane's link as an agent sees it.
#[derive(Clone)]
pub struct Link {
    address: SocketAddr,
    authority: CertificateDer<'static>,
    /// Everything that was received on connections of this link, without TLS.
    received: Arc<Mutex<Vec<u8>>>,
}

/// What an agent is known by.
pub struct Identity {
    /// Its UUID.
    pub id: String,
    /// Its certificate, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

/// A request to be enrolled, with its key.
pub struct Joining {
    /// As it is sent.
    pub request: v1::EnrollRequest,
    key: KeyPair,
}

impl Joining {
    /// A usual one, as `address`.
    pub fn new(token: &str, address: SocketAddr) -> Self {
        Self::asking(token, address, CertificateParams::default())
    }

    /// One whose request for a certificate asks for more than a key.
    pub fn asking(token: &str, address: SocketAddr, params: CertificateParams) -> Self {
        let key = KeyPair::generate().expect("P-256 keys can be made");
        let csr = params.serialize_request(&key);
        let request = v1::EnrollRequest {
            join_token: token.to_owned(),
            csr: csr
                .expect("tests ask for what can be written")
                .der()
                .to_vec(),
            address: address.ip().to_string(),
            health_port: u32::from(address.port()),
            version: "test".to_owned(),
            roles: Vec::new(),
        };
        Self { request, key }
    }
}

impl Link {
    /// The link at `address`, where only that authority is trusted.
    pub fn new(address: SocketAddr, authority_pem: &str) -> Self {
        let authority = CertificateDer::from_pem_slice(authority_pem.as_bytes());
        Self {
            address,
            authority: authority.expect("the authority is PEM"),
            received: Arc::default(),
        }
    }

    /// Whether these bytes were ever received.
    pub fn has_received(&self, bytes: &[u8]) -> bool {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.windows(bytes.len()).any(|window| window == bytes)
    }

    /// How much was received.
    pub fn received_bytes(&self) -> usize {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.len()
    }

    /// Enrols.
    ///
    /// # Errors
    /// As the control plane refuses.
    pub async fn enroll(&self, joining: &Joining) -> Result<Identity, Status> {
        let channel = self.channel(None).await.expect("the link listens");
        let asked = joining.request.clone();
        let answer = EnrollmentClient::new(channel).enroll(asked).await?;
        let answer = answer.into_inner();
        let chain = answer.certificate_chain.into_iter();
        let key = KeyPair::from_pem(&joining.key.serialize_pem());
        Ok(Identity {
            id: answer.agent_id,
            chain: chain.map(CertificateDer::from).collect(),
            key: key.expect("it was a key before"),
        })
    }

    /// Opens a session and reads its Welcome. `change` has the Hello before it is sent.
    ///
    /// # Errors
    /// As the control plane refuses, or the handshake fails.
    pub async fn session(
        &self,
        identity: &Identity,
        change: impl FnOnce(&mut v1::Hello),
    ) -> Result<Session, Status> {
        let channel = self.channel(Some(identity)).await;
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut hello = v1::Hello {
            protocol_version: PROTOCOL_VERSION,
            boot_id: "018f0000-0000-7000-8000-000000000001".to_owned(),
            version: "test".to_owned(),
            address: "127.0.0.1".to_owned(),
            health_port: 7445,
            ..v1::Hello::default()
        };
        change(&mut hello);
        let (up, messages) = mpsc::channel(16);
        let first = v1::AgentMessage {
            message: Some(Up::Hello(hello)),
        };
        // It has room for more than one.
        let _sent = up.try_send(first);
        let messages = ReceiverStream::new(messages);
        let answered = client(channel).session(messages).await?;
        let mut session = Session {
            up,
            down: answered.into_inner(),
        };
        match session.next().await? {
            Some(Down::Welcome(_)) => Ok(session),
            _ => Err(Status::internal("a session begins with Welcome")),
        }
    }

    /// Opens a stream of reports.
    ///
    /// # Errors
    /// As the control plane refuses.
    pub async fn reports(&self, identity: &Identity) -> Result<Reports, Status> {
        let channel = self
            .channel(Some(identity))
            .await
            .expect("the link listens");
        let (up, messages) = mpsc::channel(16);
        let acks = client(channel)
            .report(ReceiverStream::new(messages))
            .await?;
        Ok(Reports {
            up,
            acks: acks.into_inner(),
        })
    }

    async fn channel(
        &self,
        identity: Option<&Identity>,
    ) -> Result<Channel, tonic::transport::Error> {
        let tls = self.tls(identity);
        let (address, received) = (self.address, Arc::clone(&self.received));
        let connector = tower::service_fn(move |_| {
            let (tls, received) = (tls.clone(), Arc::clone(&received));
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
                let stream = tls.connect(name, stream).await?;
                io::Result::Ok(TokioIo::new(Recorded { stream, received }))
            }
        });
        let endpoint = Endpoint::from_static("http://link.test");
        within(
            "a connection to the link",
            endpoint.connect_with_connector(connector),
        )
        .await
    }

    fn tls(&self, identity: Option<&Identity>) -> TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        let added = roots.add(self.authority.clone());
        added.expect("the authority is one");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3")
            .with_root_certificates(roots);
        let mut config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => config
                .with_client_auth_cert(identity.chain.clone(), identity.private_key())
                .expect("certificate and key are a pair"),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

fn client(channel: Channel) -> AgentLinkClient<Channel> {
    AgentLinkClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

impl Identity {
    /// Its private key.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

/// The kind of a refusal, for programs; empty when it has none.
pub fn reason(status: &Status) -> &str {
    let value = status.metadata().get(REASON);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// An open session.
pub struct Session {
    up: mpsc::Sender<v1::AgentMessage>,
    down: Streaming<v1::ControlMessage>,
}

impl Session {
    /// The next message; none at the end.
    ///
    /// # Errors
    /// When the session ends with one.
    pub async fn next(&mut self) -> Result<Option<Down>, Status> {
        let message = within("a message of the control plane", self.down.message()).await?;
        Ok(message.and_then(|message| message.message))
    }

    /// Says something.
    pub async fn say(&self, message: Up) {
        let message = v1::AgentMessage {
            message: Some(message),
        };
        let said = self.up.send(message).await;
        said.expect("the session is open");
    }

    /// Answers as an agent does to whom nothing is impossible, until there is a
    /// snapshot: its version and its canonical bytes.
    ///
    /// # Errors
    /// When the session ends before.
    pub async fn applies(&mut self) -> Result<(convert::Version, Vec<u8>), Status> {
        loop {
            match self.next().await? {
                Some(Down::Snapshot(snapshot)) => {
                    let wire = snapshot.version.clone();
                    let read = convert::snapshot(snapshot).expect("a snapshot is whole");
                    for state in [State::Applying, State::Applied] {
                        self.say(Up::SnapshotStatus(v1::SnapshotStatus {
                            version: wire.clone(),
                            state: state.into(),
                            mistakes: Vec::new(),
                        }))
                        .await;
                    }
                    return Ok(read);
                }
                Some(Down::Secrets(secrets)) => self.say(Up::SecretsAck(held(&secrets))).await,
                Some(Down::TicketKeys(lane)) => {
                    self.say(Up::TicketKeysAck(ack(lane.number))).await;
                }
                Some(Down::BanFull(lane)) => self.say(Up::BansAck(ack(lane.number))).await,
                Some(Down::BanDelta(lane)) => self.say(Up::BansAck(ack(lane.to))).await,
                Some(Down::Challenges(lane)) => {
                    self.say(Up::ChallengesAck(ack(lane.number))).await;
                }
                Some(_) => {}
                None => return Err(Status::cancelled("the session ended without a snapshot")),
            }
        }
    }
}

fn held(secrets: &v1::Secrets) -> v1::SecretsAck {
    let keys = secrets.keys.iter();
    v1::SecretsAck {
        number: secrets.number,
        fingerprints: keys.map(|key| key.fingerprint.clone()).collect(),
    }
}

fn ack(number: u64) -> v1::LaneAck {
    v1::LaneAck { number }
}

/// An open stream of reports.
pub struct Reports {
    up: mpsc::Sender<v1::StatsReport>,
    acks: Streaming<v1::ReportAck>,
}

impl Reports {
    /// Sends one and waits until it is acknowledged.
    ///
    /// # Errors
    /// When the stream ends instead.
    pub async fn send(&mut self, report: &v1::StatsReport) -> Result<u64, Status> {
        let sent = self.up.send(report.clone()).await;
        sent.map_err(|_| Status::cancelled("the stream has ended"))?;
        let ack = within("an acknowledged report", self.acks.message()).await?;
        let ack = ack.ok_or_else(|| Status::cancelled("the stream has ended"))?;
        Ok(ack.sequence)
    }

    /// Sends one whose acknowledgement is lost.
    pub async fn send_and_leave(self, report: &v1::StatsReport) {
        let sent = self.up.send(report.clone()).await;
        sent.expect("the stream is open");
    }
}

/// A stream that keeps what it reads.
struct Recorded<S> {
    stream: S,
    received: Arc<Mutex<Vec<u8>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.extend_from_slice(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
