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
    /// What scenarios use in which TLS is not the question.
    pub const USUAL: Self = Self {
        version: Version::Tls13,
        certificate: CertificateKind::P256,
        group: Group::X25519,
        resume: false,
    };

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
                .map(rustls::crypto::SupportedKxGroup::name),
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
                self.tickets(tls.tls13_tickets_received())
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
        self.tickets(tickets)
    }

    /// A ticket is work: as many as are pinned, of every handshake.
    fn tickets(&self, given: u32) -> Result<(), Trouble> {
        match self.tickets {
            // The first full handshake says the same as the missing ticket of a second.
            _ if self.pins.resume && self.resumed == 0 => Ok(()),
            Some(due) if self.pins.version == Version::Tls13 && given != due => {
                Err(Trouble::Wrong(format!("{given} tickets instead of {due}")))
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

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::stage::{Certificate, Programs, Stage};

    const PINS: Pins = Pins {
        version: Version::Tls13,
        certificate: CertificateKind::P256,
        group: Group::X25519,
        resume: false,
    };

    fn stage() -> Stage {
        Stage::new(Programs {
            agent: "none".into(),
            apps: "none".into(),
        })
        .unwrap()
    }

    fn server(certificate: &Certificate, tickets: usize) -> ServerConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.leaf.clone()], key)
            .unwrap();
        config.send_tls13_tickets = tickets;
        config
    }

    /// What is said of so many connections to a server, one after another.
    async fn said(
        pins: Pins,
        tickets: Option<u32>,
        leaf: &CertificateDer<'static>,
        server: ServerConfig,
        connections: usize,
    ) -> Result<(), Trouble> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let serving = async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that dislikes it breaks off.
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _gone = stream.write_all(b"!").await;
                }
            }
        };
        let asking = async {
            let client = pins.client(leaf)?;
            let mut checker = Checker::new(pins, tickets);
            for _ in 0..connections {
                let mut wire = Wire::connect(address, Some(&client)).await?;
                wire.read_exact(&mut [0]).await?;
                checker.check(&wire)?;
            }
            Ok(())
        };
        tokio::select! { () = serving => unreachable!(), said = asking => said }
    }

    #[tokio::test]
    async fn a_connection_as_it_is_pinned_passes() {
        let stage = stage();
        let certificate = stage.certificate(CertificateKind::P256);
        said(PINS, Some(0), &certificate.leaf, server(certificate, 0), 3)
            .await
            .unwrap();
        let hybrid = Pins {
            group: Group::Hybrid,
            ..PINS
        };
        said(
            hybrid,
            Some(0),
            &certificate.leaf,
            server(certificate, 0),
            1,
        )
        .await
        .unwrap();
        let resuming = Pins {
            resume: true,
            ..PINS
        };
        said(
            resuming,
            Some(1),
            &certificate.leaf,
            server(certificate, 1),
            3,
        )
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn more_tickets_than_pinned_are_other_work() {
        let stage = stage();
        let certificate = stage.certificate(CertificateKind::P256);
        let said = said(PINS, Some(0), &certificate.leaf, server(certificate, 2), 1).await;
        assert!(
            matches!(&said, Err(Trouble::Wrong(why)) if why.contains("2 tickets")),
            "{said:?}"
        );
    }

    #[tokio::test]
    async fn another_certificate_is_refused() {
        let stage = stage();
        let rsa = server(stage.certificate(CertificateKind::Rsa2048), 0);
        let leaf = &stage.certificate(CertificateKind::P256).leaf;
        assert!(said(PINS, Some(0), leaf, rsa, 1).await.is_err());
    }

    #[tokio::test]
    async fn another_group_is_other_work() {
        let stage = stage();
        let certificate = stage.certificate(CertificateKind::P256);
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![kx_group::SECP256R1];
        let resolver = server(certificate, 0).cert_resolver;
        let other = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        let said = said(PINS, None, &certificate.leaf, other, 1).await;
        assert!(
            matches!(&said, Err(Trouble::Wrong(why)) if why.contains("secp256r1")),
            "{said:?}"
        );
    }

    #[tokio::test]
    async fn a_server_without_tickets_has_a_reason_for_its_row() {
        let stage = stage();
        let certificate = stage.certificate(CertificateKind::P256);
        for version in [Version::Tls13, Version::Tls12] {
            let pins = Pins {
                resume: true,
                version,
                ..PINS
            };
            let mut server = server(certificate, 0);
            server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
            let said = said(pins, Some(1), &certificate.leaf, server, 2).await;
            assert!(matches!(said, Err(Trouble::Absent(_))), "{said:?}");
        }
    }

    #[test]
    fn a_session_that_stops_being_resumed_is_a_failure() {
        let pins = Pins {
            resume: true,
            ..PINS
        };
        let mut checker = Checker::new(pins, Some(1));
        checker.full(1).unwrap();
        checker.resumed = 5;
        let said = checker.full(1);
        assert!(matches!(said, Err(Trouble::Wrong(_))), "{said:?}");
    }
}
