//! The `tls` check: a handshake to its end. Whose certificate the backend shows
//! plays no part, since a check asks whether somebody is there and sends nothing;
//! the verifier that takes any certificate stays in this file.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tidegate_core::document::TlsCheck;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::in_words;
use crate::facts::Passed;

/// Shakes hands, and closes in order.
///
/// # Errors
/// What went wrong, in words.
pub(super) async fn shake(
    stream: TcpStream,
    check: &TlsCheck,
    address: SocketAddr,
) -> Result<Passed, String> {
    let name = match &check.server_name {
        Some(name) => ServerName::try_from(name.to_string()).map_err(|e| format!("TLS: {e}"))?,
        // An address is not sent as a name (RFC 6066 section 3).
        None => ServerName::from(address.ip()),
    };
    let connector = TlsConnector::from(Arc::clone(&CONFIG));
    let session = connector.connect(name, stream).await;
    let mut session = session.map_err(|error| format!("TLS: {}", in_words(&error)))?;
    let version = session.get_ref().1.protocol_version();
    let version = version
        .and_then(|version| version.as_str())
        .unwrap_or("TLS");
    // The handshake is what was asked about.
    let _ = session.shutdown().await;
    Ok(format!("shook hands, {version}").into())
}

static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let anybody = Anybody(aws_lc_rs::default_provider());
    let config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anybody))
        .with_no_client_auth();
    Arc::new(config)
});

/// Takes any certificate whose owner has its key.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
