//! A certificate authority for one test (or one demo): certificates for any names,
//! and the client configuration that trusts it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

/// The authority.
pub struct Pki {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, as PEM.
pub struct Issued {
    /// Leaf only: the authority is its issuer.
    pub chain: String,
    /// Its key.
    pub private_key: String,
    /// The leaf as a client sees it.
    pub leaf: CertificateDer<'static>,
}

impl Default for Pki {
    fn default() -> Self {
        Self::new("Tidegate test authority")
    }
}

impl Pki {
    /// An authority of that name.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("P-256 keys can be made");
        let certificate = params
            .self_signed(&key)
            .expect("the authority's values are fixed");
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for names and addresses.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(&KeyPair::generate().expect("P-256 keys can be made"), names)
    }

    /// One that ends so soon.
    pub fn issue_for(&self, names: &[&str], lifetime: Duration) -> Issued {
        let key = KeyPair::generate().expect("P-256 keys can be made");
        self.issue_until(&key, names, Some(SystemTime::now() + lifetime))
    }

    /// The same with an RSA key.
    pub fn issue_rsa(&self, names: &[&str]) -> Issued {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("RSA keys can be made");
        self.issue_with(&key, names)
    }

    fn issue_with(&self, key: &KeyPair, names: &[&str]) -> Issued {
        self.issue_until(key, names, None)
    }

    fn issue_until(&self, key: &KeyPair, names: &[&str], end: Option<SystemTime>) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let common_name = names.first().cloned().unwrap_or_default();
        let mut params = CertificateParams::new(names).expect("names of tests are names");
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        if let Some(end) = end {
            params.not_after = end.into();
        }
        let certificate = params
            .signed_by(key, &self.issuer)
            .expect("the values are complete");
        Issued {
            chain: certificate.pem(),
            private_key: key.serialize_pem(),
            leaf: certificate.der().clone(),
        }
    }

    /// The authority's own certificate, for clients to trust.
    pub fn ca_pem(&self) -> String {
        self.certificate.pem()
    }

    /// A TLS client that trusts this authority alone.
    pub fn trusting(&self) -> Arc<rustls::ClientConfig> {
        trusting_only(self.certificate.der().clone(), rustls::DEFAULT_VERSIONS)
    }

    /// The same, which speaks this version of TLS alone.
    pub fn trusting_in(
        &self,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Arc<rustls::ClientConfig> {
        trusting_only(self.certificate.der().clone(), &[version])
    }
}

/// A TLS client that trusts one authority, given as PEM.
pub fn trusting(ca_pem: &str) -> Arc<rustls::ClientConfig> {
    let authority = CertificateDer::from_pem_slice(ca_pem.as_bytes());
    trusting_only(
        authority.expect("the authority is PEM"),
        rustls::DEFAULT_VERSIONS,
    )
}

impl Issued {
    /// A TLS client that has this certificate, and trusts the authority of `pki`.
    pub fn client(&self, pki: &Pki) -> Arc<rustls::ClientConfig> {
        let mut config = Arc::unwrap_or_clone(pki.trusting());
        let key = PrivateKeyDer::from_pem_slice(self.private_key.as_bytes());
        let provider = config.crypto_provider();
        let key = provider
            .key_provider
            .load_private_key(key.expect("the key is PEM"))
            .expect("the key is of a known kind");
        let certified = CertifiedKey::new(vec![self.leaf.clone()], key);
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        Arc::new(config)
    }
}

fn trusting_only(
    authority: CertificateDer<'static>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority).expect("the authority is one");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("the provider has TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

impl Issued {
    /// The certificate as a document holds it.
    pub fn inline(&self, name: &str) -> Value {
        json!({ "name": name, "chain": self.chain, "private_key": self.private_key })
    }

    /// What serves it: TLS as an app does it for itself.
    pub fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::from_pem_slice(self.private_key.as_bytes());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![self.leaf.clone()], key.expect("the key is PEM"));
        TlsAcceptor::from(Arc::new(config.expect("certificate and key are a pair")))
    }

    /// Writes `NAME.pem` and `NAME.key`, the key for its owner alone.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> io::Result<()> {
        fs::write(directory.join(format!("{name}.pem")), &self.chain)?;
        let key = directory.join(format!("{name}.key"));
        let mut key = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(key)?;
        key.write_all(self.private_key.as_bytes())
    }
}
