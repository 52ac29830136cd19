//! `GET /health/<listener>`: whether this agent can serve a listener. The
//! balancers' checks ask here, so the answer is short and tells nothing else.
//! 200 ok; 503 when nobody behind the listener serves, or the agent drains
//! or is revoked; 404 for a listener that is not here.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::state::{Listener, State};

/// The header that says how many processes are behind a listener.
pub(crate) const PROCESSES: HeaderName = HeaderName::from_static("tidegate-processes");
/// Checks answered at once; more wait in the kernel's queue.
const AT_ONCE: usize = 256;
/// For one connection, whatever it does: a check asks one short question, and
/// whoever only holds connections open must not keep checks out.
const LIFETIME: Duration = Duration::from_secs(1);

/// Answers until the program ends.
pub(crate) async fn serve(listener: TcpListener, state: Arc<State>) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "health port");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(&request, &state);
                async { Ok::<_, Infallible>(answer) }
            });
            let serving = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .max_buf_size(8 << 10)
                .serve_connection(TokioIo::new(stream), service);
            // A peer that is slow or talks nonsense has its answer: the end.
            let _ = timeout(LIFETIME, serving).await;
            drop(permit);
        });
    }
}

fn answer(request: &Request<Incoming>, state: &State) -> Response<Full<Bytes>> {
    let name = request.uri().path().strip_prefix("/health/");
    let (status, words) = match (request.method(), name) {
        (&Method::GET | &Method::HEAD, Some(name)) => health_of(name, state),
        (_, Some(_)) => (StatusCode::METHOD_NOT_ALLOWED, "GET it\n"),
        (_, None) => (StatusCode::NOT_FOUND, "no such page\n"),
    };
    let mut response = Response::new(Full::from(words));
    *response.status_mut() = status;
    if let Some(processes) = name.and_then(|name| processes(name, state)) {
        response.headers_mut().insert(PROCESSES, processes.into());
    }
    response
}

/// How many of its processes serve the listener: by so much it weighs more than an
/// instance with one.
fn processes(name: &str, state: &State) -> Option<u32> {
    u32::try_from(listener(name, state)?.taking()).ok()
}

fn listener(name: &str, state: &State) -> Option<Arc<Listener>> {
    let active = state.active();
    let mut listeners = active.listeners.values();
    listeners.find(|l| l.spec.name.as_str() == name).cloned()
}

fn health_of(name: &str, state: &State) -> (StatusCode, &'static str) {
    if state.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    match listener(name, state) {
        None => (StatusCode::NOT_FOUND, "no such listener\n"),
        Some(listener) if !listener.serves() => (StatusCode::SERVICE_UNAVAILABLE, "down\n"),
        Some(_) => (StatusCode::OK, "ok\n"),
    }
}
