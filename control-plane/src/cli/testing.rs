//! For this module's tests: a control plane that answers what it is told to, over
//! real TLS, and a screen that is kept.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use axum::serve::Listener;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::cli::client::Client;
use crate::cli::connection::Connection;
use crate::cli::screen::Screen;

/// The time in all these tests.
pub(crate) fn noon() -> OffsetDateTime {
    datetime!(2026-11-01 12:00:00 UTC)
}

/// What a command wrote.
#[derive(Default)]
pub(crate) struct Captured {
    out: Vec<u8>,
    notes: Vec<u8>,
}

impl Captured {
    pub(crate) fn screen(&mut self) -> Screen<'_> {
        Screen::of_a_test(&mut self.out, &mut self.notes, noon)
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8(self.out.clone()).unwrap()
    }

    pub(crate) fn notes(&self) -> String {
        String::from_utf8(self.notes.clone()).unwrap()
    }
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// `PUT /config?dry_run=true`.
    pub(crate) line: String,
    pub(crate) content_type: String,
    pub(crate) body: String,
}

#[derive(Default)]
struct Script {
    token: String,
    answers: BTreeMap<String, (u16, &'static str, String)>,
    seen: Vec<Seen>,
}

/// A control plane of one test.
pub(crate) struct Rest {
    url: String,
    ca: tempfile::NamedTempFile,
    token: String,
    script: Arc<Mutex<Script>>,
}

impl Rest {
    pub(crate) async fn start() -> Self {
        Self::named("127.0.0.1").await
    }

    /// One whose certificate is for `name`.
    pub(crate) async fn named(name: &str) -> Self {
        // A second call is of another test in this process, and changes nothing.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (ca, tls) = identity(name);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let token = "tga1.0123456789abcdef.secret-part".to_owned();
        let script = Arc::new(Mutex::new(Script {
            token: token.clone(),
            ..Script::default()
        }));
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&script));
        tokio::spawn(async move { axum::serve(Tls { listener, tls }, router).await });
        Self {
            url: format!("https://{address}/"),
            ca,
            token,
            script,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn ca_file(&self) -> &Path {
        self.ca.path()
    }

    pub(crate) fn client(&self) -> Client {
        self.client_at(&self.url)
    }

    /// A client that trusts this one's authority, at any address.
    pub(crate) fn client_at(&self, url: &str) -> Client {
        let connection = Connection {
            url: url.parse().unwrap(),
            token: self.token.clone().into(),
            token_from: "a test".into(),
            ca_file: Some(self.ca.path().to_owned()),
        };
        Client::new(connection).ok().unwrap()
    }

    /// What `METHOD /path` (below `/api/v1`, without its query) is answered.
    pub(crate) fn answer(&self, call: &str, status: u16, body: &Value) {
        self.say(call, status, "application/json", body.to_string());
    }

    pub(crate) fn problem(&self, call: &str, status: u16, detail: &str) {
        let body = json!({ "status": status, "title": "a problem", "detail": detail });
        self.say(call, status, "application/problem+json", body.to_string());
    }

    pub(crate) fn say(&self, call: &str, status: u16, content_type: &'static str, body: String) {
        let mut script = self.script.lock().unwrap();
        script
            .answers
            .insert(call.to_owned(), (status, content_type, body));
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.script.lock().unwrap().seen.clone()
    }
}

async fn answer(
    State(script): State<Arc<Mutex<Script>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let head = |name| {
        let value = headers.get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let (authorization, content_type) = (head(header::AUTHORIZATION), head(header::CONTENT_TYPE));
    let mut script = script.lock().unwrap();
    let path = uri
        .path()
        .strip_prefix("/api/v1")
        .unwrap_or("outside the API");
    let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    script.seen.push(Seen {
        line: format!("{method} {path}{query}"),
        content_type,
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    let unscripted = (
        404,
        "text/plain",
        format!("the test says nothing to {method} {path}"),
    );
    let (status, content_type, body) = if authorization == format!("Bearer {}", script.token) {
        let said = script.answers.get(&format!("{method} {path}"));
        said.cloned().unwrap_or(unscripted)
    } else {
        (401, "text/plain", "another token was expected".to_owned())
    };
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header(header::CONTENT_TYPE, content_type)
        .body(Body::from(body))
        .unwrap()
}

struct Tls {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, peer) = self.listener.accept().await.unwrap();
            // A client that does not trust us ends it here.
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn identity(name: &str) -> (tempfile::NamedTempFile, TlsAcceptor) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca_key = KeyPair::generate().unwrap();
    let ca = authority.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(authority, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ca.pem()).unwrap();
    (file, TlsAcceptor::from(Arc::new(config)))
}
