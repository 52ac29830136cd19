//! Active health checks: one task per backend, on the control thread. What a
//! result means is `core::health`'s.

mod handshake;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use tidegate_core::document::{AdminState, BackendName, CheckKind, Name};
use tidegate_core::health::Transition;
use tidegate_core::proxy_protocol::Header;
use tidegate_core::snapshot::Check;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::control::draw;
use crate::facts::{BackendFacts, Passed};
use crate::health_port::PROCESSES;
use crate::proxy;
use crate::source::Source;
use crate::state::{Active, Backend, Pool, State};
use crate::{host, sys};

/// Checks under way at once: a restart with thousands of backends must not
/// open thousands of sockets in the same instant.
const AT_ONCE: usize = 256;

/// The running checks.
pub(crate) struct Probes {
    state: Arc<State>,
    source: Source,
    running: HashMap<Name, OfPool>,
    at_once: Arc<Semaphore>,
    changed: Arc<Notify>,
}

/// The checks of a pool's backends, as it was last looked at.
struct OfPool {
    pool: Arc<Pool>,
    probes: HashMap<BackendName, Probe>,
}

struct Probe {
    address: SocketAddr,
    check: Check,
    _task: AbortOnDropHandle<()>,
}

impl Probes {
    /// None yet; they will come from `source`.
    pub(crate) fn new(state: Arc<State>, source: Source) -> Self {
        Self {
            state,
            source,
            running: HashMap::new(),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            changed: Arc::default(),
        }
    }

    /// Told when a backend goes up or down.
    pub(crate) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// Checks what `active` has: starts, keeps and ends. What is in maintenance is
    /// not checked; any other change of an admin state leaves its checks alone.
    pub(crate) fn follow(&mut self, active: &Active) {
        let mut before = std::mem::take(&mut self.running);
        for (name, pool) in &active.pools {
            let checked = match before.remove(name) {
                // The same one, and so the same checks: a change costs what it touches.
                Some(checked) if Arc::ptr_eq(&checked.pool, pool) => checked,
                Some(checked) => self.of_pool(pool, checked.probes),
                None => self.of_pool(pool, HashMap::new()),
            };
            self.running.insert(name.clone(), checked);
        }
    }

    fn of_pool(&self, pool: &Arc<Pool>, mut before: HashMap<BackendName, Probe>) -> OfPool {
        let mut probes = HashMap::with_capacity(pool.backends.len());
        for backend in &pool.backends {
            if backend.spec.admin == AdminState::Maintenance {
                continue;
            }
            let kept = before.remove(&backend.spec.name).filter(|probe| {
                probe.address == backend.spec.check_address && probe.check == pool.spec.check
            });
            let probe = kept.unwrap_or_else(|| self.start(pool, backend));
            probes.insert(backend.spec.name.clone(), probe);
        }
        OfPool {
            pool: Arc::clone(pool),
            probes,
        }
    }

    fn start(&self, pool: &Arc<Pool>, backend: &Arc<Backend>) -> Probe {
        let checking = Checking {
            state: Arc::clone(&self.state),
            source: self.source.clone(),
            address: backend.spec.check_address,
            check: pool.spec.check.clone(),
            facts: Arc::clone(&backend.facts),
            at_once: Arc::clone(&self.at_once),
            changed: Arc::clone(&self.changed),
        };
        Probe {
            address: checking.address,
            check: checking.check.clone(),
            _task: AbortOnDropHandle::new(tokio::spawn(checking.run())),
        }
    }
}

/// What came of a check.
enum Asked {
    /// What the backend said or did, in words.
    Backend(Result<Passed, String>),
    /// This host could not even ask.
    Nobody(io::Error),
}

struct Checking {
    state: Arc<State>,
    source: Source,
    address: SocketAddr,
    check: Check,
    facts: Arc<BackendFacts>,
    at_once: Arc<Semaphore>,
    changed: Arc<Notify>,
}

impl Checking {
    async fn run(self) {
        loop {
            let begun = Instant::now();
            let asked = match self.at_once.acquire().await {
                Ok(_permit) => self.once().await,
                // Closed by nobody; if it were, checks would be over.
                Err(_) => return,
            };
            match asked {
                Asked::Backend(result) => self.report(result),
                // Says nothing about the backend.
                Asked::Nobody(error) => host::tell_want(&error, "a health check"),
            }
            // From start to start: a check that waits for its timeout must not
            // delay the next one, or `fall` of them would take longer than said.
            sleep_until(begun + jittered(self.facts.pace(&self.check), draw())).await;
        }
    }

    async fn once(&self) -> Asked {
        let limit = self.check.timeout.duration();
        let asking = async {
            match self.source.connect_on_control(self.address).await {
                Ok(stream) => Asked::Backend(self.ask(stream).await),
                Err(error) if sys::is_ours(&error) => Asked::Nobody(error),
                Err(error) => Asked::Backend(Err(format!("connect: {}", in_words(&error)))),
            }
        };
        match timeout(limit, asking).await {
            Ok(asked) => asked,
            Err(_) => Asked::Backend(Err(format!("no answer within {}", self.check.timeout))),
        }
    }

