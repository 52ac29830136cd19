//! TLS towards the control plane: version 1.3, the control plane's one name
//! whatever host was dialled, and never a connection that was not verified in
//! full. Before an agent knows anybody, the join token's pin says which of the
//! presented authorities is the right one ([`PinVerifier`]).

use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use tidegate_core::snapshot::Fingerprint;

use super::identity::Credentials;

/// Why the other end is not the control plane, or cannot be asked whether it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TlsError {
    /// The pin leads nowhere.
    #[error(
        "none of the presented certificates is the authority that the join token names: is this \
         the control plane that made the token?"
    )]
    NoPinnedAuthority,
    /// Somebody else's chain.
    #[error("its certificate was not issued by the authority that this agent trusts")]
    NotFromAuthority,
    /// A certificate of the right authority, for another name.
    #[error(
        "its certificate is not for {}: it is no control plane's",
        tidegate_proto::SERVER_NAME
    )]
    WrongName,
    /// Too late, or too early.
    #[error("its certificate is expired, or not valid yet: compare the clocks of both machines")]
    Expired,
    /// An agent's, perhaps.
    #[error("its certificate is not a server's: it is no control plane's")]
    NotAServer,
    /// Anything else that TLS says.
    #[error("TLS: {0}")]
    Other(String),
}

/// For an agent that knows only the pin of its join token.
///
/// # Errors
/// None that can happen with the provider we have.
pub(crate) fn first_contact(pin: Fingerprint) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = PinVerifier {
        pin,
        provider: Arc::clone(&provider),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(finished(config))
}

/// For an agent that has an identity.
///
/// # Errors
/// When key, chain or bundle cannot be used.
pub(crate) fn mutual(credentials: &Credentials) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = verifier(credentials.trust_bundle.iter().cloned(), &provider)?;
    let key = PrivatePkcs8KeyDer::from(credentials.key.reveal().to_vec());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(other)?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(credentials.chain.clone(), PrivateKeyDer::from(key))
        .map_err(other)?;
    Ok(finished(config))
}

/// The name asked for, whatever host is dialled.
pub(crate) fn server_name() -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(tidegate_proto::SERVER_NAME).map_err(|e| TlsError::Other(e.to_string()))
}

/// What a failed handshake means.
pub(crate) fn explain(error: &io::Error) -> TlsError {
    match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        Some(error) => error.into(),
        None => TlsError::Other(error.to_string()),
    }
}

impl From<&Error> for TlsError {
    fn from(error: &Error) -> Self {
        let Error::InvalidCertificate(why) = error else {
            return other(error);
        };
        match why {
            CertificateError::Other(OtherError(own)) if own.is::<Self>() => Self::NoPinnedAuthority,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::NotFromAuthority
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::Expired,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::NotAServer
            }
            _ => other(error),
        }
    }
}

