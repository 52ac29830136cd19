//! Private keys, by the chains they belong to. They stop here: the type that carries
//! them has neither `Debug` nor `Serialize`, and wipes them.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tidegate_core::snapshot::{Fingerprint, Snapshot};
use zeroize::Zeroize;

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

impl Keys {
    /// The key of a chain.
    pub(super) fn of(&self, chain: Fingerprint) -> Option<&PrivateKeyDer<'static>> {
        self.0.get(&chain).map(|key| &key.0)
    }
}