    async fn ask(&self, mut stream: TcpStream) -> Result<Passed, String> {
        if let Some(version) = self.check.proxy {
            let written = proxy::write(&mut stream, version, &Header::Local).await;
            written.map_err(|e| format!("PROXY header: {}", in_words(&e)))?;
        }
        match &self.check.kind {
            CheckKind::Tcp => Ok("accepted".into()),
            CheckKind::Tls(tls) => handshake::shake(stream, tls, self.address).await,
            CheckKind::Http(http) => {
                let host = http.host.as_ref().map(ToString::to_string);
                let response = get(stream, &http.path.to_string(), host, self.address).await?;
                by_status(&response, http.passes(response.status().as_u16()))
            }
            CheckKind::Agent(agent) => {
                let path = format!("/health/{}", agent.listener);
                let response = get(stream, &path, None, self.address).await?;
                let told = by_status(&response, response.status() == StatusCode::OK)?;
                Ok(with_processes(told, &response))
            }
        }
    }

    fn report(&self, result: Result<Passed, String>) {
        let words = match &result {
            Ok(passed) => passed.words.clone(),
            Err(words) => words.clone(),
        };
        let (pool, backend) = (&self.facts.pool.name, &self.facts.name);
        let transition = self.facts.observe(result);
        // It is up again, or carries more, or its ejection is over.
        self.facts.pool.queue.wake_one();
        match transition {
            Some(Transition::Up) => {
                tracing::info!(%pool, %backend, check = words, "backend up");
            }
            Some(Transition::Down) => {
                tracing::warn!(%pool, %backend, check = words, "backend down");
            }
            None => return,
        }
        self.changed.notify_one();
        if let Some(pool) = self.state.active().pools.get(pool) {
            pool.note_serving();
        }
    }
}

async fn get(
    stream: TcpStream,
    path: &str,
    host: Option<String>,
    address: SocketAddr,
) -> Result<Response<Incoming>, String> {
    let in_http = |error: &dyn std::error::Error| format!("HTTP: {error}");
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| in_http(&e))?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(driver));
    let request = Request::get(path)
        .header(HOST, host.unwrap_or_else(|| address.to_string()))
        .header(USER_AGENT, "tidegate-check")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| in_http(&e))?;
    sender.send_request(request).await.map_err(|e| in_http(&e))
}

fn by_status(response: &Response<Incoming>, passes: bool) -> Result<Passed, String> {
    let words = format!("answered {}", response.status().as_u16());
    if passes { Ok(words.into()) } else { Err(words) }
}

/// An agent of before there was the header says nothing: it weighs as one.
fn with_processes(told: Passed, response: &Response<Incoming>) -> Passed {
    let processes = response.headers().get(PROCESSES);
    let processes = processes.and_then(|value| value.to_str().ok()?.parse().ok());
    Passed {
        words: match processes {
            Some(count) => format!("{}, {count} up", told.words),
            None => told.words,
        },
        processes,
    }
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".into(),
        io::ErrorKind::ConnectionReset => "reset".into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        _ => error.to_string(),
    }
}

/// Within a tenth around `interval`, so that checks started together drift apart.
fn jittered(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(0.95 + random / 10.0)
}

#[cfg(test)]
mod tests {
    use tidegate_core::snapshot::Snapshot;

    use super::*;
    use crate::state::tests::with_a_in;
    use crate::tls::Keys;

    fn follow(probes: &mut Probes, state: &State, snapshot: Snapshot) -> Vec<tokio::task::Id> {
        let ready = state.prepare(snapshot, &Keys::default(), |b| b.start);
        probes.follow(&ready.unwrap());
        let mut running: Vec<_> = probes.running.values().flat_map(|p| &p.probes).collect();
        running.sort_by_key(|(name, _)| (*name).clone());
        running
            .into_iter()
            .map(|(_, p)| p._task.abort_handle().id())
            .collect()
    }

    #[tokio::test]
    async fn admin_states_leave_checks_alone_except_maintenance() {
        let state = Arc::new(State::new(1));
        let mut probes = Probes::new(Arc::clone(&state), Source::default());
        let ready = follow(&mut probes, &state, with_a_in(AdminState::Ready));
        let drain = follow(&mut probes, &state, with_a_in(AdminState::Drain));
        assert_eq!(ready, drain);
        let maintenance = follow(&mut probes, &state, with_a_in(AdminState::Maintenance));
        assert_eq!(maintenance, ready[1..]);
        let again = follow(&mut probes, &state, with_a_in(AdminState::Ready));
        assert_eq!((again.len(), again[1]), (2, ready[1]));
    }
}