fn other(error: impl ToString) -> TlsError {
    TlsError::Other(error.to_string())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn verifier(
    anchors: impl Iterator<Item = CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for anchor in anchors {
        roots.add(anchor).map_err(other)?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(other)
}

fn finished(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would outlive a renewed certificate, and a revoked one.
    config.resumption = rustls::client::Resumption::disabled();
    config
}

/// Finds the authority that the pin names among what is presented, and then
/// verifies everything with it as the only anchor. The pin alone proves nothing:
/// anybody can append the right authority to a chain of their own.
#[derive(Debug)]
struct PinVerifier {
    pin: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl PinVerifier {
    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        webpki::EndEntityCert::try_from(certificate)
            .is_ok_and(|c| Fingerprint::of(&c.subject_public_key_info()) == self.pin)
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = std::iter::once(end_entity).chain(intermediates);
        let anchor = presented.into_iter().find(|c| self.is_pinned(c));
        let anchor = anchor.ok_or_else(|| {
            let why = Arc::new(TlsError::NoPinnedAuthority);
            Error::InvalidCertificate(CertificateError::Other(OtherError(why)))
        })?;
        let anchor = std::iter::once(anchor.clone().into_owned());
        let general = |error: TlsError| Error::General(error.to_string());
        verifier(anchor, &self.provider)
            .map_err(general)?
            .verify_server_cert(
                end_entity,
                intermediates,
                &server_name().map_err(general)?,
                ocsp_response,
                now,
            )
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};

    use super::*;
    use crate::control::dial::{DialError, dial};
    use crate::control::fake::{Authority, Fake, Wanted};

    type Chain = Vec<CertificateDer<'static>>;

    /// A certificate that a stranger signed with its own key.
    fn self_signed() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params: CertificateParams = Wanted::server().params();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        (certificate, key.serialize_der().try_into().unwrap())
    }

    fn verified(ca: &Authority, chain: &Chain) -> Result<(), TlsError> {
        let verifier = PinVerifier {
            pin: ca.pin,
            provider: provider(),
        };
        let name = ServerName::try_from("whatever.was.dialled").unwrap();
        let verdict = verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now());
        verdict.map(|_| ()).map_err(|error| (&error).into())
    }

    /// A little later than the certificates were made: their times are in seconds.
    fn now() -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + 5))
    }

    #[test]
    fn only_a_chain_that_ends_at_the_pinned_authority_is_a_control_planes() {
        let (ca, other) = (Authority::new(), Authority::new());
        let chain = |of: &Authority, wanted: Wanted| -> Chain {
            vec![of.issue(&wanted).0, of.certificate.clone()]
        };
        let wrong_name = Wanted {
            name: "elsewhere.invalid",
            ..Wanted::server()
        };
        let agent = Wanted {
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            ..Wanted::server()
        };
        let expired = Wanted {
            life: Duration::ZERO,
            ..Wanted::server()
        };
        let right = chain(&ca, Wanted::server());
        let appended = vec![self_signed().0, ca.certificate.clone()];
        let mixed = vec![right[0].clone(), other.certificate.clone()];
        for (what, chain, verdict) in [
            ("right", right, Ok(())),
            (
                "another authority",
                chain(&other, Wanted::server()),
                Err(TlsError::NoPinnedAuthority),
            ),
            (
                "the right leaf, another authority",
                mixed,
                Err(TlsError::NoPinnedAuthority),
            ),
            (
                "self-signed, the right authority appended",
                appended,
                Err(TlsError::NotFromAuthority),
            ),
            ("an agent's", chain(&ca, agent), Err(TlsError::NotAServer)),
            (
                "another name",
                chain(&ca, wrong_name),
                Err(TlsError::WrongName),
            ),
            ("expired", chain(&ca, expired), Err(TlsError::Expired)),
        ] {
            assert_eq!(verified(&ca, &chain), verdict, "{what}");
        }
        // The authority itself matches the pin and is no server.
        assert!(verified(&ca, &vec![ca.certificate.clone()]).is_err());
    }

    #[tokio::test]
    async fn what_is_wrong_with_the_other_end_is_said_before_anything_is_sent_to_it() {
        let ca = Arc::new(Authority::new());
        let (stranger, key) = self_signed();
        let chain = vec![stranger, ca.certificate.clone()];
        let fake = Fake::presenting(Arc::clone(&ca), chain, key).await;
        let refused = dial(&fake.at, first_contact(ca.pin).unwrap()).await.err();
        assert!(
            matches!(refused, Some(DialError::Tls(TlsError::NotFromAuthority))),
            "{refused:?}"
        );

        // An agent that has joined: another agent poses as the control plane.
        let agent = Wanted {
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            ..Wanted::server()
        };
        let (leaf, key) = ca.issue(&agent);
        let fake = Fake::presenting(Arc::clone(&ca), vec![leaf], key).await;
        let credentials = ca.credentials(Duration::from_secs(60));
        let refused = dial(&fake.at, mutual(&credentials).unwrap()).await.err();
        assert!(
            matches!(refused, Some(DialError::Tls(TlsError::NotAServer))),
            "{refused:?}"
        );
    }
}
