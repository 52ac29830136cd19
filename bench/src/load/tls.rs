//! TLS as a row pins it: the client offers one version and suite, wants one group and
//! certificate, resumes or does not, and every connection is checked for it. Systems
//! that agree on less than the same work get no figure.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self, cipher_suite as suites, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, HandshakeKind, NamedGroup,
    ProtocolVersion, SignatureScheme, SupportedCipherSuite,
};

use super::wire::Wire;
use crate::stage::CertificateKind;
use crate::systems::Trouble;

/// What is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pins {
    /// TLS 1.2 or 1.3.
    pub version: Version,
    /// What the server shows, and with that how it signs.
    pub certificate: CertificateKind,
    /// How the key is agreed on.
    pub group: Group,
    /// Whether sessions are resumed.
    pub resume: bool,
}

/// A version, each with AES-128-GCM, which processors are quickest at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 5246, with ECDHE.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// A group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// X25519.
    X25519,
    /// X25519MLKEM768, the post-quantum hybrid.
    Hybrid,
}

impl Pins {
    fn suite(self) -> SupportedCipherSuite {
        match (self.version, self.certificate) {
            (Version::Tls13, _) => suites::TLS13_AES_128_GCM_SHA256,
            (Version::Tls12, CertificateKind::P256) => {
                suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            }
            (Version::Tls12, CertificateKind::Rsa2048) => {
                suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            }
        }
    }

    fn protocol(self) -> ProtocolVersion {
        match self.version {
            Version::Tls12 => ProtocolVersion::TLSv1_2,
            Version::Tls13 => ProtocolVersion::TLSv1_3,
        }
    }

    fn group(self) -> NamedGroup {
        match self.group {
            Group::X25519 => NamedGroup::X25519,
            Group::Hybrid => NamedGroup::X25519MLKEM768,
        }
    }

    /// A client that offers what is pinned; its sessions are its own.
    ///
    /// # Errors
    /// When the TLS library has not what is pinned.
    pub fn client(self, leaf: &CertificateDer<'static>) -> Result<Arc<ClientConfig>, Trouble> {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = vec![self.suite()];
        provider.kx_groups = match self.group {
            // With P-256 behind it: in TLS 1.2 a server may show a P-256 certificate only
            // to a client that lists the curve (RFC 8422, 5.1).
            Group::X25519 => vec![kx_group::X25519, kx_group::SECP256R1],
            Group::Hybrid => vec![kx_group::X25519MLKEM768],
        };
        let version = match self.version {
            Version::Tls12 => &TLS12,
            Version::Tls13 => &TLS13,
        };
        let mut config = client_of(provider, &[version], leaf)?;
        config.resumption = if self.resume {
            Resumption::in_memory_sessions(4)
        } else {
            Resumption::disabled()
        };
        Ok(Arc::new(config))
    }
}

/// A client that offers everything, for whoever does not pin.
///
/// # Errors
/// When the TLS library is not in order.
pub fn any(leaf: &CertificateDer<'static>) -> Result<Arc<ClientConfig>, Trouble> {
    let mut config = client_of(aws_lc_rs::default_provider(), &[&TLS13, &TLS12], leaf)?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn client_of(
    provider: CryptoProvider,
    versions: &[&'static rustls::SupportedProtocolVersion],
    leaf: &CertificateDer<'static>,
) -> Result<ClientConfig, Trouble> {
    let verifier = Arc::new(ThisLeaf {
        leaf: leaf.clone(),
        algorithms: provider.signature_verification_algorithms,
    });
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder
        .with_protocol_versions(versions)
        .map_err(Trouble::broken)?;
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(builder.with_no_client_auth())
}

/// Checks the connections of one client, in their order.
pub struct Checker {
    pins: Pins,
    /// What a full TLS 1.3 handshake gives, when that is pinned too.
    tickets: Option<u32>,
    full: u64,
    resumed: u64,
}

impl Checker {
    /// For the connections of one client.
    pub fn new(pins: Pins, tickets: Option<u32>) -> Self {
        Self {
            pins,
            tickets,
            full: 0,
            resumed: 0,
        }
    }

    /// Checks a connection after its first answer, when tickets have come too.
    ///
    /// # Errors
    /// When something else was agreed on, or a session that should be resumed was not.
    pub fn check(&mut self, wire: &Wire) -> Result<(), Trouble> {
        let Some(tls) = wire.tls() else { return Ok(()) };
        let agreed = (
            tls.protocol_version(),
            tls.negotiated_cipher_suite().map(|suite| suite.suite()),
            tls.negotiated_key_exchange_group()
                .map(|group| group.name()),
        );
        // A TLS 1.2 session is resumed without agreeing on a key again.
        let no_group = self.pins.version == Version::Tls12
            && tls.handshake_kind() == Some(HandshakeKind::Resumed);
        let group = if no_group {
            agreed.2
        } else {
            Some(self.pins.group())
        };
        let pinned = (
            Some(self.pins.protocol()),
            Some(self.pins.suite().suite()),
            group,
        );
        if agreed != pinned {
            return Err(Trouble::Wrong(format!("{agreed:?} instead of {pinned:?}")));
        }
        match tls.handshake_kind() {
            Some(HandshakeKind::Full) => self.full(tls.tls13_tickets_received()),
            Some(HandshakeKind::Resumed) if self.pins.resume => {
                self.resumed += 1;
                Ok(())
            }
            kind => Err(Trouble::Wrong(format!("a handshake of kind {kind:?}"))),
        }
    }

    fn full(&mut self, tickets: u32) -> Result<(), Trouble> {
        self.full += 1;
        if self.pins.resume && self.full > 1 {
            return Err(if self.resumed == 0 {
                Trouble::Absent("resumes no session: it gives no ticket that holds".to_owned())
            } else {
                Trouble::Wrong("a full handshake where a session should be resumed".to_owned())
            });
        }
        match self.tickets {
            Some(due)
                if self.pins.version == Version::Tls13 && !self.pins.resume && tickets != due =>
            {
                Err(Trouble::Wrong(format!(
                    "{tickets} tickets instead of {due}"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Trusts one certificate, and whoever can sign for it.
#[derive(Debug)]
struct ThisLeaf {
    leaf: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ThisLeaf {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *leaf == self.leaf {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::UnknownIssuer.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
