//! Connections to the app between requests: kept by each data thread for all its
//! clients, last used first, until the app or we have had enough of them. A backend
//! is chosen for every request; what is kept only saves the connect.
//!
//! A connection at rest counts as nobody's: not for `least_connections`, nor for
//! `max_connections`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::body::Upload;
use crate::cause::Cause;
use crate::connect::Upstream;
use crate::engine::{self, AbortOnDrop, sleep_until};
use crate::facts::{BackendFacts, InFlight};
use crate::source::Port;
use crate::state::Backend;
use crate::worker::Worker;

/// Kept for one backend by one thread, at most.
const MOST: usize = 256;
/// The same, where connections serve one client only.
const MOST_OF_ONE: usize = 4;
/// How long one is kept that the app says nothing about.
const REST: Duration = Duration::from_secs(60);
/// Of an answer that its client does not take: as much again is on its way to it.
const UNREAD: usize = 64 << 10;
/// From one look at what is kept to the next.
const SWEEP: Duration = Duration::from_secs(1);
/// How much earlier we let go than the app says it will: a request must not meet its
/// FIN on the way.
const MARGIN: Duration = Duration::from_secs(1);

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

thread_local! {
    static KEPT: RefCell<Shelf> = RefCell::default();
}

/// What a connection leads to: a backend, where it was when the connection was made; and
/// where it comes from, when that is the client that it may serve.
type Place = (*const BackendFacts, SocketAddr, Option<IpAddr>);

#[derive(Default)]
struct Shelf {
    kept: HashMap<Place, Vec<Kept>>,
    /// Whether somebody sweeps.
    swept: bool,
}

/// A connection to the app.
struct Kept {
    sender: SendRequest<Upload>,
    _port: Option<Port>,
    /// Its facts must live as long: they are what it is found by.
    backend: Arc<BackendFacts>,
    address: SocketAddr,
    /// The only client that it serves, of whom the app sees the address.
    client: Option<IpAddr>,
    rest: Duration,
    /// When it is let go, at rest.
    until: Instant,
    _driver: AbortOnDrop,
}

/// A connection to the app, in use.
pub(super) struct Lease {
    kept: Kept,
    held: InFlight,
    /// Whether it has served before: the app may be about to close it.
    pub(super) is_used: bool,
}

impl Lease {
    /// One that is kept, if there is one.
    pub(super) fn kept(
        backend: &Backend,
        client: Option<IpAddr>,
        held: InFlight,
    ) -> Result<Self, InFlight> {
        match take(backend, client) {
            Some(kept) => Ok(Self {
                kept,
                held,
                is_used: true,
            }),
            None => Err(held),
        }
    }

    /// A new one.
    pub(super) async fn over(
        upstream: Upstream,
        address: SocketAddr,
        client: Option<IpAddr>,
    ) -> Result<Self, Cause> {
        let Upstream { stream, mut held } = upstream;
        let (sender, driver) = http1::Builder::new()
            .preserve_header_case(true)
            .max_buf_size(UNREAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Cause::UpstreamReset)?;
        let driver = engine::spawn(async move {
            // Whoever waits for an answer is told; there is nobody else to tell.
            if let Err(error) = driver.with_upgrades().await {
                tracing::debug!(%error, "connection to the app ended");
            }
        })
        .map_err(|_| Cause::Internal)?;
        let kept = Kept {
            sender,
            _port: held.take_port(),
            backend: Arc::clone(&held.backend),
            address,
            client,
            rest: REST,
            until: engine::now(),
            _driver: AbortOnDrop(driver),
        };
        Ok(Self {
            kept,
            held,
            is_used: false,
        })
    }

    /// By what requests are sent.
    pub(super) fn sender(&mut self) -> &mut SendRequest<Upload> {
        &mut self.kept.sender
    }

    /// Takes the app's word for how long it keeps the connection
    /// (`Keep-Alive: timeout=5`, as Node.js says it).
    pub(super) fn heed(&mut self, headers: &HeaderMap) {
        let said = headers
            .get(KEEP_ALIVE)
            .and_then(|value| value.to_str().ok());
        let mut parameters = said.into_iter().flat_map(|said| said.split(','));
        let timeout = parameters.find_map(|p| p.trim().strip_prefix("timeout="));
        if let Some(seconds) = timeout.and_then(|seconds| seconds.parse().ok()) {
            self.kept.rest = Duration::from_secs(seconds)
                .saturating_sub(MARGIN)
                .min(REST);
        }
    }

    /// What was asked is answered: the connection may serve somebody else.
    pub(super) fn release(self, worker: &Arc<Worker>) {
        let mut kept = self.kept;
        drop(self.held);
        if kept.sender.is_closed() || kept.rest.is_zero() {
            return;
        }
        kept.until = engine::now() + kept.rest;
        put(kept, worker);
    }
}

fn take(backend: &Backend, client: Option<IpAddr>) -> Option<Kept> {
    let key = (Arc::as_ptr(&backend.facts), backend.spec.address, client);
    KEPT.with_borrow_mut(|shelf| {
        let kept = shelf.kept.get_mut(&key)?;
        // One whose request's body is still on its way is not ready.
        let ready = kept.iter().rposition(|kept| kept.sender.is_ready())?;
        Some(kept.remove(ready))
    })
}

fn put(kept: Kept, worker: &Arc<Worker>) {
    let key = (Arc::as_ptr(&kept.backend), kept.address, kept.client);
    let most = if kept.client.is_some() {
        MOST_OF_ONE
    } else {
        MOST
    };
    let surplus = KEPT.with_borrow_mut(|shelf| {
        let there = shelf.kept.entry(key).or_default();
        let surplus = (there.len() >= most).then(|| there.remove(0));
        there.push(kept);
        surplus
    });
    // Not under the borrow: it ends a task.
    drop(surplus);
    if KEPT.with_borrow_mut(|shelf| !std::mem::replace(&mut shelf.swept, true)) {
        let worker = Arc::clone(worker);
        if engine::spawn(sweep(worker)).is_err() {
            KEPT.with_borrow_mut(|shelf| shelf.swept = false);
        }
    }
}

/// Lets go what nobody will use, until nothing is kept.
async fn sweep(worker: Arc<Worker>) {
    loop {
        sleep_until(engine::now() + SWEEP).await;
        let now = engine::now();
        let (gone, is_empty) = KEPT.with_borrow_mut(|shelf| {
            let mut gone = Vec::new();
            shelf.kept.retain(|_, kept| {
                let serves = kept.first().is_some_and(|kept| serves(&worker, kept));
                gone.extend(kept.extract_if(.., |kept| {
                    !serves || kept.sender.is_closed() || kept.until <= now
                }));
                kept.shrink_to_fit();
                !kept.is_empty()
            });
            shelf.swept = !shelf.kept.is_empty();
            (gone, !shelf.swept)
        });
        drop(gone);
        if is_empty {
            break;
        }
    }
}

/// Whether requests may still come to go there.
fn serves(worker: &Worker, kept: &Kept) -> bool {
    let active = worker.state.active();
    let pool = active.pools.get(&kept.backend.pool.name);
    let mut backends = pool.into_iter().flat_map(|pool| &pool.backends);
    backends.any(|backend| {
        Arc::ptr_eq(&backend.facts, &kept.backend)
            && backend.spec.address == kept.address
            && backend.takes_connections()
    })
}

/// What an upgrade keeps of it, as long as the other protocol is spoken.
pub(super) type Held = Lease;
