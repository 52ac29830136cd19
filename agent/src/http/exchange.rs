//! One request to the app and its answer back: what the app is told, which backend
//! gets it, and what may be tried again. The same for every version of HTTP that the
//! client speaks; the app speaks HTTP/1.1.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::{CONNECTION, EXPECT, HOST, HeaderValue, TRAILER, UPGRADE};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use tidegate_core::addr::ClientAddr;
use tidegate_core::document::Http;
use tidegate_core::forwarded::{self, Forwarding, Proto};
use tidegate_core::framing;

use super::body::{Active, Answer, Count, Download, Progress, Upload};
use super::page;
use super::upstream::{Held, Lease};
use super::websocket::Opened;
use crate::cause::{Cause, Phase};
use crate::connect::{Tried, Wanted};
use crate::connection::{Connection, Live};
use crate::engine::{self, timeout_at};
use crate::opening::{Opening, Spoken};
use crate::proxy::Arrival;
use crate::state::{Listener, Target};

/// The requests of one client connection.
pub(super) struct Exchange<'a> {
    pub(super) connection: &'a Connection,
    /// What it came by.
    listener: Arc<Listener>,
    arrival: Arrival,
    http: &'a Http,
    /// What the app is told of the client, where it is.
    forwarding: Option<RefCell<Forwarding>>,
    is_trusted: bool,
    /// What its requests are called, but for their number, where they are.
    id: Option<String>,
    /// Requests at work.
    pub(super) active: Count,
    /// What upgrades are handed to.
    upgraded: RefCell<Vec<Upgrade>>,
    /// Whether the client has left in the middle of a body of its own.
    has_broken_off: Rc<Cell<bool>>,
}

/// Two connections that have agreed to carry a WebSocket.
pub(super) struct Upgrade {
    pub(super) client: OnUpgrade,
    pub(super) upstream: OnUpgrade,
    pub(super) held: Held,
    pub(super) active: Active,
}

/// Why there is no answer of the app's.
enum Failed {
    /// There will be none, from nobody.
    For(Cause),
    /// The client's body is larger than it may be.
    TooLarge,
    /// The client's body stopped coming.
    BodyTimeout,
    /// The app has the request, and says nothing.
    ResponseTimeout,
}

impl From<Cause> for Failed {
    fn from(cause: Cause) -> Self {
        Self::For(cause)
    }
}

impl<'a> Exchange<'a> {
    /// No request yet.
    pub(super) fn new(
        connection: &'a Connection,
        listener: Arc<Listener>,
        arrival: Arrival,
        http: &'a Http,
        forwarded: bool,
    ) -> Self {
        let client = arrival.ends.client;
        let mut trusted = http.trusted_proxies.iter();
        let port = arrival.ends.destination.port();
        let forwarding = || RefCell::new(Forwarding::new(client, Proto::Https, port));
        Self {
            is_trusted: trusted.any(|cidr| cidr.net().contains(&client.ip())),
            forwarding: forwarded.then(forwarding),
            id: http.request_id.then(|| connection.live.id()),
            connection,
            listener,
            arrival,
            http,
            active: Count::default(),
            upgraded: RefCell::default(),
            has_broken_off: Rc::default(),
        }
    }

    /// Whether the client has left in the middle of a body of its own.
    pub(super) fn has_broken_off(&self) -> bool {
        self.has_broken_off.get()
    }

    /// An upgrade that a request led to.
    pub(super) fn take_upgrade(&self) -> Option<Upgrade> {
        self.upgraded.borrow_mut().pop()
    }

