//! The link as an agent meets it: real TLS, real gRPC, a real Postgres, and an
//! agent that says exactly what a test wants it to say.

use std::collections::BTreeMap;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use serde_json::{Value, json};
use tidegate_core::document::{AdminState, Document, Role};
use tidegate_core::join_token::JoinToken;
use tidegate_core::snapshot::Fingerprint;
use tidegate_local::databases::Database;
use tidegate_proto::convert;
use tidegate_proto::v1::agent_link_client::AgentLinkClient;
use tidegate_proto::v1::agent_message::Message as Up;
use tidegate_proto::v1::control_message::Message as Down;
use tidegate_proto::v1::enrollment_client::EnrollmentClient;
use tidegate_proto::v1::snapshot_status::State;
use tidegate_proto::{REASON, SERVER_NAME, feature, reason};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::transport::Channel;

use super::*;
use crate::clock;
use crate::model::{AgentId, Author, Pacing, Saying};
use crate::store::NewCertificate;
use crate::upkeep::OwnCertificate;

/// For what should happen at once.
const SOON: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future)
        .await
        .unwrap_or_else(|_| panic!("not within {SOON:?}: {what}"))
}

/// A database, and what several control planes on it share.
struct Cluster {
    store: Store,
    kek: Arc<Kek>,
    authority: Arc<Authority>,
    url: String,
    // Dropped last: the database goes with it.
    _folder: tempfile::TempDir,
    _database: Database,
}

