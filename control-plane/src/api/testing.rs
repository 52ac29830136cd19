//! The API for tests: a database of its own, a token of each role, a fleet as
//! needed, and no socket.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, Method, Request, StatusCode, header, request};
use axum::response::Response;
use serde_json::Value;
use tempfile::TempDir;
use tidegate_core::document::{Labels, Role};
use tidegate_core::join_token::JoinToken;
use tidegate_core::snapshot::Fingerprint;
use tidegate_local::databases::Database;
use tidegate_proto::convert::Version;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use uuid::Uuid;

use super::token::{Kind, Token};
use super::{Api, router};
use crate::clock;
use crate::journal::Journal;
use crate::model::{AgentId, ApiRole, Applied, Author, Joining, Outcome};
use crate::seal::{self, Kek};
use crate::series::Series;
use crate::store::{NewApiToken, Presence, Store};

/// Every role, the least first.
pub(super) const ROLES: [ApiRole; 3] = [ApiRole::Viewer, ApiRole::Operator, ApiRole::Admin];

/// A control plane's API.
pub(super) struct Fixture {
    pub(super) store: Store,
    pub(super) kek: Arc<Kek>,
    pub(super) series: Arc<Series>,
    pub(super) journal: Arc<Journal>,
    pub(super) stop: CancellationToken,
    router: Router,
    tokens: [String; 3],
    pub(super) folder: TempDir,
    /// Last: it goes when nobody uses it any more.
    _database: Database,
}

/// A request to be.
pub(super) struct Ask {
    request: request::Builder,
    path: String,
    body: Vec<u8>,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        let database = Database::create().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::connect(database.url()).await.unwrap();
        let kek = Kek::in_file(&folder.path().join("kek"), true).unwrap();
        let cluster = store.cluster(&kek, clock::now()).await.unwrap();
        let kek = Arc::new(kek);
        let (series, journal) = (Arc::<Series>::default(), Arc::<Journal>::default());
        let stop = CancellationToken::new();
        let router = router(Api {
            store: store.clone(),
            kek: Arc::clone(&kek),
            cluster: cluster.id,
            pin: cluster.authority.pin(),
            replica: Uuid::from_u128(1),
            version: "0.0.0-test",
            report_interval: Duration::from_secs(5),
            series: Arc::clone(&series),
            journal: Arc::clone(&journal),
            stop: stop.clone(),
        });
        let mut tokens: [String; 3] = Default::default();
        for (token, role) in tokens.iter_mut().zip(ROLES) {
            *token = add_token(&store, role, Duration::from_secs(3600)).await;
        }
        Self {
            store,
            kek,
            series,
            journal,
            stop,
            router,
            tokens,
            folder,
            _database: database,
        }
    }

    pub(super) fn token(&self, role: ApiRole) -> &str {
        &self.tokens[role as usize]
    }

    /// What is answered to an admin.
    pub(super) async fn ask(&self, ask: Ask) -> Answer {
        let token = self.token(ApiRole::Admin).to_owned();
        self.ask_as(Some(&token), ask).await
    }

    pub(super) async fn ask_as(&self, token: Option<&str>, mut ask: Ask) -> Answer {
        if let Some(token) = token {
            ask = ask.with(header::AUTHORIZATION, &format!("Bearer {token}"));
        }
        let uri = format!("/api/v1{}", ask.path);
        self.answer(ask.request.uri(uri).body(Body::from(ask.body)).unwrap())
            .await
    }

    /// An answer whose body is still to come.
    pub(super) async fn open(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(super) async fn answer(&self, request: Request<Body>) -> Answer {
        let response = self.open(request).await;
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.into(),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        self.ask(get(path)).await.ok()
    }

    pub(super) async fn apply(&self, yaml: &str) -> Value {
        self.ask(put("/config").yaml(yaml)).await.ok()
    }

    /// An agent that joined, by a token made for it.
    pub(super) async fn agent(&self, number: u8, roles: &[Role], labels: &[(&str, &str)]) -> Uuid {
        let labels: Labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let pin = Fingerprint::of(b"pin");
        let token = JoinToken::new([number; 8], *seal::random().unwrap(), pin);
        let expires = clock::now() + Duration::from_secs(60);
        let author = Author("test".into());
        self.store
            .add_join_token(&author, &token, roles, &labels, 1, expires)
            .await
            .unwrap();
        let joining = Joining {
            key: Fingerprint::of(&[number]),
            address: [10, 0, 0, number].into(),
            health_port: 7445,
            version: "0.0.0".into(),
            roles: Default::default(),
        };
        let enrolled = self.store.enroll(&token, &joining, clock::now()).await;
        enrolled.unwrap().unwrap().agent.0
    }

    /// An agent begins a session; its name.
    pub(super) async fn connect(&self, agent: Uuid, number: u8) -> Uuid {
        let session = Uuid::now_v7();
        let presence = Presence {
            session,
            replica: Uuid::from_u128(1),
            boot: Uuid::new_v4(),
            address: [10, 0, 0, number].into(),
            health_port: 7445,
            version: "0.0.1".into(),
            certificate_not_after: clock::now() + Duration::from_secs(60),
        };
        let connected = self.store.agent_connects(AgentId(agent), &presence).await;
        connected.unwrap();
        session
    }

    /// An agent says what it made of what is wanted of it.
    pub(super) async fn says(&self, agent: Uuid, outcome: Outcome) {
        let desired = self.store.desired(AgentId(agent)).await.unwrap().unwrap();
        let version = Version {
            epoch: self.store.numbers().await.unwrap().epoch,
            change: desired.change,
            revision: desired.revision,
            hash: desired.hash,
        };
        let applied = Applied { version, outcome };
        let said = self.store.agent_says(AgentId(agent), &applied).await;
        said.unwrap();
    }
}

