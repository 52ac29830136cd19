//! Who is at the other end: the agent that the certificate names, if its row says
//! that it may be here.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use tidegate_core::document::Mistake;
use tidegate_proto::{REASON, reason};
use time::OffsetDateTime;
use tonic::{Code, Request, Status};

use super::Link;
use crate::clock;
use crate::model::AgentId;
use crate::store::{AgentState, StoreError};

/// A caller who is who it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) agent: AgentId,
    pub(super) certificate_not_after: OffsetDateTime,
}

/// The caller.
///
/// # Errors
/// Nobody, somebody who was revoked, or whose certificate has ended.
pub(super) async fn of<T>(link: &Link, request: &Request<T>) -> Result<Peer, Status> {
    let peer = even_expired(link, request).await?;
    if peer.certificate_not_after <= clock::now() {
        return Err(refusal(
            Code::Unauthenticated,
            reason::EXPIRED,
            format!(
                "the certificate ended at {}: renew it",
                peer.certificate_not_after
            ),
        ));
    }
    Ok(peer)
}

/// The caller, also with a certificate that has ended.
///
/// # Errors
/// Nobody, or somebody who was revoked.
pub(super) async fn even_expired<T>(link: &Link, request: &Request<T>) -> Result<Peer, Status> {
    let certificates = request.peer_certs();
    let leaf = certificates.as_ref().and_then(|chain| chain.first());
    let leaf = leaf.ok_or_else(|| {
        Status::unauthenticated("an agent's certificate is needed: enrol with a join token")
    })?;
    let certificate = link
        .authority
        .agent_of(leaf)
        .map_err(|error| Status::unauthenticated(error.to_string()))?;
    match link.store.agent_state(certificate.agent).await {
        Ok(AgentState::Enrolled) => Ok(Peer {
            agent: certificate.agent,
            certificate_not_after: certificate.not_after,
        }),
        Ok(AgentState::Revoked) => Err(revoked()),
        Ok(AgentState::Unknown) => Err(refusal(
            Code::NotFound,
            reason::UNKNOWN_AGENT,
            "this control plane knows no such agent: its database may have been restored from a \
             backup; join again with a new join token"
                .to_owned(),
        )),
        Err(error) => Err(away(&error)),
    }
}

/// The answer to an agent that was taken out of the fleet.
pub(super) fn revoked() -> Status {
    refusal(
        Code::PermissionDenied,
        reason::REVOKED,
        "this agent was revoked".to_owned(),
    )
}

/// The answer to an agent with which, as it is, the fleet cannot be planned.
pub(super) fn impossible(mistakes: &[Mistake]) -> Status {
    let said: Vec<String> = mistakes.iter().take(10).map(Mistake::to_string).collect();
    Status::failed_precondition(format!(
        "the fleet cannot run with this agent: {}",
        said.join("; ")
    ))
}

/// An error whose kind programs can read.
pub(super) fn refusal(code: Code, reason: &'static str, message: String) -> Status {
    let mut status = Status::new(code, message);
    let value = tonic::metadata::MetadataValue::from_static(reason);
    status.metadata_mut().insert(REASON, value);
    status
}

/// The database's error is ours to read, and the agent's to wait for.
pub(super) fn away(error: &StoreError) -> Status {
    tracing::warn!(%error, "an agent is sent away");
    Status::unavailable("the control plane cannot reach its database")
}

/// Verifies as rustls does, and takes a certificate that has ended as it was at
/// its end: whether that is enough is for the call to say, so that "expired" is
/// an answer and not a broken handshake.
#[derive(Debug)]
pub(super) struct ExpiredToo(pub(super) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for ExpiredToo {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now);
        match verified {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => {
                let end = end_of(end_entity).ok_or(CertificateError::BadEncoding)?;
                self.0.verify_client_cert(end_entity, intermediates, end)
            }
            verified => verified,
        }
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn end_of(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let end = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        end,
    )))
}