/// One control plane's link.
struct Server {
    address: std::net::SocketAddr,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Cluster {
    async fn new() -> Self {
        let database = Database::create().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kek = Kek::in_file(&folder.path().join("kek"), true).unwrap();
        let store = Store::connect(database.url()).await.unwrap();
        let cluster = store.cluster(&kek, clock::now()).await.unwrap();
        let today = clock::now().date();
        store
            .turn_the_day(today, time::Duration::days(8))
            .await
            .unwrap();
        Self {
            url: database.url().to_owned(),
            store,
            kek: Arc::new(kek),
            authority: Arc::new(cluster.authority),
            _folder: folder,
            _database: database,
        }
    }

    async fn serve(&self) -> Server {
        self.serve_with(Duration::from_secs(3600)).await
    }

    async fn serve_with(&self, certificate_lifetime: Duration) -> Server {
        let store = Store::connect(&self.url).await.unwrap();
        let fleet = Arc::new(Fleet::default());
        let publisher = Arc::new(Publisher::new(store.clone(), Arc::clone(&fleet)));
        let (ingest, writer) = Ingest::new(store.clone());
        let names = vec![SERVER_NAME.to_owned()];
        let own = OwnCertificate::new(Arc::clone(&self.authority), names, clock::now()).unwrap();
        let tls = tls(&self.authority, own.shown()).unwrap();
        let link = Arc::new(Link {
            store,
            kek: Arc::clone(&self.kek),
            authority: Arc::clone(&self.authority),
            fleet,
            publisher: Arc::clone(&publisher),
            ingest,
            replica: Uuid::now_v7(),
            certificate_lifetime,
            report_interval: Duration::from_secs(5),
            hellos: Admission::new(),
            ticket_timing: Timing::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let stopped = stop.clone();
        tokio::spawn(async move { publisher.run(stopped).await });
        tokio::spawn(writer.run(stop.clone()));
        let stopped = stop.clone();
        tokio::spawn(async move { serve(link, listener, tls, stopped).await });
        Server { address, stop }
    }

    async fn token(&self, roles: &[Role], uses: i32, lifetime: Duration) -> JoinToken {
        let token = JoinToken::new(
            *crate::seal::random().unwrap(),
            *crate::seal::random().unwrap(),
            self.authority.pin(),
        );
        let ends = clock::now() + lifetime;
        let labels = BTreeMap::new();
        self.store
            .add_join_token(&author(), &token, roles, &labels, uses, ends)
            .await
            .unwrap();
        token
    }

    /// An agent of one role, enrolled.
    async fn agent(&self, server: &Server, role: Role) -> Agent {
        let token = self.token(&[role], 1, Duration::from_secs(60)).await;
        Agent::enroll(server, &token.reveal(), &KeyPair::generate().unwrap())
            .await
            .unwrap()
    }

    /// A certificate for `play`; the fingerprint of its chain, and its key.
    async fn upload(&self) -> (Fingerprint, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["play.localhost".to_owned()]).unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        let print = Fingerprint::of(chain.as_bytes());
        let pem = key.serialize_pem();
        let sealed = self
            .kek
            .seal(&crate::seal::key_purpose(print), pem.as_bytes());
        let new = NewCertificate {
            name: "play".parse().unwrap(),
            chain,
            key_sealed: sealed.unwrap(),
            dns_names: vec!["play.localhost".to_owned()],
            not_before: clock::now(),
            not_after: clock::now(),
        };
        let mut writing = self.store.write(&author()).await.unwrap();
        writing.upload_certificate(&new).await.unwrap();
        writing.commit().await.unwrap();
        (print, pem)
    }

    async fn apply(&self, tree: &Value) {
        let mut writing = self.store.write(&author()).await.unwrap();
        let uploaded = writing.uploaded().await.unwrap();
        let document = Document::of_fleet(tree.clone(), &uploaded).unwrap();
        writing.set_document(document, "apply", "config");
        writing.commit().await.unwrap();
    }

    async fn revoke(&self, agent: AgentId) {
        let mut writing = self.store.write(&author()).await.unwrap();
        assert!(writing.revoke_agent(agent).await.unwrap());
        writing.commit().await.unwrap();
    }
}

fn author() -> Author {
    Author("a test".to_owned())
}

fn drain(pace: Option<Pacing>) -> Saying {
    let state = AdminState::Drain;
    Saying { state, pace }
}

/// A document for both roles; `idle` makes it another one for terminators.
fn document(idle: &str) -> Value {
    json!({
        "listeners": [
            { "name": "edge", "role": "balancer", "bind": ":443", "pool": "tls" },
            { "name": "tls", "role": "terminator", "bind": ":8443", "pool": "node",
              "policy": "clients", "tls": { "certificates": ["play"] } },
        ],
        "pools": [
            { "name": "tls", "proxy_protocol": "v2", "discover": { "listener": "tls" } },
            { "name": "node", "backends": [{ "address": ":3000" }] },
        ],
        "policies": [{ "name": "clients", "timeouts": { "idle": idle } }],
    })
}

/// An agent's identity, and where its control plane is.
struct Agent {
    id: AgentId,
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
    roots: Vec<Vec<u8>>,
}

impl Agent {
    async fn enroll(server: &Server, token: &str, key: &KeyPair) -> Result<Self, Status> {
        let request = v1::EnrollRequest {
            join_token: token.to_owned(),
            csr: csr(key),
            address: "127.0.0.9".to_owned(),
            health_port: 7445,
            version: "0".to_owned(),
            roles: Vec::new(),
        };
        Self::enroll_with(server, request, key).await
    }

    async fn enroll_with(
        server: &Server,
        request: v1::EnrollRequest,
        key: &KeyPair,
    ) -> Result<Self, Status> {
        // Who the control plane is plays no part here: the agent's tests are about that.
        let channel = channel(server, Trust::Anybody, None).await?;
        let answer = EnrollmentClient::new(channel).enroll(request).await?;
        let answer = answer.into_inner();
        Ok(Self {
            id: AgentId(answer.agent_id.parse().unwrap()),
            chain: answer.certificate_chain,
            key: key.serialize_der(),
            roots: answer.trust_bundle,
        })
    }

    async fn channel(&self, server: &Server) -> Result<Channel, Status> {
        let identity = Some((self.chain.clone(), self.key.clone()));
        channel(server, Trust::Only(self.roots.clone()), identity).await
    }

    async fn client(&self, server: &Server) -> AgentLinkClient<Channel> {
        AgentLinkClient::new(self.channel(server).await.unwrap())
    }

    fn hello(&self) -> v1::Hello {
        v1::Hello {
            protocol_version: tidegate_proto::PROTOCOL_VERSION,
            boot_id: Uuid::now_v7().to_string(),
            address: "127.0.0.9".to_owned(),
            health_port: 7445,
            ..v1::Hello::default()
        }
    }

    async fn session(&self, server: &Server) -> Session {
        self.session_with(server, self.hello()).await.unwrap()
    }

    async fn session_with(&self, server: &Server, hello: v1::Hello) -> Result<Session, Status> {
        let (up, messages) = mpsc::channel(8);
        up.try_send(message(Up::Hello(hello))).unwrap();
        let mut client = self.client(server).await;
        let down = client.session(ReceiverStream::new(messages)).await?;
        Ok(Session {
            up,
            down: down.into_inner(),
        })
    }
}

struct Session {
    up: mpsc::Sender<v1::AgentMessage>,
    down: Streaming<v1::ControlMessage>,
}

impl Session {
    async fn say(&self, said: Up) {
        self.up.send(message(said)).await.unwrap();
    }

    /// The next message that is not of a lane nobody uses yet.
    async fn next(&mut self) -> Result<Down, Status> {
        loop {
            let next = soon("a message", self.down.message()).await?;
            match next.and_then(|m| m.message) {
                Some(Down::Welcome(_) | Down::TicketKeys(_) | Down::BanFull(_)) => {}
                Some(Down::Challenges(_)) => {}
                Some(message) => return Ok(message),
                None => return Err(Status::cancelled("the stream ended")),
            }
        }
    }

    async fn snapshot(&mut self) -> v1::Snapshot {
        match self.next().await {
            Ok(Down::Snapshot(snapshot)) => snapshot,
            Ok(_) => panic!("another message than a snapshot"),
            Err(status) => panic!("{status}"),
        }
    }

    async fn secrets(&mut self) -> v1::Secrets {
        match self.next().await {
            Ok(Down::Secrets(secrets)) => secrets,
            Ok(_) => panic!("another message than secrets"),
            Err(status) => panic!("{status}"),
        }
    }

    async fn acknowledge(&self, secrets: &v1::Secrets) {
        let fingerprints = secrets.keys.iter().map(|k| k.fingerprint.clone()).collect();
        let number = secrets.number;
        self.say(Up::SecretsAck(v1::SecretsAck {
            number,
            fingerprints,
        }))
        .await;
    }

    async fn answer(&self, snapshot: &v1::Snapshot, state: State) {
        self.say(Up::SnapshotStatus(v1::SnapshotStatus {
            version: snapshot.version.clone(),
            state: state.into(),
            mistakes: Vec::new(),
        }))
        .await;
    }

    /// Takes keys and snapshot, as an agent with nothing does.
    async fn apply(&mut self) -> v1::Snapshot {
        let snapshot = match self.next().await {
            Ok(Down::Secrets(secrets)) => {
                self.acknowledge(&secrets).await;
                self.snapshot().await
            }
            Ok(Down::Snapshot(snapshot)) => snapshot,
            Ok(_) => panic!("neither keys nor a snapshot"),
            Err(status) => panic!("{status}"),
        };
        self.answer(&snapshot, State::Applied).await;
        snapshot
    }

    /// As [`Session::apply`]: what it is to run.
    async fn planned(&mut self) -> tidegate_core::snapshot::Snapshot {
        let (_, bytes) = convert::snapshot(self.apply().await).unwrap();
        tidegate_core::snapshot::Snapshot::decode(&bytes).unwrap()
    }
}

fn message(message: Up) -> v1::AgentMessage {
    v1::AgentMessage {
        message: Some(message),
    }
}

fn csr(key: &KeyPair) -> Vec<u8> {
    let request = CertificateParams::default().serialize_request(key);
    request.unwrap().der().to_vec()
}

enum Trust {
    Anybody,
    Only(Vec<Vec<u8>>),
}

type Identity = Option<(Vec<Vec<u8>>, Vec<u8>)>;

async fn channel(server: &Server, trust: Trust, identity: Identity) -> Result<Channel, Status> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let builder = rustls::ClientConfig::builder();
    let builder = match trust {
        Trust::Anybody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody)),
        Trust::Only(roots) => {
            let mut store = RootCertStore::empty();
            for root in roots {
                store.add(root.into()).unwrap();
            }
            builder.with_root_certificates(store)
        }
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = chain.into_iter().map(Into::into).collect();
            let key = PrivatePkcs8KeyDer::from(key).into();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let address = server.address;
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's own client, under the test's deadline"
    )]
    let connecting = tower::service_fn(move |_: http::Uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from(SERVER_NAME).map_err(std::io::Error::other)?;
            let stream = connector.connect(name, stream).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    tonic::transport::Endpoint::from_static("http://control-plane")
        .connect_with_connector(connecting)
        .await
        .map_err(|error| Status::unavailable(error.to_string()))
}