/// The text of a new token.
pub(super) async fn add_token(store: &Store, role: ApiRole, lifetime: Duration) -> String {
    let token = Token::fresh(Kind::Api).ok().unwrap();
    let new = NewApiToken {
        id: token.id.clone(),
        secret_hash: token.secret_hash(),
        role,
        label: role.as_str().to_owned(),
        expires_at: clock::now() + lifetime,
    };
    let added = store.add_api_token(&Author("test".into()), &new).await;
    added.unwrap();
    token.reveal()
}

pub(super) fn get(path: &str) -> Ask {
    ask(Method::GET, path)
}

pub(super) fn put(path: &str) -> Ask {
    ask(Method::PUT, path)
}

pub(super) fn post(path: &str) -> Ask {
    ask(Method::POST, path)
}

pub(super) fn delete(path: &str) -> Ask {
    ask(Method::DELETE, path)
}

pub(super) fn ask(method: Method, path: &str) -> Ask {
    Ask {
        request: Request::builder().method(method),
        path: path.to_owned(),
        body: Vec::new(),
    }
}

impl Ask {
    pub(super) fn with(self, name: HeaderName, value: &str) -> Self {
        Self {
            request: self.request.header(name, value),
            ..self
        }
    }

    pub(super) fn body(self, content_type: &str, text: impl Into<Vec<u8>>) -> Self {
        Self {
            body: text.into(),
            ..self.with(header::CONTENT_TYPE, content_type)
        }
    }

    pub(super) fn json(self, value: Value) -> Self {
        self.body("application/json", value.to_string())
    }

    pub(super) fn yaml(self, text: &str) -> Self {
        self.body("application/yaml", text)
    }

    pub(super) fn if_match(self, tag: &str) -> Self {
        self.with(header::IF_MATCH, tag)
    }
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| {
            panic!("{why}: {}", String::from_utf8_lossy(&self.body));
        })
    }

    /// The body of an answer that is no problem.
    #[track_caller]
    pub(super) fn ok(&self) -> Value {
        assert!(
            self.status.is_success(),
            "{}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        self.json()
    }

    pub(super) fn tag(&self) -> String {
        self.headers[header::ETAG].to_str().unwrap().to_owned()
    }

    /// The kind of a problem, whose form is checked.
    #[track_caller]
    pub(super) fn problem(&self) -> String {
        let body = self.json();
        assert_eq!(
            self.headers[header::CONTENT_TYPE],
            "application/problem+json"
        );
        assert_eq!(body["status"], self.status.as_u16());
        assert_eq!(
            body["request_id"],
            self.headers["x-request-id"].to_str().unwrap()
        );
        for field in ["title", "detail"] {
            assert!(!body[field].as_str().unwrap().is_empty(), "{body}");
        }
        let kind = body["type"].as_str().unwrap();
        kind.strip_prefix("urn:tidegate:problem:")
            .unwrap()
            .to_owned()
    }

    /// The pointers of a problem's mistakes.
    #[track_caller]
    pub(super) fn pointers(&self) -> Vec<String> {
        assert_eq!(self.problem(), "invalid-document", "{}", self.json());
        let body = self.json();
        let errors = body["errors"].as_array().unwrap();
        let pointer = |error: &Value| error["pointer"].as_str().unwrap().to_owned();
        errors.iter().map(pointer).collect()
    }
}
