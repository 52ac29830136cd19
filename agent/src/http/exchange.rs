//! One request to the app and its answer back: headers, the kept connection,
//! and what may be tried again.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::{CONNECTION, HOST, HeaderValue, TRAILER, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Empty, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tidegate_core::forwarded::{self, Forwarding, Proto};

use crate::cause::{Cause, Phase};
use crate::connect::{Tried, Wanted};
use crate::connection::Connection;
use crate::engine::{self, AbortOnDrop, timeout_at};
use crate::facts::InFlight;
use crate::opening::{Opening, Spoken};
use crate::proxy::{Arrival, Ends};
use crate::state::{Listener, Pool, Target};

/// What goes to the app: the client's body, or none when a request is sent again.
type Upload = Either<Incoming, Empty<Bytes>>;
/// What goes to the client: the app's body, or a page of ours.
type Download = Either<Incoming, Full<Bytes>>;

/// The requests of one client connection.
pub(super) struct Exchange<'a> {
    connection: &'a Connection,
    /// What it came by.
    listener: Arc<Listener>,
    arrival: Arrival,
    forwarded: bool,
    kept: Mutex<Option<Kept>>,
    upgrade: Mutex<Option<Upgrade>>,
}

/// A connection to the app, between requests.
struct Kept {
    sender: SendRequest<Upload>,
    held: Held,
}

/// What ends when a connection to the app is let go.
pub(super) struct Held {
    in_flight: InFlight,
    _driver: AbortOnDrop,
}

/// Two connections that have agreed to carry a WebSocket.
pub(super) struct Upgrade {
    pub(super) client: OnUpgrade,
    pub(super) upstream: OnUpgrade,
    pub(super) held: Held,
}

impl<'a> Exchange<'a> {
    /// No request yet.
    pub(super) fn new(
        connection: &'a Connection,
        listener: Arc<Listener>,
        arrival: Arrival,
        forwarded: bool,
    ) -> Self {
        Self {
            connection,
            listener,
            arrival,
            forwarded,
            kept: Mutex::default(),
            upgrade: Mutex::default(),
        }
    }

    /// The upgrade that the last request led to, if it did.
    pub(super) fn take_upgrade(&self) -> Option<Upgrade> {
        lock(&self.upgrade).take()
    }

    /// Answers a request, always.
    pub(super) async fn answer(
        &self,
        mut request: Request<Incoming>,
    ) -> Result<Response<Download>, Infallible> {
        self.connection.live.add_request();
        let websocket = is_websocket(&request);
        let on_client = websocket.then(|| hyper::upgrade::on(&mut request));
        let (mut head, body) = request.into_parts();
        if let Err(why) = route_by_host(&mut head, self.arrival.ends) {
            return Ok(page(StatusCode::BAD_REQUEST, why));
        }
        self.tell_about_client(&mut head, websocket);
        let replay = may_repeat(&head.method) && body.is_end_stream();
        let again = replay.then(|| head.clone());
        let answer = self
            .exchange(Request::from_parts(head, Either::Left(body)), again)
            .await;
        Ok(match answer {
            Ok((response, kept)) => self.conclude(response, kept, on_client),
            Err(cause) => self.failed(cause),
        })
    }

    fn tell_about_client(&self, head: &mut Parts, websocket: bool) {
        forwarded::strip_hop_by_hop(&mut head.headers, websocket);
        // Trailers are headers too, and an announced one would pass unexamined:
        // what is not announced is dropped with the body's end.
        head.headers.remove(TRAILER);
        if !self.forwarded {
            forwarded::strip(&mut head.headers);
            return;
        }
        let host = head.headers.get(HOST).cloned();
        let forwarding = Forwarding {
            client: self.arrival.ends.client,
            proto: Proto::Https,
            host,
            port: self.arrival.ends.destination.port(),
        };
        forwarded::set(&mut head.headers, &forwarding);
    }