#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn kind(status: &Status) -> &str {
    let reason = status.metadata().get(REASON);
    reason.and_then(|r| r.to_str().ok()).unwrap_or_default()
}

#[tokio::test]
async fn a_token_works_once_and_for_the_same_key_again() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    let token = cluster.token(&[Role::Balancer], 1, SOON).await.reveal();
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());

    let first = Agent::enroll(&server, &token, &key).await.unwrap();
    // The answer was lost: asked again, it is the same agent.
    let again = Agent::enroll(&server, &token, &key).await.unwrap();
    assert_eq!(again.id, first.id);
    let refused = Agent::enroll(&server, &token, &other).await.err().unwrap();
    assert_eq!(kind(&refused), reason::TOKEN_USED, "{refused}");
}

#[tokio::test]
async fn each_wrong_token_is_refused_by_its_own_reason() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    let key = KeyPair::generate().unwrap();
    let good = cluster.token(&[Role::Balancer], 1, SOON).await.reveal();

    let over = cluster.token(&[Role::Balancer], 1, Duration::ZERO).await;
    let refused = Agent::enroll(&server, &over.reveal(), &key)
        .await
        .err()
        .unwrap();
    assert_eq!(kind(&refused), reason::TOKEN_EXPIRED, "{refused}");

    // Another secret under a known id, and an id that nobody knows.
    let parts: Vec<&str> = good.split('.').collect();
    let guessed = format!("tg1.{}.{}.{}", parts[1], "0".repeat(64), parts[3]);
    let unknown = format!("tg1.{}.{}.{}", "0".repeat(16), parts[2], parts[3]);
    for token in [guessed, unknown, "tg1.x".to_owned()] {
        let refused = Agent::enroll(&server, &token, &key).await.err().unwrap();
        assert_eq!(kind(&refused), reason::TOKEN_UNKNOWN, "{refused}");
    }
    let request = v1::EnrollRequest {
        join_token: good,
        csr: csr(&key),
        address: "127.0.0.9".to_owned(),
        health_port: 7445,
        version: String::new(),
        roles: vec!["terminator".to_owned()],
    };
    let refused = Agent::enroll_with(&server, request, &key)
        .await
        .err()
        .unwrap();
    assert_eq!(kind(&refused), reason::TOKEN_ROLE, "{refused}");
}

