//! HTTP/1.1: one request on any stream, or many on one kept connection.

use std::io;

use http::header::{CONNECTION, HOST};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::within;

/// A whole response.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that is kept.
pub struct Http {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Http {
    /// HTTP over a stream; `host` is what requests name.
    ///
    /// # Errors
    /// Never, as things are: the first request tells.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: &str,
    ) -> io::Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // Its error is also the request's that waits for it.
        tokio::spawn(async { connection.await.ok() });
        Ok(Self {
            sender,
            host: host.to_owned(),
        })
    }

    /// A GET.
    ///
    /// # Errors
    /// When the connection ends before the answer.
    pub async fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send(Method::GET, path, HeaderMap::new(), Bytes::new())
            .await
    }

    /// Any request.
    ///
    /// # Errors
    /// When the connection ends before the answer.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> io::Result<Answer> {
        let what = format!("an answer to {method} {path}");
        headers
            .entry(HOST)
            .or_insert(self.host.parse().expect("a host is a header"));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .body(Full::new(body));
        if let Ok(request) = &mut request {
            *request.headers_mut() = headers;
        }
        let request = request.map_err(io::Error::other)?;
        within(what, async {
            self.sender.ready().await.map_err(io::Error::other)?;
            let response = self
                .sender
                .send_request(request)
                .await
                .map_err(io::Error::other)?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body,
            })
        })
        .await
    }
}

/// One GET on a stream of its own.
///
/// # Errors
/// When the connection ends before the answer.
pub async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    path: &str,
) -> io::Result<Answer> {
    let close = HeaderMap::from_iter([(CONNECTION, "close".parse().expect("a header"))]);
    Http::over(stream, host)
        .await?
        .send(Method::GET, path, close, Bytes::new())
        .await
}
