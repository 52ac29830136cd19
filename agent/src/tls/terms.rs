//! What a listener's document says of TLS, as rustls understands it.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, version,
};
use tidegate_core::document::{
    ClientCertificates, Group, Mistake, Protocol, Suite, Timeout, TlsVersion, UnknownName,
};
use tidegate_core::snapshot::{Inside, Listener, Work};

use super::certificates::{Certificates, Identities};
use super::handshake::Terms;
use crate::tickets::Tickets;

/// What a listener needs to shake hands; `None` where it does not decrypt.
///
/// # Errors
/// A certificate that the listener names and the snapshot does not have, an authority of
/// clients' certificates that is none.
pub(crate) fn terms(
    listener: &Listener,
    identities: &Identities,
    tickets: &Tickets,
) -> Result<Option<Arc<Terms>>, Mistake> {
    let Work::Terminate(terminate) = &listener.work else {
        return Ok(None);
    };
    let tls = &terminate.tls;
    let at = |below: &str| format!("/listeners/{}/tls{below}", listener.name);
    let suites: Vec<_> = tls.suites.iter().map(suite).collect();
    let certificates = Certificates::new(terminate, identities, &suites)
        .map_err(|why| Mistake::new(at(""), why))?;
    let certificates = Arc::new(certificates);
    let provider = Arc::new(CryptoProvider {
        cipher_suites: suites,
        kx_groups: tls.groups.iter().map(group).collect(),
        ..aws_lc_rs::default_provider()
    });
    let versions: Vec<_> = tls.versions.iter().map(spoken).collect();
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|why| Mistake::new(at("/suites"), why.to_string()))?;
    let config = match &tls.client_certificates {
        None => config.with_no_client_auth(),
        Some(wanted) => config.with_client_cert_verifier(
            verifier(wanted, &provider)
                .map_err(|why| Mistake::new(at("/client_certificates/ca"), why))?,
        ),
    };
    let mut config = config.with_cert_resolver(Arc::clone(&certificates) as _);
    config.ignore_client_order = true;
    // Sessions are taken up on any instance, by tickets under keys that the fleet
    // shares; a cache cannot be shared. One ticket a handshake is enough: it is used
    // again where a client wants several connections.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    // A certificate is to be looked at every time: it may have been revoked meanwhile.
    if tls.tickets && tls.client_certificates.is_none() {
        config.ticketer = tickets.of(&listener.name);
        config.send_tls13_tickets = 1;
    }
    // What follows the handshake is `session`'s.
    config.enable_secret_extraction = true;
    config.alpn_protocols = match &terminate.inside {
        Inside::Http { http, .. } => crate::http::alpn(http.versions),
        Inside::Tcp => tls.alpn.iter().map(protocol).collect(),
    };
    Ok(Some(Arc::new(Terms {
        config: Arc::new(config),
        certificates,
        refuses_unknown: tls.unknown_name == UnknownName::Refuse,
        close: tls.close,
        timeout: tls.handshake_timeout.map(Timeout::duration),
    })))
}

fn protocol(protocol: &Protocol) -> Vec<u8> {
    protocol.as_str().as_bytes().to_vec()
}

fn verifier(
    wanted: &ClientCertificates,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(wanted.ca.pem().as_bytes()) {
        let certificate = certificate.map_err(|_| "is not PEM".to_owned())?;
        roots
            .add(certificate)
            .map_err(|e| format!("is not a certificate that can be used ({e})"))?;
    }
    let provider = Arc::clone(provider);
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match wanted.required {
        true => builder,
        false => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|e| e.to_string())
}

fn spoken(version: TlsVersion) -> &'static SupportedProtocolVersion {
    match version {
        TlsVersion::Tls12 => &version::TLS12,
        TlsVersion::Tls13 => &version::TLS13,
    }
}

pub(super) fn suite(suite: Suite) -> SupportedCipherSuite {
    use aws_lc_rs::cipher_suite as rustls;
    match suite {
        Suite::Aes128Gcm => rustls::TLS13_AES_128_GCM_SHA256,
        Suite::Aes256Gcm => rustls::TLS13_AES_256_GCM_SHA384,
        Suite::Chacha20 => rustls::TLS13_CHACHA20_POLY1305_SHA256,
        Suite::EcdsaAes128Gcm => rustls::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        Suite::EcdsaAes256Gcm => rustls::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        Suite::EcdsaChacha20 => rustls::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        Suite::RsaAes128Gcm => rustls::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        Suite::RsaAes256Gcm => rustls::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        Suite::RsaChacha20 => rustls::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

pub(super) fn group(group: Group) -> &'static dyn SupportedKxGroup {
    use aws_lc_rs::kx_group;
    match group {
        Group::X25519MlKem768 => kx_group::X25519MLKEM768,
        Group::Secp256r1MlKem768 => kx_group::SECP256R1MLKEM768,
        Group::X25519 => kx_group::X25519,
        Group::Secp256r1 => kx_group::SECP256R1,
        Group::Secp384r1 => kx_group::SECP384R1,
    }
}
