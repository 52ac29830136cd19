//! A new certificate before the old one ends, while the session goes on; the
//! next connection uses it. Each renewal has a new key. What is used now stays
//! until the new one is on disk.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate_core::backoff::Backoff;
use tidegate_proto::MAX_MESSAGE_BYTES;
use tidegate_proto::v1::RenewRequest;
use tidegate_proto::v1::agent_link_client::AgentLinkClient;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

use super::draw;
use super::identity::{AgentKey, Credentials, IdentityError, Member};
use super::link_tls::{self, TlsError};

/// For the control plane to answer.
const PATIENCE: Duration = Duration::from_secs(30);
const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(300));
/// The longest sleep at once: a host that was suspended, or whose clock was
/// set, looks again soon.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    /// The control plane says no, or is away.
    #[error("{:?}: {}", .0.code(), .0.message())]
    Status(Box<Status>),
    /// It does not answer.
    #[error("the control plane did not answer within {PATIENCE:?}")]
    TooLate,
    /// It answered something else, or the disk does not keep it.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// What it answered does not belong together.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Renews once, over an open connection.
///
/// # Errors
/// Why not; the old credentials are as good as before.
pub(super) async fn renew(channel: Channel, member: &Member) -> Result<(), RenewError> {
    let key = AgentKey::new()?;
    let request = RenewRequest {
        csr: key.signing_request()?,
    };
    let mut client = AgentLinkClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let answer = timeout(PATIENCE, client.renew(request)).await;
    let answer = answer
        .map_err(|_| RenewError::TooLate)?
        .map_err(|status| RenewError::Status(Box::new(status)))?
        .into_inner();
    let credentials = Credentials::issued(
        key,
        answer.certificate_chain,
        answer.trust_bundle,
        SystemTime::now(),
    )?;
    link_tls::mutual(&credentials)?;
    member.replace(credentials)?;
    tracing::info!("certificate renewed");
    Ok(())
}

/// Renews in time, as long as the connection is there.
pub(super) async fn keep_renewed(channel: Channel, member: Arc<Member>) {
    let mut attempt = 0;
    loop {
        until(member.credentials().renew_at(draw())).await;
        match renew(channel.clone(), &member).await {
            Ok(()) if !is_due(&member) => {
                attempt = 0;
                continue;
            }
            Ok(()) => tracing::warn!(
                "the new certificate ends at once by this host's clock: compare the clocks of \
                 this host and the control plane"
            ),
            Err(error) => tracing::warn!(%error, "certificate not renewed yet"),
        }
        sleep(RETRY.delay(attempt, draw())).await;
        attempt = attempt.saturating_add(1);
    }
}

fn is_due(member: &Member) -> bool {
    member.credentials().renew_at(0.0) <= SystemTime::now()
}

async fn until(time: SystemTime) {
    while let Ok(left) = time.duration_since(SystemTime::now()) {
        sleep(left.min(LOOK_AGAIN)).await;
    }
}