#[tokio::test]
async fn nobody_without_a_certificate_of_this_cluster_has_a_session() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    let mut agent = cluster.agent(&server, Role::Balancer).await;
    let chain = std::mem::take(&mut agent.chain);
    let channel = channel(&server, Trust::Only(agent.roots.clone()), None).await;
    let (_up, messages) = mpsc::channel(1);
    let mut client = AgentLinkClient::new(channel.unwrap());
    let refused = client.session(ReceiverStream::new(messages)).await;
    assert_eq!(refused.err().unwrap().code(), tonic::Code::Unauthenticated);

    let other = Cluster::new().await;
    let elsewhere = other.serve().await;
    agent.chain = chain;
    agent.roots = vec![other.authority.certificate().to_vec()];
    // TLS 1.3: the client hears of its refusal with the first call.
    let mut client = agent.client(&elsewhere).await;
    let (_up, messages) = mpsc::channel(1);
    assert!(client.session(ReceiverStream::new(messages)).await.is_err());
}

#[tokio::test]
async fn keys_come_before_the_snapshot_and_never_to_a_balancer() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    let (print, pem) = cluster.upload().await;
    cluster.apply(&document("1h")).await;
    let terminator = cluster.agent(&server, Role::Terminator).await;
    let balancer = cluster.agent(&server, Role::Balancer).await;

    let mut session = terminator.session(&server).await;
    let secrets = session.secrets().await;
    assert_eq!(secrets.keys.len(), 1);
    assert_eq!(secrets.keys[0].fingerprint, print.as_bytes());
    assert_eq!(secrets.keys[0].private_key_pem, pem.as_bytes());
    session.acknowledge(&secrets).await;
    let snapshot = session.snapshot().await;
    let (_, bytes) = convert::snapshot(snapshot).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("play.localhost") || text.contains("BEGIN CERTIFICATE"));
    assert!(!text.contains("PRIVATE KEY"));

    // `apply` would take keys: the first message has to be the snapshot itself.
    let mut session = balancer.session(&server).await;
    let (_, bytes) = convert::snapshot(session.snapshot().await).unwrap();
    assert!(!String::from_utf8(bytes).unwrap().contains("BEGIN"));
}

#[tokio::test]
async fn balancers_of_a_fleet_hash_by_one_key_and_only_where_clients_are_hashed() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    cluster.upload().await;
    let mut tree = document("1h");
    tree["pools"][0]["balance"] = json!("source_hash");
    cluster.apply(&tree).await;
    let mut keys = Vec::new();
    for role in [Role::Balancer, Role::Balancer, Role::Terminator] {
        let agent = cluster.agent(&server, role).await;
        keys.push(agent.session(&server).await.planned().await.hash_key);
    }
    assert!(keys[0].is_some());
    assert_eq!(keys[0], keys[1]);
    assert_eq!(keys[2], None);

    let other = Cluster::new().await;
    let server = other.serve().await;
    other.upload().await;
    other.apply(&tree).await;
    let agent = other.agent(&server, Role::Balancer).await;
    let theirs = agent.session(&server).await.planned().await.hash_key;
    assert!(theirs.is_some());
    assert_ne!(theirs, keys[0], "another cluster's is another");
}

#[tokio::test]
async fn what_runs_already_is_up_to_date_and_an_equal_snapshot_is_no_message() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    cluster.upload().await;
    cluster.apply(&document("1h")).await;
    let balancer = cluster.agent(&server, Role::Balancer).await;
    let mut session = balancer.session(&server).await;
    let runs = session.apply().await;

    let mut hello = balancer.hello();
    hello.snapshot = runs.version.clone();
    let mut session = balancer.session_with(&server, hello).await.unwrap();
    assert!(matches!(session.next().await, Ok(Down::UpToDate(_))));

    // A change that is only about terminators, then one about this agent: the
    // first message is the second change.
    cluster.apply(&document("2h")).await;
    let mut other = document("2h");
    other["listeners"][0]["bind"] = json!(":444");
    cluster.apply(&other).await;
    let (version, bytes) = convert::snapshot(session.snapshot().await).unwrap();
    assert_eq!(version.revision, 3);
    assert!(String::from_utf8(bytes).unwrap().contains(":444"));
}

