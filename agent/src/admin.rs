//! The admin socket: metrics for Prometheus, and pages that show what this
//! agent does now. For the operator of the machine: a unix socket that only
//! its user can open, or an address the operator has chosen.

mod connections;

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde_json::json;
use tidegate_core::document::AdminState;
use tidegate_core::health::WEIGHT_UNIT;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::connections::Query;
use crate::metrics::Metrics;
use crate::settings::AdminAddr;
use crate::state::{Backend, Pool, State};
use crate::worker::Workers;

/// Requests at once.
const AT_ONCE: usize = 16;
/// For one connection, whatever it does.
const LIFETIME: Duration = Duration::from_secs(30);
/// Rows of a page, unless `?top=N` asks for another number.
const ROWS: usize = 100;

/// What the pages show.
pub(crate) struct Admin {
    pub(crate) state: Arc<State>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Bound, not answering yet.
pub(crate) enum AdminListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AdminListener {
    /// Binds. A unix socket that nobody answers on any more is replaced.
    ///
    /// # Errors
    /// When the address or the path is in use, or cannot be made.
    pub(crate) async fn bind(address: &AdminAddr) -> io::Result<Self> {
        match address {
            AdminAddr::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            AdminAddr::Unix(path) => bind_unix(path).await.map(Self::Unix),
        }
    }
}

async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    if UnixStream::connect(path).await.is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another agent answers there: give each a --state-dir or --admin of its own",
        ));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

impl Admin {
    /// Answers until the program ends.
    pub(crate) async fn serve(self, listener: AdminListener) {
        let admin = Arc::new(self);
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return;
            };
            let accepted = match &listener {
                AdminListener::Tcp(tcp) => tcp.accept().await.map(|(s, _)| Stream::Tcp(s)),
                AdminListener::Unix(unix) => unix.accept().await.map(|(s, _)| Stream::Unix(s)),
            };
            match accepted {
                Ok(stream) => {
                    let admin = Arc::clone(&admin);
                    tokio::spawn(async move {
                        match stream {
                            Stream::Tcp(stream) => admin.connection(stream).await,
                            Stream::Unix(stream) => admin.connection(stream).await,
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "admin socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn connection(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(|request| {
            let answer = self.answer(&request);
            async { Ok::<_, Infallible>(answer) }
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .max_buf_size(8 << 10)
            .serve_connection(TokioIo::new(stream), service);
        // Whoever is slow or talks nonsense has its answer: the end.
        let _ = timeout(LIFETIME, serving).await;
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET it\n".into());
        }
        let query = request.uri().query().unwrap_or_default();
        match request.uri().path() {
            "/metrics" => self.metrics(),
            "/debug/snapshot" => self.snapshot(),
            "/debug/connections" => self.connections(query),
            "/debug/clients" => self.clients(rows(query)),
            "/debug/backends" => self.backends(),
            "/debug/tickets" => self.tickets(),
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /metrics and /debug/{snapshot,connections,clients,backends,tickets}\n"
                    .into(),
            ),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        // Bytes of live connections are brought up to now.
        self.workers.settle();
        let Ok(page) = self.metrics.text() else {
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the metrics cannot be written\n".into(),
            );
        };
        let mut response = text(StatusCode::OK, page);
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        response
            .headers_mut()
            .insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
        response
    }

    fn snapshot(&self) -> Response<Full<Bytes>> {
        let active = self.state.active();
        json_page(&json!({ "hash": active.hash, "snapshot": active.snapshot }))
    }

    fn connections(&self, query: &str) -> Response<Full<Bytes>> {
        match Query::parse(query) {
            Ok(query) => json_page(&query.page(self.workers.live())),
            Err(why) => text(StatusCode::BAD_REQUEST, why),
        }
    }

    fn clients(&self, rows: usize) -> Response<Full<Bytes>> {
        json_page(&self.workers.summary().top(rows))
    }

    /// Ids and stages of ticket keys; never the keys.
    fn tickets(&self) -> Response<Full<Bytes>> {
        let all = self.state.tickets().sorted();
        let rows = all
            .iter()
            .map(|ticketer| json!({ "listener": ticketer.listener, "keys": ticketer.rows() }));
        json_page(&rows.collect::<Vec<_>>())
    }

    fn backends(&self) -> Response<Full<Bytes>> {
        let active = self.state.active();
        let mut rows: Vec<BackendRow> = active
            .pools
            .values()
            .flat_map(|pool| pool.backends.iter().map(|b| BackendRow::of(pool, b)))
            .collect();
        rows.sort_by(|a, b| (&a.pool, &a.backend).cmp(&(&b.pool, &b.backend)));
        json_page(&rows)
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(UnixStream),
}

#[derive(Serialize)]
struct BackendRow {
    pool: String,
    backend: String,
    address: String,
    up: bool,
    admin: AdminState,
    ejected: bool,
    /// Its share at this moment, in the document's units.
    weight: f64,
    in_flight: u32,
    last_check: Option<CheckRow>,
}

#[derive(Serialize)]
struct CheckRow {
    passed: bool,
    words: String,
    age_ms: u128,
}

impl BackendRow {
    fn of(pool: &Pool, backend: &Backend) -> Self {
        let facts = &backend.facts;
        let view = backend.view(pool.spec.slow_start);
        Self {
            pool: facts.pool.name.to_string(),
            backend: facts.name.to_string(),
            address: backend.spec.address.to_string(),
            up: facts.is_up(),
            admin: backend.spec.admin,
            ejected: facts.is_ejected(),
            weight: f64::from(view.weight) / f64::from(WEIGHT_UNIT),
            in_flight: facts.in_flight.load(std::sync::atomic::Ordering::Relaxed),
            last_check: facts.last_check().map(|check| CheckRow {
                passed: check.passed,
                words: check.words,
                age_ms: check.at.elapsed().as_millis(),
            }),
        }
    }
}

fn rows(query: &str) -> usize {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(key, _)| *key == "top")
        .and_then(|(_, n)| n.parse().ok())
        .unwrap_or(ROWS)
}

fn json_page(value: &impl Serialize) -> Response<Full<Bytes>> {
    let Ok(mut page) = serde_json::to_string_pretty(value) else {
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the page cannot be written\n".into(),
        );
    };
    page.push('\n');
    let mut response = text(StatusCode::OK, page);
    let kind = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn text(status: StatusCode, page: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(page));
    *response.status_mut() = status;
    response
}
