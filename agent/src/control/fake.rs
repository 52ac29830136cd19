//! A control plane for tests: it signs what it is asked to sign, and otherwise
//! hands every call to the test, which says what comes next.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidegate_core::join_token::JoinToken;
use tidegate_core::snapshot::{Fingerprint, Snapshot};
use tidegate_proto::convert::{Encoded, Version};
use tidegate_proto::v1::agent_link_server::{AgentLink, AgentLinkServer};
use tidegate_proto::v1::agent_message::Message as Said;
use tidegate_proto::v1::control_message::Message as Told;
use tidegate_proto::v1::enrollment_server::{Enrollment, EnrollmentServer};
use tidegate_proto::v1::{
    AgentMessage, ControlMessage, EnrollRequest, EnrollResponse, Hello, PrivateKey, RenewRequest,
    RenewResponse, ReportAck, Secrets, StatsReport, Welcome,
};
use tidegate_proto::{PROTOCOL_VERSION, SERVER_NAME};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::identity::{AgentKey, Credentials};

/// The one agent that it knows.
pub(crate) const AGENT: Uuid = Uuid::from_u128(7);

/// An authority.
pub(crate) struct Authority {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pin: Fingerprint,
    issuer: Issuer<'static, KeyPair>,
}

/// What an authority puts into a certificate.
pub(crate) struct Wanted {
    pub(crate) name: &'static str,
    pub(crate) usage: ExtendedKeyUsagePurpose,
    pub(crate) life: Duration,
}

impl Wanted {
    /// What a control plane has.
    pub(crate) fn server() -> Self {
        Self {
            name: SERVER_NAME,
            usage: ExtendedKeyUsagePurpose::ServerAuth,
            life: Duration::from_secs(3600),
        }
    }

    /// What an agent has.
    pub(crate) fn agent(life: Duration) -> Self {
        Self {
            name: "agent.invalid",
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            life,
        }
    }

    /// As of now, dated back as the control plane does it.
    pub(crate) fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::new([self.name.to_owned()]).unwrap();
        params.extended_key_usages = vec![self.usage.clone()];
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(300)).into();
        params.not_after = (now + self.life).into();
        params
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate: certificate.der().clone(),
            pin: Fingerprint::of(&key.subject_public_key_info()),
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn token(&self) -> JoinToken {
        JoinToken::new([1; 8], [2; 32], self.pin)
    }

    /// A new key and its certificate.
    pub(crate) fn issue(
        &self,
        wanted: &Wanted,
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = wanted.params().signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (certificate.der().clone(), key)
    }

    /// What an agent has after it joined.
    pub(crate) fn credentials(&self, life: Duration) -> Credentials {
        let key = AgentKey::new().unwrap();
        let leaf = self.sign(&key.signing_request().unwrap(), life);
        let bundle = vec![self.certificate.to_vec()];
        Credentials::issued(key, vec![leaf], bundle, SystemTime::now()).unwrap()
    }

    fn sign(&self, request: &[u8], life: Duration) -> Vec<u8> {
        let request = CertificateSigningRequestParams::from_der(&request.into()).unwrap();
        let params = Wanted::agent(life).params();
        let signed = params.signed_by(&request.public_key, &self.issuer).unwrap();
        signed.der().to_vec()
    }
}

/// A running control plane.
pub(crate) struct Fake {
    pub(crate) at: String,
    pub(crate) ca: Arc<Authority>,
    script: Arc<Script>,
    enrolled: mpsc::Receiver<EnrollRequest>,
    sessions: mpsc::Receiver<Session>,
    reporting: mpsc::Receiver<Reporting>,
    renewed: mpsc::Receiver<Vec<u8>>,
}

/// What a test says in advance.
struct Script {
    /// How long certificates live.
    life_ms: AtomicU64,
    /// So many answers to Enroll are lost.
    lose: AtomicU32,
    /// What Enroll and Session answer with instead.
    refuse: Mutex<Option<Status>>,
}

/// One session, as the test drives it.
pub(crate) struct Session {
    pub(crate) hello: Hello,
    /// The key that the agent proved itself with.
    pub(crate) key: Vec<u8>,
    said: Streaming<AgentMessage>,
    tell: mpsc::Sender<Result<ControlMessage, Status>>,
}

/// One stream of reports, as the test drives it.
pub(crate) struct Reporting {
    pub(crate) reports: Streaming<StatsReport>,
    pub(crate) acks: mpsc::Sender<Result<ReportAck, Status>>,
}

impl Session {
    pub(crate) async fn said(&mut self) -> Said {
        let message = self.said.message().await.unwrap();
        message.expect("the session goes on").message.unwrap()
    }