#[tokio::test]
async fn a_failed_snapshot_is_not_sent_again_and_its_reasons_are_kept() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    cluster.upload().await;
    cluster.apply(&document("1h")).await;
    let balancer = cluster.agent(&server, Role::Balancer).await;
    let mut session = balancer.session(&server).await;
    let bad = session.snapshot().await;
    session
        .say(Up::SnapshotStatus(v1::SnapshotStatus {
            version: bad.version.clone(),
            state: State::Failed.into(),
            mistakes: vec![v1::Mistake {
                pointer: "/listeners/edge/bind".to_owned(),
                message: "is taken".to_owned(),
            }],
        }))
        .await;
    let mut other = document("1h");
    other["listeners"][0]["bind"] = json!(":444");
    cluster.apply(&other).await;
    let next = session.snapshot().await;
    assert_ne!(next.version, bad.version);
    let row: (Option<String>, Value) =
        sqlx::query_as("select state, mistakes from agents where id = $1")
            .bind(balancer.id.0)
            .fetch_one(&sqlx::PgPool::connect(&cluster.url).await.unwrap())
            .await
            .unwrap();
    assert_eq!(row.0.as_deref(), Some("failed"));
    assert_eq!(row.1[0]["pointer"], "/listeners/edge/bind");
}

#[tokio::test]
async fn a_revoked_agent_is_cut_at_once_and_told_so_when_it_comes_back() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    let agent = cluster.agent(&server, Role::Balancer).await;
    let mut session = agent.session(&server).await;
    session.apply().await;
    cluster.revoke(agent.id).await;
    assert!(matches!(session.next().await, Ok(Down::Revoked(_))));
    assert!(session.next().await.is_err(), "the stream ends");

    let refused = agent.session_with(&server, agent.hello()).await;
    assert_eq!(kind(&refused.err().unwrap()), reason::REVOKED);
    let mut client = agent.client(&server).await;
    let csr = csr(&KeyPair::generate().unwrap());
    let refused = client.renew(v1::RenewRequest { csr }).await;
    assert_eq!(kind(&refused.err().unwrap()), reason::REVOKED);
}

#[tokio::test]
async fn an_agent_that_the_database_does_not_know_is_not_told_to_leave() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    let agent = cluster.agent(&server, Role::Balancer).await;
    // A backup from before it joined.
    let pool = sqlx::PgPool::connect(&cluster.url).await.unwrap();
    sqlx::query("delete from agents")
        .execute(&pool)
        .await
        .unwrap();
    let refused = agent.session_with(&server, agent.hello()).await;
    assert_eq!(kind(&refused.err().unwrap()), reason::UNKNOWN_AGENT);
}

#[tokio::test]
async fn an_expired_certificate_may_renew_and_nothing_else() {
    let cluster = Cluster::new().await;
    // Over as soon as it is issued.
    let server = cluster.serve_with(Duration::ZERO).await;
    let mut agent = cluster.agent(&server, Role::Balancer).await;
    let refused = agent.session_with(&server, agent.hello()).await;
    assert_eq!(kind(&refused.err().unwrap()), reason::EXPIRED);

    let lasting = cluster.serve().await;
    let key = KeyPair::generate().unwrap();
    let renewal = v1::RenewRequest { csr: csr(&key) };
    let renewed = agent.client(&lasting).await.renew(renewal).await.unwrap();
    agent.chain = renewed.into_inner().certificate_chain;
    agent.key = key.serialize_der();
    let mut session = agent.session(&lasting).await;
    session.apply().await;
}

#[tokio::test]
async fn a_commit_reaches_the_agents_of_every_control_plane() {
    let cluster = Cluster::new().await;
    let (one, other) = (cluster.serve().await, cluster.serve().await);
    cluster.upload().await;
    let mut sessions = Vec::new();
    for server in [&one, &other] {
        let agent = cluster.agent(server, Role::Terminator).await;
        let mut session = agent.session(server).await;
        // Nothing yet: an empty snapshot.
        session.apply().await;
        sessions.push(session);
    }
    cluster.apply(&document("1h")).await;
    for session in &mut sessions {
        assert_eq!(session.apply().await.version.unwrap().revision, 1);
    }
}

#[tokio::test]
async fn a_newer_session_of_an_agent_ends_the_older_one() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    let agent = cluster.agent(&server, Role::Balancer).await;
    let mut older = agent.session(&server).await;
    older.apply().await;
    let mut newer = agent.session(&server).await;
    newer.apply().await;
    assert!(older.next().await.is_err(), "the older stream ends");
    cluster.upload().await;
    cluster.apply(&document("1h")).await;
    assert_eq!(newer.apply().await.version.unwrap().revision, 1);
}

#[tokio::test]
async fn an_admin_state_is_a_change_without_a_revision() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    cluster.upload().await;
    cluster.apply(&document("1h")).await;
    let agent = cluster.agent(&server, Role::Terminator).await;
    let mut session = agent.session(&server).await;
    let before = session.apply().await.version.unwrap();
    let mut writing = cluster.store.write(&author()).await.unwrap();
    let (pool, backend) = ("node".parse().unwrap(), ":3000".parse().unwrap());
    writing
        .set_admin_state(&pool, &backend, Some(agent.id), drain(None))
        .await
        .unwrap();
    writing.commit().await.unwrap();
    let (version, bytes) = convert::snapshot(session.snapshot().await).unwrap();
    assert_eq!(version.revision, before.revision);
    assert!(version.change > before.change);
    assert!(String::from_utf8(bytes).unwrap().contains("\"drain\""));
}

