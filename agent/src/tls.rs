//! Certificates and what rustls makes of them. Private keys stop here: the type
//! that carries them has neither `Debug` nor `Serialize`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tidegate_core::document::{Mistake, Name};
use tidegate_core::snapshot::{Fingerprint, Inside, Listener, Snapshot, Terminate, Work};
use tokio_rustls::server::TlsStream;
use zeroize::Zeroize;

use crate::engine::TcpStream;

/// A client's connection, decrypted.
pub(crate) type Stream = TlsStream<TcpStream>;

/// Private keys by the fingerprint of the chain they belong to.
#[derive(Clone, Default)]
pub(crate) struct Keys(HashMap<Fingerprint, Arc<Key>>);

/// A private key. Its bytes are wiped when nobody holds it any more.
struct Key(PrivateKeyDer<'static>);

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Keys {
    /// Adds the key of a chain.
    ///
    /// # Errors
    /// When the text holds no private key that can be used.
    pub(crate) fn insert(&mut self, chain_pem: &str, key_pem: &str) -> Result<(), String> {
        self.insert_for(Fingerprint::of(chain_pem.as_bytes()), key_pem.as_bytes())
    }

    /// Adds the key of the chain with this fingerprint.
    ///
    /// # Errors
    /// When the text holds no private key that can be used.
    pub(crate) fn insert_for(&mut self, chain: Fingerprint, key_pem: &[u8]) -> Result<(), String> {
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| {
            "holds no private key in PEM (PKCS#8, PKCS#1 or SEC1; an encrypted key has to be \
             decrypted first)"
                .to_owned()
        })?;
        self.0.insert(chain, Arc::new(Key(key)));
        Ok(())
    }

    /// Adds a key as [`Keys::reveal`] gave it; answers whether it is one.
    pub(crate) fn insert_der(&mut self, chain: Fingerprint, der: Vec<u8>) -> bool {
        let key = PrivateKeyDer::try_from(der).map(|key| self.0.insert(chain, Arc::new(Key(key))));
        key.is_ok()
    }

    /// Those that the snapshot names.
    pub(crate) fn named_by(&self, snapshot: &Snapshot) -> Self {
        let named = snapshot.certificates.iter().filter_map(|certificate| {
            let key = self.0.get(&certificate.fingerprint)?;
            Some((certificate.fingerprint, Arc::clone(key)))
        });
        Self(named.collect())
    }

    /// Whose chains they are of, sorted.
    pub(crate) fn fingerprints(&self) -> Vec<Fingerprint> {
        let mut all: Vec<_> = self.0.keys().copied().collect();
        all.sort();
        all
    }

    /// The keys' bytes (DER), for whoever seals them.
    pub(crate) fn reveal(&self) -> impl Iterator<Item = (Fingerprint, &[u8])> {
        self.0
            .iter()
            .map(|(chain, key)| (*chain, key.0.secret_der()))
    }
}

/// A chain with its key, and the names it answers for.
pub(crate) struct Identity {
    certified: Arc<CertifiedKey>,
    names: Vec<String>,
}

/// All certificates of a snapshot, by name; each that cannot be used is a mistake.
pub(crate) fn identities(
    snapshot: &Snapshot,
    keys: &Keys,
    mistakes: &mut Vec<Mistake>,
) -> HashMap<Name, Identity> {
    let mut identities = HashMap::new();
    for certificate in &snapshot.certificates {
        let key = keys.0.get(&certificate.fingerprint);
        let identity = key
            .ok_or_else(|| "its private key is not here".to_owned())
            .and_then(|key| identity(&certificate.chain, &key.0));
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

/// What a listener needs of rustls; `None` where it does not decrypt.
///
/// # Errors
/// A certificate that the listener names and the snapshot does not have.
pub(crate) fn server_config(
    listener: &Listener,
    identities: &HashMap<Name, Identity>,
) -> Result<Option<Arc<ServerConfig>>, Mistake> {
    let Work::Terminate(terminate) = &listener.work else {
        return Ok(None);
    };
    let certificates = by_sni(terminate, identities)
        .map_err(|why| Mistake::new(format!("/listeners/{}/tls", listener.name), why))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    // Tickets need keys that the whole fleet shares; without them every ticket
    // would be refused by the next instance, and a cache cannot be shared at all.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    if matches!(terminate.inside, Inside::Http { .. }) {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
    }
    Ok(Some(Arc::new(config)))
}

fn identity(chain_pem: &str, key: &PrivateKeyDer<'static>) -> Result<Identity, String> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| "the chain is not PEM".to_owned())?;
    let leaf = chain
        .first()
        .ok_or("the chain holds no certificate: put the leaf first")?;
    let names = dns_names(leaf)?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(key)
        .map_err(|_| "its private key is of a kind that TLS does not use: RSA, ECDSA or Ed25519")?;
    let certified = CertifiedKey::new(chain, key);
    certified
        .keys_match()
        .map_err(|_| "chain and private key do not belong together")?;
    Ok(Identity {
        certified: Arc::new(certified),
        names,
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

fn by_sni(terminate: &Terminate, identities: &HashMap<Name, Identity>) -> Result<BySni, String> {
    let mut named = HashMap::new();
    let mut default = None;
    for name in &terminate.certificates {
        let identity = identities
            .get(name)
            .ok_or_else(|| format!("certificate {name} cannot be used"))?;
        default.get_or_insert_with(|| Arc::clone(&identity.certified));
        for dns_name in &identity.names {
            // The first certificate for a name wins, as it wins the default.
            named
                .entry(dns_name.clone())
                .or_insert_with(|| Arc::clone(&identity.certified));
        }
    }
    let default = default.ok_or("a terminator needs a certificate")?;
    Ok(BySni { named, default })
}

/// Certificates by server name: exact, then `*.` in place of the first label
/// (RFC 6125 section 6.4.3), then the default.
struct BySni {
    named: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl BySni {
    fn find(&self, server_name: Option<&str>) -> &Arc<CertifiedKey> {
        let Some(name) = server_name.map(str::to_ascii_lowercase) else {
            return &self.default;
        };
        let wildcard = || {
            let (_, parent) = name.split_once('.')?;
            self.named.get(&format!("*.{parent}"))
        };
        self.named
            .get(&name)
            .or_else(wildcard)
            .unwrap_or(&self.default)
    }
}

impl fmt::Debug for BySni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.named.keys()).finish()
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.find(hello.server_name())))
    }
}
