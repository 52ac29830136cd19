//! The redirect listener's recipe: as `balancer` up to the policy, and then a plain
//! HTTP request or two that the listener answers itself. It leads nowhere.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, HOST, HeaderValue, LOCATION};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tidegate_core::document::Redirect;
use tidegate_core::redirect::{challenge, location};

use crate::cause::{Cause, Phase, Served};
use crate::connection::Connection;
use crate::engine::{HyperTimer, TcpStream, timeout_at};
use crate::linger::{LITTLE, linger};
use crate::proxy;
use crate::state::{Listener, State};

/// The head of a request, at most.
const LARGEST_HEAD: usize = 8 << 10;

/// Serves an accepted connection to its end: one request, one answer. All of it has
/// to be over within `first_byte`.
pub(crate) async fn serve(
    mut client: TcpStream,
    connection: &mut Connection,
    listener: Arc<Listener>,
    redirect: Redirect,
) -> Served {
    let deadline = connection.first_byte_deadline();
    let serving = async {
        let arrival = proxy::arrival(&mut client, connection).await?;
        connection.admit(arrival.ends.client, listener)?;
        connection.enter(Phase::Request);
        answer_one(client, connection, redirect).await
    };
    timeout_at(deadline, serving)
        .await
        .unwrap_or_else(|_| Err(connection.too_late()))
}

async fn answer_one(client: TcpStream, connection: &Connection, redirect: Redirect) -> Served {
    let state = &connection.worker.state;
    let has_body = Cell::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        connection.live.add_request();
        has_body.set(!request.body().is_end_stream());
        let answer = answer(&request, redirect, state);
        async { Ok::<_, Infallible>(answer) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(HyperTimer)
        .keep_alive(false)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(client), service);
    match serving.without_shutdown().await {
        Ok(_) if connection.live.requests() == 0 => Err(Cause::ClientClosed),
        Ok(parts) => {
            let client = parts.io.into_inner();
            if has_body.get() {
                linger(client, LITTLE).await;
            }
            Ok(Cause::Answered)
        }
        Err(error) if error.is_parse() || error.is_parse_too_large() => Err(Cause::BadRequest),
        Err(error) if error.is_incomplete_message() => Err(Cause::ClientClosed),
        Err(_) => Err(Cause::ClientReset),
    }
}

type Answer = Response<Full<Bytes>>;

fn answer(request: &Request<Incoming>, redirect: Redirect, state: &State) -> Answer {
    if let Some(token) = challenge(request.uri())
        && matches!(*request.method(), Method::GET | Method::HEAD)
        && let Some(authorization) = state.challenges().get(token)
    {
        return page(StatusCode::OK, authorization.clone());
    }
    elsewhere(request.uri(), request.headers(), redirect)
}

fn elsewhere(target: &Uri, headers: &HeaderMap, redirect: Redirect) -> Answer {
    let mut hosts = headers.get_all(HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    let host = host.and_then(|host| host.to_str().ok());
    let sent = location(target, host, redirect.port).filter(|_| another.is_none());
    let sent = sent.and_then(|sent| HeaderValue::try_from(sent).ok());
    let status = StatusCode::from_u16(redirect.status.get());
    let (Some(sent), Ok(status)) = (sent, status) else {
        return page(
            StatusCode::BAD_REQUEST,
            "the request names no host\n".into(),
        );
    };
    let mut answer = page(status, "this site is served by https\n".into());
    answer.headers_mut().insert(LOCATION, sent);
    answer
}

fn page(status: StatusCode, words: Arc<str>) -> Answer {
    let mut answer = Response::new(Full::from(Bytes::copy_from_slice(words.as_bytes())));
    *answer.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, text);
    answer
}