#[tokio::test]
async fn a_command_reaches_an_agent_whichever_control_plane_it_is_connected_to() {
    let cluster = Cluster::new().await;
    let servers = [cluster.serve().await, cluster.serve().await];
    let (mut agents, mut sessions) = (Vec::new(), Vec::new());
    for (server, features) in [
        (&servers[0], vec![feature::CUT_BACKEND.to_owned()]),
        (&servers[1], vec![feature::CUT_BACKEND.to_owned()]),
        (&servers[1], Vec::new()),
    ] {
        let agent = cluster.agent(server, Role::Balancer).await;
        let hello = v1::Hello {
            features,
            ..agent.hello()
        };
        let mut session = agent.session_with(server, hello).await.unwrap();
        session.apply().await;
        agents.push(agent.id.0);
        sessions.push(session);
    }
    let (pool, backend) = ("node".parse().unwrap(), ":3000".parse().unwrap());
    let told = cluster
        .store
        .cut_backend(&author(), &pool, &backend, None)
        .await
        .unwrap();
    assert_eq!(told.len(), 3);
    for (session, cut) in sessions.iter_mut().zip([3, 4]) {
        let Ok(Down::Command(command)) = session.next().await else {
            panic!("another message than a command");
        };
        let named = v1::CutBackend {
            pool: "node".to_owned(),
            backend: ":3000".to_owned(),
        };
        let wanted = Some(v1::command::Command::CutBackend(named));
        assert_eq!(command.command, wanted);
        // Another agent's is none of its business.
        for number in told.iter().map(|number| u64::try_from(*number).unwrap()) {
            session
                .say(Up::CommandResult(v1::CommandResult {
                    number,
                    error: String::new(),
                    connections: if number == command.number { cut } else { 99 },
                }))
                .await;
        }
    }
    let outcomes = soon("all answers", async {
        loop {
            let outcomes = cluster.store.command_outcomes(&told).await.unwrap();
            if outcomes.iter().all(|outcome| outcome.done) {
                return outcomes;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let cut = |agent| {
        let mut outcomes = outcomes.iter();
        let outcome = outcomes.find(|outcome| outcome.agent == agent).unwrap();
        (outcome.connections, outcome.error.is_some())
    };
    assert_eq!(cut(agents[0]), (3, false));
    assert_eq!(cut(agents[1]), (4, false));
    assert_eq!(cut(agents[2]), (0, true), "its version cannot");
}

#[tokio::test]
async fn a_report_counts_once_whichever_control_plane_it_comes_to_and_how_often() {
    let cluster = Cluster::new().await;
    let (one, other) = (cluster.serve().await, cluster.serve().await);
    let boot_id = Uuid::now_v7().to_string();
    let agents = [
        cluster.agent(&one, Role::Balancer).await,
        cluster.agent(&one, Role::Balancer).await,
    ];
    for sequence in 1..=5 {
        for agent in &agents {
            let report = connections_report(&boot_id, sequence, 300);
            for server in [&one, &one, &other] {
                let (up, messages) = mpsc::channel(2);
                up.send(report.clone()).await.unwrap();
                up.send(report.clone()).await.unwrap();
                let mut client = agent.client(server).await;
                let acks = client.report(ReceiverStream::new(messages)).await.unwrap();
                let mut acks = acks.into_inner();
                for _ in 0..2 {
                    let ack = soon("an acknowledgement", acks.message()).await.unwrap();
                    assert_eq!(ack.unwrap().sequence, sequence);
                }
            }
        }
    }
    let pool = sqlx::PgPool::connect(&cluster.url).await.unwrap();
    let sums: Vec<(i64,)> = sqlx::query_as(
        "select sum(count)::bigint from client_stats where measure = 'connections' group by client",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(sums.len(), 300);
    assert!(sums.iter().all(|(sum,)| *sum == 2 * 5 * 7), "{sums:?}");
    let (total,): (i64,) = sqlx::query_as("select sum(total)::bigint from client_totals")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(total, 300 * 2 * 5 * 7);
}

#[tokio::test]
async fn of_pools_and_backends_the_last_report_of_an_agent_is_what_is_seen() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    let agent = cluster.agent(&server, Role::Balancer).await;
    let (up, messages) = mpsc::channel(2);
    let mut client = agent.client(&server).await;
    let acks = client.report(ReceiverStream::new(messages)).await.unwrap();
    let mut acks = acks.into_inner();
    let long_ago = clock::now() - Duration::from_secs(60);
    let boot_id = Uuid::now_v7().to_string();
    for (sequence, ejected, weight, queued, serving) in [
        (1, true, Some(1.5), 3, "backup"),
        (2, false, None, 0, "primary"),
    ] {
        let report = v1::StatsReport {
            boot_id: boot_id.clone(),
            sequence,
            backends: vec![v1::BackendStats {
                pool: "p".to_owned(),
                backend: "b".to_owned(),
                in_flight: 7,
                ejected,
                weight,
                ..v1::BackendStats::default()
            }],
            pools: vec![v1::PoolStats {
                pool: "p".to_owned(),
                queued,
                serving: serving.to_owned(),
            }],
            ..v1::StatsReport::default()
        };
        up.send(report).await.unwrap();
        soon("an acknowledgement", acks.message()).await.unwrap();
        let store = &cluster.store;
        let backends = store.backends_seen("p", long_ago).await.unwrap();
        let [seen] = backends["b"].as_slice() else {
            panic!("one agent has told");
        };
        assert_eq!(
            (seen.in_flight, seen.ejected, seen.weight),
            (7, ejected, weight)
        );
        let pools = store.pool_seen("p", long_ago).await.unwrap();
        let pools: Vec<_> = pools.iter().map(|p| (p.queued, &*p.serving)).collect();
        assert_eq!(pools, [(queued, serving)]);
    }
}

/// Each of `clients` with 7 connections.
fn connections_report(boot_id: &str, sequence: u64, clients: u16) -> v1::StatsReport {
    let client = |number: u16| {
        let [high, low] = number.to_be_bytes();
        v1::ClientStats {
            listener: "edge".to_owned(),
            measure: v1::Measure::Connections.into(),
            client: vec![203, 0, high, low],
            count: 7,
            error: 0,
        }
    };
    v1::StatsReport {
        boot_id: boot_id.to_owned(),
        sequence,
        clients: (0..clients).map(client).collect(),
        totals: vec![v1::ClientTotals {
            listener: "edge".to_owned(),
            role: "balancer".to_owned(),
            measure: v1::Measure::Connections.into(),
            total: 7 * u64::from(clients),
            bound: 0,
        }],
        ..v1::StatsReport::default()
    }
}

#[tokio::test]
async fn a_token_that_none_is_does_not_wait_for_those_who_write() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    let _under_way = cluster.store.write(&author()).await.unwrap();
    let pin = cluster.authority.pin();
    let token = format!("tg1.{}.{}.{pin}", "0".repeat(16), "0".repeat(64));
    let key = KeyPair::generate().unwrap();
    let refused = soon("an answer", Agent::enroll(&server, &token, &key)).await;
    assert_eq!(kind(&refused.err().unwrap()), reason::TOKEN_UNKNOWN);
}

#[tokio::test]
async fn a_revoked_agents_reports_end_and_count_no_more() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    let agent = cluster.agent(&server, Role::Balancer).await;
    let boot_id = Uuid::now_v7().to_string();
    let (up, messages) = mpsc::channel(2);
    up.send(connections_report(&boot_id, 1, 3)).await.unwrap();
    let mut client = agent.client(&server).await;
    let acks = client.report(ReceiverStream::new(messages)).await.unwrap();
    let mut acks = acks.into_inner();
    let first = soon("an acknowledgement", acks.message()).await.unwrap();
    assert_eq!(first.unwrap().sequence, 1);

    cluster.revoke(agent.id).await;
    up.send(connections_report(&boot_id, 2, 3)).await.unwrap();
    let refused = soon("a refusal", acks.message()).await.err().unwrap();
    assert_eq!(kind(&refused), reason::REVOKED);
    let (total,): (i64,) = sqlx::query_as("select sum(total)::bigint from client_totals")
        .fetch_one(&sqlx::PgPool::connect(&cluster.url).await.unwrap())
        .await
        .unwrap();
    assert_eq!(total, 3 * 7);
}

#[tokio::test]
async fn a_report_that_postgres_refuses_is_not_in_the_way_of_others() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    let (bad, good) = (
        cluster.agent(&server, Role::Balancer).await,
        cluster.agent(&server, Role::Balancer).await,
    );
    // Something that only the database can refuse.
    let pool = sqlx::PgPool::connect(&cluster.url).await.unwrap();
    sqlx::query("alter table observed_listeners add check (listener <> 'bad')")
        .execute(&pool)
        .await
        .unwrap();
    let boot_id = Uuid::now_v7().to_string();
    let mut refused = connections_report(&boot_id, 1, 1);
    refused.listeners.push(v1::ListenerStats {
        listener: "bad".to_owned(),
        ..v1::ListenerStats::default()
    });
    let mut streams = Vec::new();
    for (agent, report) in [(&bad, refused), (&good, connections_report(&boot_id, 1, 1))] {
        let (up, messages) = mpsc::channel(1);
        up.send(report).await.unwrap();
        let mut client = agent.client(&server).await;
        let acks = client.report(ReceiverStream::new(messages)).await.unwrap();
        streams.push((up, acks.into_inner()));
    }
    let (_, acks) = &mut streams[1];
    let ack = soon("an acknowledgement", acks.message()).await.unwrap();
    assert_eq!(ack.unwrap().sequence, 1);
}

#[tokio::test]
async fn a_failure_that_is_rolled_back_is_over() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    cluster.upload().await;
    cluster.apply(&document("1h")).await;
    let balancer = cluster.agent(&server, Role::Balancer).await;
    let mut session = balancer.session(&server).await;
    session.apply().await;
    let mut other = document("1h");
    other["listeners"][0]["bind"] = json!(":444");
    cluster.apply(&other).await;
    let bad = session.snapshot().await;
    session.answer(&bad, State::Failed).await;
    cluster.until_state(balancer.id, "failed").await;
    cluster.apply(&document("1h")).await;
    cluster.until_state(balancer.id, "applied").await;
}

