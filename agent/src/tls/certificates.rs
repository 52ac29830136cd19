//! Certificates ready to be shown, and which of them a client sees: by the name that it
//! asks for, and by what it can verify.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SupportedCipherSuite};
use tidegate_core::client_hello::ServerName;
use tidegate_core::document::{Mistake, Name};
use tidegate_core::snapshot::{self, Fingerprint, Snapshot, Terminate};

use super::keys::Keys;

/// A chain with its key, and the names it answers for.
pub(crate) struct Identity {
    certified: Arc<CertifiedKey>,
    names: Vec<String>,
    fingerprint: Fingerprint,
    /// Seconds since 1970.
    pub(crate) not_after: i64,
}

/// Certificates by their names in the document.
pub(crate) type Identities = HashMap<Name, Arc<Identity>>;

/// All certificates of a snapshot; each that cannot be used is a mistake. Of `running`
/// ones those are taken over that stay.
pub(crate) fn identities(
    snapshot: &Snapshot,
    keys: &Keys,
    running: &Identities,
    mistakes: &mut Vec<Mistake>,
) -> Identities {
    let mut identities = HashMap::new();
    for certificate in &snapshot.certificates {
        let kept = running.get(&certificate.name);
        let kept = kept.filter(|kept| kept.fingerprint == certificate.fingerprint);
        let identity = match kept {
            Some(kept) => Ok(Arc::clone(kept)),
            None => keys
                .of(certificate.fingerprint)
                .ok_or_else(|| "its private key is not here".to_owned())
                .and_then(|key| identity(certificate, key).map(Arc::new)),
        };
        match identity {
            Ok(identity) => {
                identities.insert(certificate.name.clone(), identity);
            }
            Err(why) => {
                let at = format!("/certificates/{}", certificate.name);
                mistakes.push(Mistake::new(at, why));
            }
        }
    }
    identities
}

fn identity(
    certificate: &snapshot::Certificate,
    key: &PrivateKeyDer<'static>,
) -> Result<Identity, String> {
    let pem = certificate.chain.as_bytes();
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| "the chain is not PEM".to_owned())?;
    let leaf = chain
        .first()
        .ok_or("the chain holds no certificate: put the leaf first")?;
    let names = dns_names(leaf)?;
    let not_after = not_after(leaf)?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(key)
        .map_err(|_| "its private key is of a kind that TLS does not use: RSA, ECDSA or Ed25519")?;
    let certified = CertifiedKey::new(chain, key);
    certified
        .keys_match()
        .map_err(|_| "chain and private key do not belong together")?;
    Ok(Identity {
        certified: Arc::new(certified),
        names,
        fingerprint: certificate.fingerprint,
        not_after,
    })
}

fn dns_names(leaf: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let parsed = webpki::EndEntityCert::try_from(leaf)
        .map_err(|e| format!("the leaf is not a certificate that can be used ({e})"))?;
    Ok(parsed
        .valid_dns_names()
        .map(str::to_ascii_lowercase)
        .collect())
}

fn not_after(leaf: &CertificateDer<'_>) -> Result<i64, String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
        .map_err(|e| format!("the leaf is not a certificate that can be used ({e})"))?;
    Ok(parsed.validity().not_after.timestamp())
}

/// Certificates of one name, one for each kind of key: those that are cheaper to sign
/// with first, RSA last.
type Candidates = Vec<Arc<CertifiedKey>>;

/// The certificates of a listener: by exact name, then by `*.` in place of the first
/// label (RFC 6125 section 6.4.3), then the default.
pub(super) struct Certificates {
    named: HashMap<String, Candidates>,
    default: Candidates,
    suites: Vec<SupportedCipherSuite>,
}

impl Certificates {
    /// Those that `terminate` names. Clients are offered `suites`.
    ///
    /// # Errors
    /// One of them is not there, or there is none.
    pub(super) fn new(
        terminate: &Terminate,
        identities: &Identities,
        suites: &[SupportedCipherSuite],
    ) -> Result<Self, String> {
        let mut named: HashMap<String, Candidates> = HashMap::new();
        let mut first = None;
        for name in &terminate.tls.certificates {
            let identity = identities
                .get(name)
                .ok_or_else(|| format!("certificate {name} cannot be used"))?;
            first.get_or_insert(identity);
            for dns_name in &identity.names {
                add(named.entry(dns_name.clone()).or_default(), identity);
            }
        }
        let first = first.ok_or("a terminator needs a certificate")?;
        // Of another kind for the same name, it is as much the default.
        let alike = first.names.first().and_then(|name| named.get(name));
        let default = alike.filter(|them| them.iter().any(|c| Arc::ptr_eq(c, &first.certified)));
        let default = default.cloned();
        Ok(Self {
            default: default.unwrap_or_else(|| vec![Arc::clone(&first.certified)]),
            named,
            suites: suites.to_vec(),
        })
    }

    /// Whether one of them has this name.
    pub(super) fn have(&self, name: Option<&ServerName>) -> bool {
        name.is_some_and(|name| self.name(name.as_str()).is_some())
    }

    /// The name for a host as a certificate has it.
    pub(super) fn name(&self, host: &str) -> Option<&str> {
        self.of(host).next().map(|(name, _)| name.as_str())
    }

    fn of(&self, host: &str) -> impl Iterator<Item = (&String, &Candidates)> {
        let wildcard = host
            .split_once('.')
            .and_then(|(_, parent)| self.named.get_key_value(&format!("*.{parent}")));
        self.named.get_key_value(host).into_iter().chain(wildcard)
    }

    /// The one for a client; of those it cannot use the nearest, so that it is told why.
    fn find(&self, hello: &ClientHello<'_>) -> Option<&Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let name = name.as_deref().unwrap_or_default();
        let named = || self.of(name).map(|(_, candidates)| candidates);
        let all = || named().chain([&self.default]).flatten();
        all()
            .find(|one| self.fits(one, hello))
            .or_else(|| all().next())
    }

    /// Whether the client can verify its signature, and offers a suite for it.
    fn fits(&self, certified: &CertifiedKey, hello: &ClientHello<'_>) -> bool {
        let signs = |schemes: &[_]| certified.key.choose_scheme(schemes).is_some();
        let serves = |suite: &SupportedCipherSuite| match suite {
            SupportedCipherSuite::Tls13(_) => true,
            SupportedCipherSuite::Tls12(suite) => signs(suite.sign),
        };
        let offered =
            |suite: &&SupportedCipherSuite| hello.cipher_suites().contains(&suite.suite());
        signs(hello.signature_schemes()) && self.suites.iter().filter(offered).any(serves)
    }
}

/// The first certificate of a kind wins, as the first of all is the default.
fn add(candidates: &mut Candidates, identity: &Identity) {
    let kind = |one: &CertifiedKey| one.key.algorithm();
    let new = &identity.certified;
    if candidates.iter().any(|c| kind(c) == kind(new)) {
        return;
    }
    candidates.push(Arc::clone(new));
    candidates.sort_by_key(|c| kind(c) == SignatureAlgorithm::RSA);
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.named.keys()).finish()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(&hello).cloned()
    }
}
