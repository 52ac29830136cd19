//! WebSockets: how a client asks for one in each version of HTTP (RFC 6455 section 4.1,
//! RFC 8441 section 4), how the app is asked (always in HTTP/1.1), and the relay of
//! bytes when both have agreed.

use std::task::Context;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tidegate_core::forwarded;

use super::exchange::Upgrade;
use crate::cause::{Cause, Served};
use crate::connection::Connection;
use crate::control::draw_bits;
use crate::engine::TcpStream;
use crate::relay::{self, End, Leftover};

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A request for a WebSocket.
pub(super) struct Opened {
    client: OnUpgrade,
    /// The key that we sent for a client whose version has none.
    key: Option<HeaderValue>,
}

/// How the client is told yes.
pub(super) struct Accepted {
    pub(super) client: OnUpgrade,
    pub(super) status: StatusCode,
}

impl Opened {
    /// Recognises one, and puts it as HTTP/1.1 has it. Other upgrades are none, as RFC
    /// 9110 section 7.8 allows: passing on `h2c` would let a client talk past us.
    pub(super) fn from(head: &mut Parts) -> Option<Self> {
        let is_h1 = head.method == Method::GET
            && head.version == Version::HTTP_11
            && lists(head, &CONNECTION, "upgrade")
            && lists(head, &UPGRADE, "websocket");
        let protocol = head.extensions.get::<Protocol>();
        let is_h2 = head.method == Method::CONNECT
            && protocol.is_some_and(|protocol| protocol.as_ref() == b"websocket");
        if !is_h1 && !is_h2 {
            return None;
        }
        let client = head.extensions.remove::<OnUpgrade>()?;
        let key = is_h2.then(|| {
            let bits = (u128::from(draw_bits()) << 64) | u128::from(draw_bits());
            let key = BASE64_STANDARD.encode(bits.to_be_bytes());
            HeaderValue::from_str(&key).unwrap_or_else(|_| HeaderValue::from_static(""))
        });
        if let Some(key) = &key {
            head.method = Method::GET;
            let headers = &mut head.headers;
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_KEY, key.clone());
        }
        Some(Self { client, key })
    }

    /// Takes the app's `101 Switching Protocols`, and leaves the headers that the client
    /// is to have; `None` when the app has not understood what it was asked.
    pub(super) fn accept<B>(self, response: &mut Response<B>) -> Option<Accepted> {
        let headers = response.headers_mut();
        forwarded::strip_hop_by_hop(headers, self.key.is_none());
        let mut status = StatusCode::SWITCHING_PROTOCOLS;
        if let Some(key) = &self.key {
            let accept = headers.remove(SEC_WEBSOCKET_ACCEPT)?;
            if accept.as_bytes() != accept_of(key).as_bytes() {
                return None;
            }
            status = StatusCode::OK;
        }
        Some(Accepted {
            client: self.client,
            status,
        })
    }

    /// Whether the client would take this status for a yes: in HTTP/2 every success.
    pub(super) fn would_switch(&self, status: StatusCode) -> bool {
        self.key.is_some() && status.is_success()
    }
}

fn accept_of(key: &HeaderValue) -> String {
    let text = [key.as_bytes(), GUID].concat();
    BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
}

fn lists(head: &Parts, name: &http::HeaderName, token: &str) -> bool {
    let values = head.headers.get_all(name).into_iter();
    let mut tokens = values
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','));
    tokens.any(|t| t.trim().eq_ignore_ascii_case(token))
}

/// Carries bytes between the app and `client`, which has read `from_client` already.
pub(super) async fn carry<C: End>(
    client: C,
    from_client: Vec<u8>,
    upstream: OnUpgrade,
    held: super::upstream::Held,
    connection: &Connection,
) -> Served {
    let upstream = upstream.await.map_err(|error| {
        tracing::debug!(%error, "upgrade failed");
        Cause::UpstreamReset
    })?;
    let upstream = upstream
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| Cause::Internal)?;
    let leftover = Leftover {
        from_client,
        from_upstream: upstream.read_buf.into(),
    };
    let upstream = upstream.io.into_inner();
    let cause = relay::run_after(client, upstream, leftover, connection).await;
    drop(held);
    Ok(cause)
}

/// Carries a WebSocket that is one stream of many; what ends it ends no other.
pub(super) async fn carry_stream(upgrade: Upgrade, connection: &Connection) {
    let Upgrade {
        client,
        upstream,
        held,
        active,
    } = upgrade;
    let client = match client.await {
        Ok(client) => TokioIo::new(client),
        Err(error) => {
            tracing::debug!(%error, "upgrade failed");
            return;
        }
    };
    let ended = carry(client, Vec::new(), upstream, held, connection).await;
    tracing::debug!(?ended, "WebSocket over HTTP/2 ended");
    drop(active);
}

/// A stream of HTTP/2. Its socket is the connection's, which looks after it.
impl End for TokioIo<Upgraded> {
    fn reset_on_close(&self) {}

    fn keep_alive(&self, _: &Connection) {}

    fn is_reset(&self, _: &Context<'_>) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_the_rfc_has_it() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept_of(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