#[tokio::test]
async fn a_database_restored_in_place_begins_a_new_epoch() {
    let cluster = Cluster::new().await;
    let server = cluster.serve().await;
    cluster.upload().await;
    for idle in ["1h", "2h", "3h"] {
        cluster.apply(&document(idle)).await;
    }
    let agent = cluster.agent(&server, Role::Terminator).await;
    let mut session = agent.session(&server).await;
    let before = session.apply().await.version.unwrap();
    // Back to an earlier time: the same server and database, smaller numbers.
    let pool = sqlx::PgPool::connect(&cluster.url).await.unwrap();
    sqlx::query("update cluster set change = 1, revision = 1")
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("update desired set change = 1, revision = 1")
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("delete from revisions where number > 1")
        .execute(&pool)
        .await
        .unwrap();
    cluster.until_epoch_is_not(&before.epoch).await;
    cluster.apply(&document("4h")).await;
    let after = session.apply().await.version.unwrap();
    assert_ne!(after.epoch, before.epoch);
    assert!(after.change < before.change);
}

#[tokio::test]
async fn a_session_that_another_control_plane_took_for_dead_is_there_again() {
    let cluster = Cluster::new().await;
    let agent = cluster.agent(&cluster.serve().await, Role::Balancer).await;
    let (ours, session) = (Uuid::now_v7(), Uuid::now_v7());
    let store = &cluster.store;
    let connected = async || {
        let row: (Option<Uuid>,) = sqlx::query_as("select replica from agents where id = $1")
            .bind(agent.id.0)
            .fetch_one(&sqlx::PgPool::connect(&cluster.url).await.unwrap())
            .await
            .unwrap();
        row.0
    };
    store.replica_lives(ours, "127.0.0.1:1").await.unwrap();
    store
        .agents_seen(ours, &[(agent.id, session)])
        .await
        .unwrap();
    assert_eq!(connected().await, Some(ours));
    store.bury_replicas(Duration::ZERO).await.unwrap();
    assert_eq!(connected().await, None);
    store.replica_lives(ours, "127.0.0.1:1").await.unwrap();
    store
        .agents_seen(ours, &[(agent.id, session)])
        .await
        .unwrap();
    assert_eq!(connected().await, Some(ours));

    // An older session, whose control plane does not know yet, takes nothing over.
    let (theirs, older) = (Uuid::now_v7(), Uuid::nil());
    store
        .agents_seen(theirs, &[(agent.id, older)])
        .await
        .unwrap();
    assert_eq!(connected().await, Some(ours));
}