    /// Waits for the agent to end it.
    pub(crate) async fn ended(mut self) {
        while let Ok(Some(_)) = self.said.message().await {}
    }

    pub(crate) async fn tell(&self, told: Told) {
        let message = ControlMessage {
            message: Some(told),
        };
        self.tell.send(Ok(message)).await.unwrap();
    }

    pub(crate) async fn end_with(self, status: Status) {
        self.tell.send(Err(status)).await.unwrap();
    }

    pub(crate) async fn welcome(&self) {
        self.welcome_with(100).await;
    }

    /// With this many milliseconds between two reports.
    pub(crate) async fn welcome_with(&self, report_interval_ms: u32) {
        self.tell(Told::Welcome(Welcome {
            protocol_version: PROTOCOL_VERSION,
            report_interval_ms,
            ..Welcome::default()
        }))
        .await;
    }

    pub(crate) async fn send_key(&mut self, chain: &str, key: &str) -> Vec<Vec<u8>> {
        let fingerprint = Fingerprint::of(chain.as_bytes()).as_bytes().to_vec();
        self.tell(Told::Secrets(Secrets {
            number: 4,
            keys: vec![PrivateKey {
                fingerprint,
                private_key_pem: key.into(),
            }],
        }))
        .await;
        match self.said().await {
            Said::SecretsAck(ack) if ack.number == 4 => ack.fingerprints,
            _ => panic!("no acknowledgement"),
        }
    }

    /// Sends it and waits for what comes of it: (state, mistakes).
    pub(crate) async fn send(
        &mut self,
        snapshot: &Snapshot,
        change: u64,
    ) -> (i32, Vec<tidegate_proto::v1::Mistake>) {
        self.tell(message(snapshot, change)).await;
        let applying = self.status(change).await;
        assert_eq!(applying.0, 1, "APPLYING comes first");
        self.status(change).await
    }

    pub(crate) async fn status(&mut self, change: u64) -> (i32, Vec<tidegate_proto::v1::Mistake>) {
        match self.said().await {
            Said::SnapshotStatus(status) => {
                assert_eq!(status.version.unwrap().change, change);
                (status.state, status.mistakes)
            }
            _ => panic!("no status"),
        }
    }
}

pub(crate) fn version(snapshot: &Snapshot, change: u64) -> Version {
    Version {
        epoch: Uuid::nil(),
        change,
        revision: change,
        hash: snapshot.hash(),
    }
}

pub(crate) fn message(snapshot: &Snapshot, change: u64) -> Told {
    Told::Snapshot(Encoded::new(snapshot.encode()).message(version(snapshot, change)))
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let ca = Arc::new(Authority::new());
        let (leaf, key) = ca.issue(&Wanted::server());
        Self::presenting(Arc::clone(&ca), vec![leaf, ca.certificate.clone()], key).await
    }

    /// One that shows this chain.
    pub(crate) async fn presenting(
        ca: Arc<Authority>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Self {
        let script = Arc::new(Script {
            life_ms: AtomicU64::new(3_600_000),
            lose: AtomicU32::new(0),
            refuse: Mutex::new(None),
        });
        let (enroll, enrolled) = mpsc::channel(8);
        let (session, sessions) = mpsc::channel(8);
        let (report, reporting) = mpsc::channel(8);
        let (renew, renewed) = mpsc::channel(8);
        let service = Service {
            ca: Arc::clone(&ca),
            script: Arc::clone(&script),
            enroll,
            session,
            report,
            renew,
        };
        let at = serve(service, chain, key).await;
        Self {
            at,
            ca,
            script,
            enrolled,
            sessions,
            reporting,
            renewed,
        }
    }

    /// From now on certificates live this long.
    pub(crate) fn issue_for(&self, life: Duration) {
        let ms = u64::try_from(life.as_millis()).unwrap();
        self.script.life_ms.store(ms, Ordering::SeqCst);
    }

    pub(crate) fn lose_answers(&self, count: u32) {
        self.script.lose.store(count, Ordering::SeqCst);
    }

    pub(crate) fn refuse_with(&self, status: Option<Status>) {
        *self.script.refuse.lock().unwrap() = status;
    }

    pub(crate) async fn enrolled(&mut self) -> EnrollRequest {
        self.enrolled.recv().await.unwrap()
    }

    pub(crate) async fn session(&mut self) -> Session {
        self.sessions.recv().await.unwrap()
    }

    /// A session that has been welcomed.
    pub(crate) async fn welcomed(&mut self) -> Session {
        let session = self.session().await;
        session.welcome().await;
        session
    }

    pub(crate) async fn reporting(&mut self) -> Reporting {
        self.reporting.recv().await.unwrap()
    }

    /// The public key of the next certificate that is asked for.
    pub(crate) async fn renewed(&mut self) -> Vec<u8> {
        self.renewed.recv().await.unwrap()
    }
}

