//! The authority: who is an agent, and who is the control plane. It signs
//! client certificates for agents (clientAuth only, so that no agent can pose as
//! the control plane) and server certificates for control planes.
//!
//! Of a certificate request only the public key is taken. Time and lifetimes are
//! arguments.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tidegate_core::snapshot::Fingerprint;
use time::OffsetDateTime;
use uuid::Uuid;
use x509_parser::prelude::FromDer;

use crate::model::AgentId;
use crate::seal::{self, SealError};

/// Clocks of a fleet differ: certificates begin before they were issued.
const BACKDATED: Duration = Duration::from_secs(5 * 60);
/// The authority's own certificate, whose renewal is a change of trust.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Why a certificate is not made or understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaError {
    /// The request of an agent cannot be used.
    #[error("the certificate request {0}")]
    Request(&'static str),
    /// The peer's certificate is not one of ours.
    #[error("the certificate names no agent of this cluster")]
    NotAnAgent,
    /// Ours to find out.
    #[error("a certificate cannot be made: {0}")]
    Making(#[from] rcgen::Error),
    /// No randomness for a serial number.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// An authority, ready to sign.
pub(crate) struct Authority {
    cluster: Uuid,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A server certificate with its key, for this process alone.
pub(crate) struct ServerIdentity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// What a client certificate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AgentCertificate {
    pub(crate) agent: AgentId,
    pub(crate) not_after: OffsetDateTime,
}

impl Authority {
    /// A new one for a cluster: its certificate (DER) and its key (PKCS#8, DER).
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(crate) fn make(cluster: Uuid, now: OffsetDateTime) -> Result<(Vec<u8>, Vec<u8>), CaError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = named(&format!("Tidegate cluster {cluster}"));
        params.serial_number = Some(serial()?);
        params.not_before = now - BACKDATED;
        params.not_after = now + AUTHORITY_LIFETIME;
        let certificate = params.self_signed(&key)?;
        Ok((certificate.der().to_vec(), key.serialize_der()))
    }

    /// The authority of a cluster, as [`Authority::make`] made it.
    ///
    /// # Errors
    /// When certificate or key are not what was made.
    pub(crate) fn load(cluster: Uuid, certificate: Vec<u8>, key: &[u8]) -> Result<Self, CaError> {
        let key = KeyPair::try_from(key)?;
        let certificate = CertificateDer::from(certificate);
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self {
            cluster,
            certificate,
            issuer,
        })
    }

    /// Its own certificate: what agents trust.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The same as PEM, for people and clients of the REST API.
    pub(crate) fn certificate_pem(&self) -> String {
        pem(&self.certificate)
    }

    /// SHA-256 of its public key info: what a join token pins.
    pub(crate) fn pin(&self) -> Fingerprint {
        let parsed = x509_parser::parse_x509_certificate(&self.certificate);
        // Ours, so it parses; if it did not, nobody could join with an empty pin.
        let spki = parsed.map_or(&[][..], |(_, c)| c.tbs_certificate.subject_pki.raw);
        Fingerprint::of(spki)
    }

    /// A client certificate for an agent, from the public key of its request.
    ///
    /// # Errors
    /// A request that is none, or whose key is not the asker's.
    pub(crate) fn issue_agent(
        &self,
        csr: &[u8],
        agent: AgentId,
        now: OffsetDateTime,
        lifetime: Duration,
    ) -> Result<(CertificateDer<'static>, OffsetDateTime), CaError> {
        let public_key = SubjectPublicKeyInfo::from_der(&public_key_of(csr)?)
            .map_err(|_| CaError::Request("has a key of another kind: ECDSA P-256"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("Tidegate agent {agent}"));
        params.subject_alt_names = vec![SanType::URI(self.agent_uri(agent).as_str().try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        params.not_before = now - BACKDATED;
        params.not_after = now + lifetime;
        let certificate = params.signed_by(&public_key, &self.issuer)?;
        // As written: certificates count in seconds.
        let not_after = params
            .not_after
            .replace_nanosecond(0)
            .unwrap_or(params.not_after);
        Ok((certificate.der().clone(), not_after))
    }

    /// A server certificate for a control plane, with a fresh key.
    ///
    /// # Errors
    /// A name that is none.
    pub(crate) fn issue_server(
        &self,
        names: &[String],
        now: OffsetDateTime,
        lifetime: Duration,
    ) -> Result<ServerIdentity, CaError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = named("Tidegate control plane");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        params.not_before = now - BACKDATED;
        params.not_after = now + lifetime;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(ServerIdentity {
            chain: vec![certificate.der().clone(), self.certificate.clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }

    /// Who a verified client certificate belongs to.
    ///
    /// # Errors
    /// When it is no agent of this cluster.
    pub(crate) fn agent_of(&self, leaf: &CertificateDer<'_>) -> Result<AgentCertificate, CaError> {
        let (_, parsed) =
            x509_parser::parse_x509_certificate(leaf).map_err(|_| CaError::NotAnAgent)?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let prefix = self.agent_uri_prefix();
        let agent = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .find_map(|name| match name {
                x509_parser::extensions::GeneralName::URI(uri) => {
                    Uuid::try_parse(uri.strip_prefix(&prefix)?).ok()
                }
                _ => None,
            });
        Ok(AgentCertificate {
            agent: agent.map(AgentId).ok_or(CaError::NotAnAgent)?,
            not_after: parsed.validity().not_after.to_datetime(),
        })
    }

    fn agent_uri(&self, agent: AgentId) -> String {
        format!("{}{agent}", self.agent_uri_prefix())
    }

    fn agent_uri_prefix(&self) -> String {
        format!("spiffe://{}/agent/", self.cluster)
    }
}

/// SHA-256 of the public key of a request.
///
/// # Errors
/// As [`Authority::issue_agent`].
pub(crate) fn request_key(csr: &[u8]) -> Result<Fingerprint, CaError> {
    Ok(Fingerprint::of(&public_key_of(csr)?))
}

/// The public key info of a request whose signature proves that the asker has
/// the key.
fn public_key_of(csr: &[u8]) -> Result<Vec<u8>, CaError> {
    use x509_parser::certification_request::X509CertificationRequest;
    let (rest, request) = X509CertificationRequest::from_der(csr)
        .map_err(|_| CaError::Request("is not PKCS#10 in DER"))?;
    if !rest.is_empty() {
        return Err(CaError::Request("has bytes after its end"));
    }
    request
        .verify_signature()
        .map_err(|_| CaError::Request("is not signed by the key it holds"))?;
    Ok(request.certification_request_info.subject_pki.raw.to_vec())
}

/// A certificate as PEM.
pub(crate) fn pem(certificate: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, certificate);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn serial() -> Result<SerialNumber, SealError> {
    let mut bytes = *seal::random::<16>()?;
    // RFC 5280 section 4.1.2.2: positive, and we want it at full length.
    if let Some(first) = bytes.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(86_400);

    fn authority() -> Authority {
        let cluster = Uuid::from_u128(1);
        let (certificate, key) = Authority::make(cluster, now()).unwrap();
        Authority::load(cluster, certificate, &key).unwrap()
    }

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    fn csr(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        params.serialize_request(&key).unwrap().der().to_vec()
    }

    #[test]
    fn an_agents_certificate_names_the_agent_and_only_that() {
        let (authority, agent) = (authority(), AgentId(Uuid::from_u128(7)));
        let greedy = csr(|params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            let other = authority.agent_uri(AgentId(Uuid::from_u128(8)));
            params.subject_alt_names = vec![
                SanType::URI(other.as_str().try_into().unwrap()),
                SanType::DnsName(tidegate_proto::SERVER_NAME.try_into().unwrap()),
            ];
            params.distinguished_name = named("root of all");
        });
        let (leaf, not_after) = authority
            .issue_agent(&greedy, agent, now(), LIFETIME)
            .unwrap();
        let said = authority.agent_of(&leaf).unwrap();
        assert_eq!(said, AgentCertificate { agent, not_after });
        assert_eq!(not_after, now() + LIFETIME);

        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);
        assert!(!parsed.is_ca());
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 1);
        assert!(!parsed.subject().to_string().contains("root"));
        parsed
            .verify_signature(Some(
                &x509_parser::parse_x509_certificate(authority.certificate())
                    .unwrap()
                    .1
                    .tbs_certificate
                    .subject_pki,
            ))
            .unwrap();
    }

    #[test]
    fn a_request_that_its_key_did_not_sign_is_refused() {
        let mut forged = csr(|_| {});
        let last = forged.len() - 1;
        forged[last] ^= 1;
        let refused = authority().issue_agent(&forged, AgentId(Uuid::nil()), now(), LIFETIME);
        assert!(matches!(refused, Err(CaError::Request(_))));
        for nonsense in [&b""[..], b"x", &[0x30, 0x80]] {
            assert!(request_key(nonsense).is_err());
        }
    }

    #[test]
    fn another_clusters_agent_is_nobody() {
        let (ours, agent) = (authority(), AgentId(Uuid::from_u128(7)));
        let cluster = Uuid::from_u128(2);
        let (certificate, key) = Authority::make(cluster, now()).unwrap();
        let theirs = Authority::load(cluster, certificate, &key).unwrap();
        let (leaf, _) = theirs
            .issue_agent(&csr(|_| {}), agent, now(), LIFETIME)
            .unwrap();
        assert!(ours.agent_of(&leaf).is_err());
        assert!(ours.agent_of(ours.certificate()).is_err());
        assert_ne!(ours.pin(), theirs.pin());
    }
}
