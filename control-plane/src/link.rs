//! The link with the agents: the only gRPC. Here are its TLS (who may call what)
//! and the server; `enrollment` makes identities, `session` tells agents what to
//! run, `report` takes in what they see.
//!
//! Who calls is decided by the verified certificate and the agent's row, never by
//! an id in a message.

mod enrollment;
mod hello;
mod peer;
mod report;
mod said;
mod session;

use std::sync::Arc;
use std::time::Duration;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tidegate_core::tickets::Timing;
use tidegate_proto::v1::agent_link_server::AgentLinkServer;
use tidegate_proto::v1::enrollment_server::EnrollmentServer;
use tidegate_proto::{MAX_AGENT_MESSAGE_BYTES, MAX_MESSAGE_BYTES, v1};
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::ca::Authority;
use crate::fleet::Fleet;
use crate::incoming::{self, Bounds, Replaceable};
use crate::ingest::Ingest;
use crate::limits::Shares;
use crate::publish::Publisher;
use crate::seal::Kek;
use crate::store::Store;
use peer::ExpiredToo;

/// HTTP/2 pings, also while idle: a peer that is gone is noticed within twice
/// this.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// For a connection without a certificate, which may only enrol.
const ENROLLING: Duration = Duration::from_secs(60);
/// Streams of one connection: a session, a report, some calls.
const STREAMS: u32 = 16;

/// What the link needs of the control plane.
pub(crate) struct Link {
    pub(crate) store: Store,
    pub(crate) kek: Arc<Kek>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) ingest: Ingest,
    pub(crate) replica: Uuid,
    pub(crate) certificate_lifetime: Duration,
    pub(crate) report_interval: Duration,
    pub(crate) hellos: Admission,
    pub(crate) ticket_timing: Timing,
}

pub(crate) use hello::Admission;

/// TLS of the link: every agent of the cluster, and nobody's name in particular
/// for those who come to enrol.
///
/// # Errors
/// When the authority's certificate is none.
pub(crate) fn tls(
    authority: &Authority,
    certificate: Arc<Replaceable>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|why| rustls::Error::General(why.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(ExpiredToo(verifier)))
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Each connection shows its certificate: a resumed one would be judged by an
    // old look at it.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Serves until told to stop.
///
/// # Errors
/// When the server ends by itself.
pub(crate) async fn serve(
    link: Arc<Link>,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let bounds = Bounds {
        at_once: Shares::now().link,
        unproven: Some(ENROLLING),
    };
    let ready = incoming::accept(listener, tls, bounds, stop.clone());
    let connections = ReceiverStream::new(ready).map(Ok::<_, std::io::Error>);
    let agent_link = AgentLinkServer::new(Service(Arc::clone(&link)))
        .max_decoding_message_size(MAX_AGENT_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let enrollment =
        EnrollmentServer::new(Service(link)).max_decoding_message_size(enrollment::LARGEST);
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(STREAMS)
        .add_service(agent_link)
        .add_service(enrollment)
        .serve_with_incoming_shutdown(connections, stop.cancelled_owned())
        .await
}

/// The generated traits, each method one call into its file.
struct Service(Arc<Link>);

#[tonic::async_trait]
impl v1::enrollment_server::Enrollment for Service {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let answer = enrollment::enroll(&self.0, request.into_inner()).await?;
        Ok(Response::new(answer))
    }
}

#[tonic::async_trait]
impl v1::agent_link_server::AgentLink for Service {
    type SessionStream = session::Outgoing;
    type ReportStream = report::Acks;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = peer::of(&self.0, &request).await?;
        let outgoing = session::begin(Arc::clone(&self.0), peer, request.into_inner()).await?;
        Ok(Response::new(outgoing))
    }

    async fn report(
        &self,
        request: Request<Streaming<v1::StatsReport>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let peer = peer::of(&self.0, &request).await?;
        let acks = report::begin(Arc::clone(&self.0), peer.agent, request.into_inner());
        Ok(Response::new(acks))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let peer = peer::even_expired(&self.0, &request).await?;
        let answer = enrollment::renew(&self.0, peer, &request.into_inner()).await?;
        Ok(Response::new(answer))
    }
}

#[cfg(test)]
mod tests;