async fn serve(
    service: Service,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> String {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(Arc::new(anybody::Anybody))
        .with_single_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind((IpAddr::from([127, 0, 0, 1]), 0)).await;
    let listener = listener.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let (accepted, incoming) = mpsc::channel::<std::io::Result<_>>(1);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = tls.accept(stream).await
                && accepted.send(Ok(stream)).await.is_err()
            {
                return;
            }
        }
    });
    let service = Arc::new(service);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(EnrollmentServer::from_arc(Arc::clone(&service)))
            .add_service(AgentLinkServer::from_arc(service))
            .serve_with_incoming(ReceiverStream::new(incoming)),
    );
    at
}

struct Service {
    ca: Arc<Authority>,
    script: Arc<Script>,
    enroll: mpsc::Sender<EnrollRequest>,
    session: mpsc::Sender<Session>,
    report: mpsc::Sender<Reporting>,
    renew: mpsc::Sender<Vec<u8>>,
}

impl Service {
    fn chain(&self, csr: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let life = Duration::from_millis(self.script.life_ms.load(Ordering::SeqCst));
        let ca = self.ca.certificate.to_vec();
        (vec![self.ca.sign(csr, life)], vec![ca])
    }

    fn refusal(&self) -> Result<(), Status> {
        self.script
            .refuse
            .lock()
            .unwrap()
            .clone()
            .map_or(Ok(()), Err)
    }
}

#[tonic::async_trait]
impl Enrollment for Service {
    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        let request = request.into_inner();
        let (certificate_chain, trust_bundle) = self.chain(&request.csr);
        self.enroll.send(request).await.unwrap();
        self.refusal()?;
        let lose = self.script.lose.load(Ordering::SeqCst);
        if lose > 0 {
            self.script.lose.store(lose - 1, Ordering::SeqCst);
            return Err(Status::unavailable("the answer is lost"));
        }
        Ok(Response::new(EnrollResponse {
            agent_id: AGENT.to_string(),
            certificate_chain,
            trust_bundle,
            roles: vec!["balancer".into(), "terminator".into()],
        }))
    }
}

type Answers<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AgentLink for Service {
    type SessionStream = Answers<ControlMessage>;
    type ReportStream = Answers<ReportAck>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        self.refusal()?;
        let certificates = request.peer_certs().expect("the agent proves itself");
        let leaf = webpki::EndEntityCert::try_from(&certificates[0]).unwrap();
        let key = leaf.subject_public_key_info().to_vec();
        let mut said = request.into_inner();
        let Some(Said::Hello(hello)) = said.message().await?.and_then(|m| m.message) else {
            panic!("no Hello");
        };
        let (tell, told) = mpsc::channel(8);
        let session = Session {
            hello,
            key,
            said,
            tell,
        };
        self.session.send(session).await.unwrap();
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }

    async fn report(
        &self,
        request: Request<Streaming<StatsReport>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let (acks, acked) = mpsc::channel(8);
        let reports = request.into_inner();
        self.report.send(Reporting { reports, acks }).await.ok();
        Ok(Response::new(Box::pin(ReceiverStream::new(acked))))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        let csr = request.into_inner().csr;
        let (certificate_chain, trust_bundle) = self.chain(&csr);
        let leaf = CertificateDer::from(certificate_chain[0].clone());
        let leaf = webpki::EndEntityCert::try_from(&leaf).unwrap();
        let key = leaf.subject_public_key_info().to_vec();
        self.renew.send(key).await.ok();
        Ok(Response::new(RenewResponse {
            certificate_chain,
            trust_bundle,
        }))
    }
}

/// Lets any client certificate in, or none: who may do what is not tested here.
mod anybody {
    use rustls::client::danger::HandshakeSignatureValid;
    use rustls::pki_types::{CertificateDer, UnixTime};
    use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
    use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

    #[derive(Debug)]
    pub(super) struct Anybody;

    impl ClientCertVerifier for Anybody {
        fn client_auth_mandatory(&self) -> bool {
            false
        }

        fn root_hint_subjects(&self) -> &[DistinguishedName] {
            &[]
        }

        fn verify_client_cert(
            &self,
            _leaf: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _now: UnixTime,
        ) -> Result<ClientCertVerified, Error> {
            Ok(ClientCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _certificate: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _message: &[u8],
            _certificate: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::aws_lc_rs::default_provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }
}
