//! Clients: TCP from any loopback address, TLS that trusts the test's authority,
//! and on top of it HTTP/1.1 ([`http`]) and WebSocket ([`ws`]).

pub mod command;
pub mod http;
pub mod openssl;
pub mod ws;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ::http::HeaderMap;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::http::Http;
use self::ws::Ws;
use crate::within;

/// Connects from an address of our choice.
///
/// # Errors
/// As the kernel says.
pub async fn connect(source: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.bind(SocketAddr::new(source, 0))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A client: where it connects from, and whom it trusts.
#[derive(Clone)]
pub struct Client {
    source: IpAddr,
    tls: Arc<rustls::ClientConfig>,
}

impl Client {
    /// A client at `source`.
    pub fn new(source: IpAddr, tls: Arc<rustls::ClientConfig>) -> Self {
        Self { source, tls }
    }

    /// The same client at another address.
    #[must_use]
    pub fn from(&self, source: IpAddr) -> Self {
        Self {
            source,
            ..self.clone()
        }
    }

    /// A TCP connection.
    ///
    /// # Errors
    /// When the connection is refused.
    pub async fn tcp(&self, to: SocketAddr) -> io::Result<TcpStream> {
        within(format!("a connection to {to}"), connect(self.source, to)).await
    }

    /// TLS over a new connection, asking for `name`.
    ///
    /// # Errors
    /// When the connection or the handshake fails.
    pub async fn tls(&self, to: SocketAddr, name: &str) -> io::Result<TlsStream<TcpStream>> {
        self.tls_over(self.tcp(to).await?, name).await
    }

    /// TLS over a connection that is there.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn tls_over<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        name: &str,
    ) -> io::Result<TlsStream<S>> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        within("a TLS handshake", connector.connect(name, stream)).await
    }

    /// An HTTP connection over TLS.
    ///
    /// # Errors
    /// When the connection or the handshake fails.
    pub async fn http(&self, to: SocketAddr, name: &str) -> io::Result<Http> {
        Http::over(self.tls(to, name).await?, name).await
    }

    /// A WebSocket over TLS, after the app's hello.
    ///
    /// # Errors
    /// When anything up to the hello fails.
    pub async fn ws(&self, to: SocketAddr, name: &str) -> io::Result<Ws> {
        self.ws_with(to, name, HeaderMap::new()).await
    }

    /// A WebSocket whose upgrade request carries more headers.
    ///
    /// # Errors
    /// When anything up to the hello fails.
    pub async fn ws_with(&self, to: SocketAddr, name: &str, headers: HeaderMap) -> io::Result<Ws> {
        let stream = self.tls(to, name).await?;
        within("a WebSocket's hello", Ws::over(stream, name, headers)).await
    }
}

/// The certificate a server has shown.
pub fn shown_certificate<S>(stream: &TlsStream<S>) -> CertificateDer<'static> {
    let chain = stream
        .get_ref()
        .1
        .peer_certificates()
        .expect("the handshake is done");
    chain
        .first()
        .expect("a server shows a certificate")
        .clone()
        .into_owned()
}

/// How a connection ended under a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In order.
    Eof,
    /// By a reset, or without TLS's goodbye.
    Cut,
}

/// Reads to the end under the deadline: what came, and how it ended.
pub async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    let end = match within("the end of a connection", stream.read_to_end(&mut bytes)).await {
        Ok(_) => End::Eof,
        Err(_) => End::Cut,
    };
    (bytes, end)
}

/// Sends `bytes` and reads the same number back.
///
/// # Errors
/// When the connection ends before.
pub async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    bytes: &[u8],
) -> io::Result<Vec<u8>> {
    let mut answer = vec![0; bytes.len()];
    within("an answer", async {
        stream.write_all(bytes).await?;
        stream.flush().await?;
        stream.read_exact(&mut answer).await
    })
    .await?;
    Ok(answer)
}

/// Whether what is sent on `stream` comes back.
pub async fn echoes<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> bool {
    exchange(stream, b"still there?")
        .await
        .is_ok_and(|answer| answer == b"still there?")
}