#[tokio::test]
async fn an_agent_is_forgotten_after_its_time_and_not_for_the_databases_absence() {
    let cluster = Cluster::new().await;
    let agent = cluster.agent(&cluster.serve().await, Role::Balancer).await;
    let store = &cluster.store;
    let hour = Duration::from_secs(3600);
    sqlx::query("update agents set seen_at = now() - interval '2 hours'")
        .execute(&sqlx::PgPool::connect(&cluster.url).await.unwrap())
        .await
        .unwrap();
    // Nobody was there to see it until now.
    let forgotten = store.forget_agents(hour, clock::now()).await.unwrap();
    assert_eq!(forgotten, []);
    let since = clock::now() - 3 * hour;
    let forgotten = store.forget_agents(hour, since).await.unwrap();
    assert_eq!(forgotten, [agent.id]);
}

impl Cluster {
    async fn until_state(&self, agent: AgentId, state: &str) {
        let pool = sqlx::PgPool::connect(&self.url).await.unwrap();
        soon(state, async {
            loop {
                let row: (Option<String>,) =
                    sqlx::query_as("select state from agents where id = $1")
                        .bind(agent.0)
                        .fetch_one(&pool)
                        .await
                        .unwrap();
                if row.0.as_deref() == Some(state) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    async fn until_epoch_is_not(&self, epoch: &str) {
        soon("a new epoch", async {
            while self.store.numbers().await.unwrap().epoch.to_string() == epoch {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}
