//! To a control plane: name, TCP, TLS, HTTP/2, each within a bound. Several
//! control planes are the same one to an agent: it takes them in random order.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::link_tls::{self, TlsError};
use super::{draw, in_full};
use crate::source::Source;

/// For one address to accept.
const CONNECT: Duration = Duration::from_secs(5);
/// For name, TCP and TLS together.
const WHOLE: Duration = Duration::from_secs(15);
/// HTTP/2 pings, also while nothing is said: a peer that is gone without a word
/// is noticed within the sum.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_WAIT: Duration = Duration::from_secs(10);
/// Of a snapshot that waits to be read.
const WINDOW: u32 = 1 << 20;

/// The addresses given, `HOST:PORT`.
#[derive(Clone)]
pub(crate) struct ControlPlanes(pub(crate) Vec<String>);

impl ControlPlanes {
    /// Each once, in random order.
    pub(crate) fn shuffled(&self) -> Vec<&str> {
        let mut drawn: Vec<_> = self.0.iter().map(|at| (draw(), at.as_str())).collect();
        drawn.sort_by(|a, b| a.0.total_cmp(&b.0));
        drawn.into_iter().map(|(_, at)| at).collect()
    }
}

/// A connection to a control plane.
pub(crate) struct Dialled {
    /// Speaks over this connection only; when it is gone, every call fails.
    pub(crate) channel: Channel,
    /// Where we came from.
    pub(crate) local: IpAddr,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The name leads nowhere.
    #[error("the name cannot be resolved: {0}")]
    Name(String),
    /// Nobody accepts.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// Somebody else accepts.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// It takes too long.
    #[error("no answer within {WHOLE:?}")]
    TooLate,
    /// It does not speak HTTP/2.
    #[error("HTTP/2: {0}")]
    Http(String),
}

/// Connects to `at`.
///
/// # Errors
/// As far as it came, and why no further.
pub(crate) async fn dial(at: &str, tls: ClientConfig) -> Result<Dialled, DialError> {
    let opening = async {
        let stream = tcp(at).await?;
        let local = stream.local_addr().map_err(connect_failed)?.ip();
        let connector = TlsConnector::from(Arc::new(tls));
        let secured = connector.connect(link_tls::server_name()?, stream).await;
        let secured = secured.map_err(|error| link_tls::explain(&error))?;
        let channel = over(secured).await?;
        Ok(Dialled {
            channel,
            local: tidegate_core::addr::unmapped((local, 0).into()).ip(),
        })
    };
    timeout(WHOLE, opening)
        .await
        .unwrap_or(Err(DialError::TooLate))
}

async fn tcp(at: &str) -> Result<TcpStream, DialError> {
    let found = tokio::net::lookup_host(at).await;
    let found = found.map_err(|error| DialError::Name(error.to_string()))?;
    let mut last = DialError::Name("it has no address".into());
    for address in found {
        // From wherever the kernel likes: the agent's own address may be one
        // that only its neighbours reach.
        match timeout(CONNECT, Source::default().connect_on_control(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = connect_failed(error),
            Err(_) => last = DialError::Connect(format!("no answer within {CONNECT:?}")),
        }
    }
    Err(last)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn connect_failed(error: std::io::Error) -> DialError {
    DialError::Connect(error.to_string())
}

/// HTTP/2 over this one connection: a channel that dialled again by itself
/// would be another session than the one the control plane knows.
async fn over(secured: TlsStream<TcpStream>) -> Result<Channel, DialError> {
    let once = Arc::new(Mutex::new(Some(TokioIo::new(secured))));
    let connector = tower::service_fn(move |_| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::future::ready(stream.ok_or_else(|| std::io::Error::other("the connection is gone")))
    });
    Endpoint::from_shared(format!("http://{}", tidegate_proto::SERVER_NAME))
        .map_err(|error| DialError::Http(error.to_string()))?
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .connect_with_connector(connector)
        .await
        .map_err(|error| DialError::Http(in_full(&error)))
}