    /// Sends the request until a backend answers it. What may have reached an
    /// app is sent again only where that is safe (RFC 9110 section 9.2.2).
    async fn exchange(
        &self,
        mut request: Request<Upload>,
        again: Option<Parts>,
    ) -> Result<(Response<Incoming>, Kept), Cause> {
        // The pool as it is now: a kept client connection outlives changes.
        let target = self
            .connection
            .target(&self.listener)
            .ok_or(Cause::NoRoute)?;
        let mut tried = Tried::default();
        let mut last = None;
        let mut repeated = false;
        loop {
            let mut upstream = match self.take_kept(&target.pool).await {
                Some(kept) => kept,
                None => self
                    .open(&target, &mut tried)
                    .await
                    .map_err(|cause| last.unwrap_or(cause))?,
            };
            self.connection.enter(Phase::Relay);
            let mut error = match upstream.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, upstream)),
                Err(error) => error,
            };
            tracing::debug!(error = %error.error(), "no answer from the app");
            request = match (error.take_message(), &again) {
                (Some(unsent), _) => unsent,
                // Once: a request that kills the app must not be carried to each process.
                (None, Some(head)) if !repeated => {
                    repeated = true;
                    Request::from_parts(head.clone(), Either::Right(Empty::new()))
                }
                (None, _) => return Err(Cause::UpstreamReset),
            };
            last = Some(Cause::UpstreamReset);
        }
    }

    /// The kept connection, if it still serves: its backend is in the pool and
    /// takes connections, and the app has not closed it meanwhile.
    async fn take_kept(&self, pool: &Pool) -> Option<Kept> {
        let mut kept = lock(&self.kept).take()?;
        let backend = &kept.held.in_flight.backend;
        let mut listed = pool.backends.iter();
        let wanted = listed.any(|b| Arc::ptr_eq(&b.facts, backend) && b.takes_connections());
        let serves = wanted && kept.sender.ready().await.is_ok();
        serves.then_some(kept)
    }

    async fn open(&self, target: &Target, tried: &mut Tried) -> Result<Kept, Cause> {
        let timeouts = &self.connection.spec.policy.timeouts;
        // One deadline for all before the first payload byte; later requests
        // have the same time for themselves.
        let deadline = match self.connection.live.requests() {
            0 | 1 => self.connection.first_byte_deadline(),
            _ => engine::now() + timeouts.first_byte.duration(),
        };
        let opening = Opening::new(self.connection, target, &self.arrival, Spoken::default());
        let wanted = Wanted {
            connection: self.connection,
            pool: Arc::clone(&target.pool),
            opening: &opening,
            spoken: None,
        };
        let upstream = timeout_at(deadline, wanted.reach(tried))
            .await
            .unwrap_or_else(|_| Err(self.connection.too_late()))?;
        let (sender, driver) = http1::Builder::new()
            .preserve_header_case(true)
            .handshake(TokioIo::new(upstream.stream))
            .await
            .map_err(|_| Cause::UpstreamReset)?;
        let driver = engine::spawn(async move {
            // Whoever waits for an answer is told; there is nobody else to tell.
            if let Err(error) = driver.with_upgrades().await {
                tracing::debug!(%error, "connection to the app ended");
            }
        })
        .map_err(|_| Cause::Internal)?;
        let held = Held {
            in_flight: upstream.held,
            _driver: AbortOnDrop(driver),
        };
        Ok(Kept { sender, held })
    }

    fn conclude(
        &self,
        mut response: Response<Incoming>,
        kept: Kept,
        on_client: Option<OnUpgrade>,
    ) -> Response<Download> {
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        match (switches, on_client) {
            (true, Some(client)) => {
                let upstream = hyper::upgrade::on(&mut response);
                *lock(&self.upgrade) = Some(Upgrade {
                    client,
                    upstream,
                    held: kept.held,
                });
            }
            // Nobody asked for it.
            (true, None) => return self.failed(Cause::UpstreamReset),
            (false, _) => *lock(&self.kept) = Some(kept),
        }
        forwarded::strip_hop_by_hop(response.headers_mut(), switches);
        response.map(Either::Left)
    }

    fn failed(&self, cause: Cause) -> Response<Download> {
        self.connection
            .live
            .listener
            .requests_failed
            .fetch_add(1, Ordering::Relaxed);
        match cause {
            Cause::NoBackend => page(StatusCode::SERVICE_UNAVAILABLE, "no backend is up"),
            Cause::QueueFull | Cause::QueueTimeout => {
                page(StatusCode::SERVICE_UNAVAILABLE, "no backend has room")
            }
            Cause::ConnectTimeout | Cause::FirstByteTimeout => {
                page(StatusCode::GATEWAY_TIMEOUT, "no backend answered in time")
            }
            _ => page(StatusCode::BAD_GATEWAY, "no backend answered"),
        }
    }
}

/// A WebSocket opening handshake (RFC 6455 section 4.1). Other upgrades are
/// dropped, as RFC 9110 section 7.8 allows: passing on `h2c` would let a client
/// talk past us.
fn is_websocket(request: &Request<Incoming>) -> bool {
    let has = |name, token: &str| {
        let values = request.headers().get_all(name).into_iter();
        let mut tokens = values
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','));
        tokens.any(|t| t.trim().eq_ignore_ascii_case(token))
    };
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has(CONNECTION, "upgrade")
        && has(UPGRADE, "websocket")
}

/// Puts the target in origin form and exactly one Host beside it (RFC 9112
/// sections 3.2 and 3.2.2).
fn route_by_host(head: &mut Parts, ends: Ends) -> Result<(), &'static str> {
    if head.method == Method::CONNECT {
        return Err("this is not a proxy to connect through");
    }
    let authority = head
        .uri
        .authority()
        .map(|a| HeaderValue::from_str(a.as_str()));
    match (authority, hosts(&head.headers), head.version) {
        // The target's own authority overrides the header.
        (Some(Ok(authority)), _, _) => {
            head.headers.insert(HOST, authority);
        }
        (Some(Err(_)), _, _) => return Err("the target's host is malformed"),
        (None, 1, _) => {}
        (None, 0, Version::HTTP_10) => {
            let address = HeaderValue::from_str(&ends.destination.to_string());
            head.headers
                .insert(HOST, address.map_err(|_| "Host is missing")?);
        }
        (None, 0, _) => return Err("Host is missing"),
        (None, _, _) => return Err("there is more than one Host"),
    }
    if let Some(target) = head.uri.path_and_query().cloned() {
        head.uri = Uri::from(target);
    }
    head.version = Version::HTTP_11;
    Ok(())
}

fn hosts(headers: &HeaderMap) -> usize {
    headers.get_all(HOST).into_iter().count()
}

/// RFC 9110 section 9.2.2.
fn may_repeat(method: &Method) -> bool {
    method.is_idempotent()
}

/// A page of our own: says nothing about what is behind us.
fn page(status: StatusCode, why: &'static str) -> Response<Download> {
    let mut response = Response::new(Either::Right(Full::from(format!("{status}: {why}\n"))));
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, text);
    response
}

/// What our locks guard is whole after each single operation, also where the
/// task panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