    /// Answers a request, always.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Download>, Infallible> {
        let active = self.active.enter();
        let live = &self.connection.live;
        let number = live.add_request();
        let is_h2 = request.version() == Version::HTTP_2;
        let asked_upgrade = request.headers().contains_key(UPGRADE);
        let (mut head, body) = request.into_parts();
        let opened = Opened::from(&mut head);
        if let Err(why) = framing::target(&mut head, self.arrival.ends.destination) {
            return Ok(close(page::plain(StatusCode::BAD_REQUEST, why)));
        }
        if opened.is_some() && !body.is_end_stream() {
            let why = "a request for a WebSocket has no body";
            return Ok(close(page::plain(StatusCode::BAD_REQUEST, why)));
        }
        self.tell_about_client(&mut head, opened.is_some());
        let id = self.identify(&mut head, number);
        let limit = self.http.max_body_bytes.map_or(u64::MAX, u64::from);
        if body.size_hint().lower() > limit {
            return Ok(self.failed(Failed::TooLarge, id));
        }
        let replay = head.method.is_idempotent() && body.is_end_stream() && opened.is_none();
        let again = replay.then(|| head.clone());
        let progress = Progress::new(&self.has_broken_off);
        let counted = is_h2.then(|| Arc::clone(live));
        let upload = Upload::new(body, limit, &progress, counted.clone());
        let request = Request::from_parts(head, upload);
        let mut response = match self.exchange(request, again, &progress).await {
            Ok((response, lease)) => self.conclude(response, lease, opened, counted, active, id),
            Err(failed) => self.failed(failed, id),
        };
        // Behind a request for another protocol comes what nobody has looked at.
        if asked_upgrade && !is_h2 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response = close(response);
        }
        Ok(response)
    }

    fn tell_about_client(&self, head: &mut Parts, is_websocket: bool) {
        forwarded::strip_hop_by_hop(&mut head.headers, is_websocket);
        // Trailers are headers too, and an announced one would pass unexamined:
        // what is not announced is dropped with the body's end.
        head.headers.remove(TRAILER);
        // It is we who say when a body may come: once there is a backend for it.
        head.headers.remove(EXPECT);
        let Some(forwarding) = &self.forwarding else {
            forwarded::strip(&mut head.headers);
            return;
        };
        let mut forwarding = forwarding.borrow_mut();
        let host = head.headers.get(HOST).cloned();
        match self.is_trusted {
            true => forwarding.append(&mut head.headers, host),
            false => forwarding.set(&mut head.headers, host),
        }
    }

    /// Names the request by its connection and its place there, or as a trusted client
    /// has; the name is on pages of ours, too.
    fn identify(&self, head: &mut Parts, number: u32) -> Option<HeaderValue> {
        let id = self.id.as_ref()?;
        let made = format!("{id}-{number}");
        forwarded::identify(&mut head.headers, made, self.is_trusted);
        head.headers.get(forwarded::X_REQUEST_ID).cloned()
    }

    /// Sends the request until a backend answers it. What may have reached an
    /// app is sent again only where that is safe (RFC 9110 section 9.2.2).
    async fn exchange(
        &self,
        mut request: Request<Upload>,
        again: Option<Parts>,
        progress: &Rc<Progress>,
    ) -> Result<(Response<Incoming>, Lease), Failed> {
        // The pool as it is now: a kept client connection outlives changes.
        let target = self.connection.target(&self.listener);
        let target = target.ok_or(Cause::NoRoute)?;
        let mut tried = Tried::default();
        let mut last = None;
        let mut repeated = false;
        loop {
            let mut lease = self.lease(&target, &mut tried, last).await?;
            self.connection.enter(Phase::Relay);
            let mut error = match self.send(&mut lease, request, progress).await? {
                Ok(response) => return Ok((response, lease)),
                Err(error) => error,
            };
            tracing::debug!(error = %error.error(), "no answer from the app");
            if progress.is_too_large() {
                return Err(Failed::TooLarge);
            }
            request = match (error.take_message(), &again) {
                (Some(unsent), _) => unsent,
                // Once: a request that kills the app must not be carried to each process.
                (None, Some(head)) if !repeated => {
                    repeated = true;
                    Request::from_parts(head.clone(), Upload::none(progress))
                }
                (None, _) => return Err(Cause::UpstreamReset.into()),
            };
            if lease.is_used {
                // It was closed while it rested, which says nothing about the backend.
                tried.forget_last();
            }
            last = Some(Cause::UpstreamReset);
        }
    }

    /// Waits for the app's answer for as long as it may take, which begins anew with
    /// everything that the client sends.
    async fn send(
        &self,
        lease: &mut Lease,
        request: Request<Upload>,
        progress: &Progress,
    ) -> Result<Result<Response<Incoming>, TrySendError<Request<Upload>>>, Failed> {
        let patience = self.http.response_timeout.duration();
        let is_websocket = request.headers().contains_key(UPGRADE);
        let mut answer = pin!(lease.sender().try_send_request(request));
        let mut from = engine::now();
        loop {
            match timeout_at(from + patience, &mut answer).await {
                Ok(answer) => return Ok(answer),
                Err(_) if progress.last() > from => from = progress.last(),
                Err(_) if progress.is_over() || is_websocket => {
                    return Err(Failed::ResponseTimeout);
                }
                Err(_) => return Err(Failed::BodyTimeout),
            }
        }
    }

    /// A connection to a backend that may have the request: one that is kept, or a new
    /// one.
    async fn lease(
        &self,
        target: &Target,
        tried: &mut Tried,
        mut last: Option<Cause>,
    ) -> Result<Lease, Cause> {
        let connection = self.connection;
        let timeouts = &connection.spec.policy.timeouts;
        // One deadline for all before the first payload byte; later requests
        // have the same time for themselves.
        let deadline = match connection.live.requests() {
            0 | 1 => connection.first_byte_deadline(),
            _ => engine::now() + timeouts.first_byte.duration(),
        };
        let opening = Opening::new(connection, target, &self.arrival, Spoken::default());
        let mut wanted = Wanted {
            connection,
            pool: Arc::clone(&target.pool),
            opening: &opening,
            spoken: None,
        };
        // Where the app sees the client's own address, nobody else is to be taken for it.
        let is_transparent = connection.spec.work.is_transparent();
        let client = connection.live.client().filter(|_| is_transparent);
        let client = client.map(ClientAddr::ip);
        let leasing = async {
            loop {
                let (backend, held) = wanted.next(tried, last).await?;
                let held = match Lease::kept(&backend, client, held) {
                    Ok(lease) => return Ok(lease),
                    Err(held) => held,
                };
                match wanted.open(&backend, held).await? {
                    Ok(upstream) => {
                        return Lease::over(upstream, backend.spec.address, client).await;
                    }
                    Err(cause) => last = Some(cause),
                }
            }
        };
        timeout_at(deadline, leasing)
            .await
            .unwrap_or_else(|_| Err(connection.too_late()))
    }

    fn conclude(
        &self,
        mut response: Response<Incoming>,
        mut lease: Lease,
        opened: Option<Opened>,
        counted: Option<Arc<Live>>,
        active: Active,
        id: Option<HeaderValue>,
    ) -> Response<Download> {
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        match (switches, opened) {
            (true, Some(opened)) => {
                let Some(answer) = opened.accept(&mut response) else {
                    return self.failed(Cause::UpstreamReset.into(), id);
                };
                let upstream = hyper::upgrade::on(&mut response);
                self.upgraded.borrow_mut().push(Upgrade {
                    client: answer.client,
                    upstream,
                    held: lease,
                    active,
                });
                *response.status_mut() = answer.status;
                return response.map(|_| page::nothing());
            }
            // Nobody asked for it; or it was asked to switch, and says that it is done.
            (true, None) => return self.failed(Cause::UpstreamReset.into(), id),
            (false, Some(opened)) if opened.would_switch(response.status()) => {
                return self.failed(Cause::UpstreamReset.into(), id);
            }
            (false, _) => {}
        }
        lease.heed(response.headers());
        forwarded::strip_hop_by_hop(response.headers_mut(), false);
        let worker = &self.connection.worker;
        response.map(|body| Download::App(Answer::new(body, lease, worker, counted, active)))
    }

    fn failed(&self, failed: Failed, id: Option<HeaderValue>) -> Response<Download> {
        let facts = &self.connection.live.listener;
        facts.requests_failed.fetch_add(1, Ordering::Relaxed);
        let is_clients = matches!(failed, Failed::TooLarge | Failed::BodyTimeout);
        let (status, why) = match failed {
            Failed::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
            Failed::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "the body did not come"),
            Failed::ResponseTimeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "the backend did not answer in time",
            ),
            Failed::For(Cause::NoBackend) => (StatusCode::SERVICE_UNAVAILABLE, "no backend is up"),
            Failed::For(Cause::QueueFull | Cause::QueueTimeout) => {
                (StatusCode::SERVICE_UNAVAILABLE, "no backend has room")
            }
            Failed::For(Cause::ConnectTimeout | Cause::FirstByteTimeout) => {
                (StatusCode::GATEWAY_TIMEOUT, "no backend answered in time")
            }
            Failed::For(_) => (StatusCode::BAD_GATEWAY, "no backend answered"),
        };
        let mut response = page::plain(status, why);
        if let Some(id) = id {
            response.headers_mut().insert(forwarded::X_REQUEST_ID, id);
        }
        // The rest of such a body is not read.
        match is_clients {
            true => close(response),
            false => response,
        }
    }
}

/// The last answer of its connection, in HTTP/1.1; HTTP/2 has no such header.
fn close(mut response: Response<Download>) -> Response<Download> {
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
