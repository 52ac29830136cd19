//! Secrets at rest. Each is sealed with a data key of its own, which is sealed
//! with the key-encryption key (KEK): changing the KEK means re-sealing 32 bytes
//! a secret. Both with AES-256-GCM; the purpose is authenticated, so that a row
//! moved to another place does not open.
//!
//! The KEK never enters the database. Every control plane of one database needs
//! the same one.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use tidegate_core::snapshot::Fingerprint;
use zeroize::Zeroizing;

/// First byte of everything sealed.
const FORMAT: u8 = 1;
const KEY: usize = 32;
const NONCE: usize = 12;
const TAG: usize = 16;
/// A data key, sealed.
const WRAPPED: usize = NONCE + KEY + TAG;

/// Why something does not seal or open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    /// Another key, another purpose, or damaged bytes: which of them cannot be told.
    #[error("the secret does not open: the key-encryption key is another one, or it is damaged")]
    Closed,
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    Randomness,
    /// The key's file cannot be used.
    #[error("the key-encryption key {path}: {source}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The key's file holds something else.
    #[error(
        "the key-encryption key {0} holds fewer than 32 bytes: make one with \
         `head -c 32 /dev/urandom > FILE`"
    )]
    Short(PathBuf),
}

/// The key-encryption key.
pub(crate) struct Kek(RandomizedNonceKey);

impl Kek {
    /// The key in a file; where `make` is set, a missing one is made first.
    ///
    /// # Errors
    /// When the file cannot be read or made, or is too short.
    pub(crate) fn in_file(path: &Path, make: bool) -> Result<Self, SealError> {
        let at = |source| SealError::File {
            path: path.to_owned(),
            source,
        };
        if make && !path.exists() {
            let fresh = random::<KEY>()?;
            write_secret(path, fresh.as_slice()).map_err(at)?;
        }
        let bytes = Zeroizing::new(fs::read(path).map_err(at)?);
        let key = bytes
            .get(..KEY)
            .ok_or_else(|| SealError::Short(path.to_owned()))?;
        key_of(key).map(Self)
    }

    /// Seals `plain` for `purpose`.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(crate) fn seal(&self, purpose: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let data_key = random::<KEY>()?;
        let mut sealed = vec![FORMAT];
        sealed.extend(seal_with(&self.0, purpose, data_key.as_slice())?);
        sealed.extend(seal_with(&key_of(data_key.as_slice())?, purpose, plain)?);
        Ok(sealed)
    }

    /// Opens what [`Kek::seal`] made for the same purpose.
    ///
    /// # Errors
    /// When it was made otherwise.
    pub(crate) fn open(
        &self,
        purpose: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (format, rest) = sealed.split_first().ok_or(SealError::Closed)?;
        let (wrapped, sealed) = rest.split_at_checked(WRAPPED).ok_or(SealError::Closed)?;
        if *format != FORMAT {
            return Err(SealError::Closed);
        }
        let data_key = open_with(&self.0, purpose, wrapped)?;
        open_with(&key_of(&data_key)?, purpose, sealed)
    }
}

/// What the private key of a chain is sealed for.
pub(crate) fn key_purpose(chain: Fingerprint) -> String {
    format!("private-key/{chain}")
}

/// What the ticket key of a listener is sealed for.
pub(crate) fn ticket_key_purpose(listener: &str, id: u64) -> String {
    format!("ticket-key/{listener}/{id:016x}")
}

/// Fresh random bytes.
///
/// # Errors
/// When the system gives none.
pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, SealError> {
    let mut bytes = Zeroizing::new([0; N]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| SealError::Randomness)?;
    Ok(bytes)
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// As the file system says.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

fn key_of(bytes: &[u8]) -> Result<RandomizedNonceKey, SealError> {
    RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| SealError::Closed)
}

fn seal_with(key: &RandomizedNonceKey, purpose: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut text = plain.to_vec();
    let nonce = key
        .seal_in_place_append_tag(Aad::from(purpose.as_bytes()), &mut text)
        .map_err(|_| SealError::Randomness)?;
    let mut sealed = nonce.as_ref().to_vec();
    sealed.append(&mut text);
    Ok(sealed)
}

fn open_with(
    key: &RandomizedNonceKey,
    purpose: &str,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, text) = sealed.split_at_checked(NONCE).ok_or(SealError::Closed)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Closed)?;
    let mut text = Zeroizing::new(text.to_vec());
    let length = key
        .open_in_place(nonce, Aad::from(purpose.as_bytes()), text.as_mut_slice())
        .map_err(|_| SealError::Closed)?
        .len();
    text.truncate(length);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kek() -> Kek {
        Kek(key_of(&[7; KEY]).unwrap())
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_purpose_only() {
        let sealed = kek().seal("certificate/play", b"the key").unwrap();
        assert!(!sealed.windows(7).any(|w| w == b"the key"));
        let opened = kek().open("certificate/play", &sealed).unwrap();
        assert_eq!(opened.as_slice(), b"the key");
        assert!(kek().open("certificate/other", &sealed).is_err());
        let other = Kek(key_of(&[8; KEY]).unwrap());
        assert!(other.open("certificate/play", &sealed).is_err());
    }

    #[test]
    fn sealed_twice_is_never_the_same() {
        let seal = || kek().seal("p", b"x").unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn no_damage_opens_or_panics() {
        let sealed = kek().seal("p", b"secret").unwrap();
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(kek().open("p", &damaged).is_err(), "byte {at}");
            assert!(kek().open("p", &sealed[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn a_missing_key_is_made_once_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        assert!(matches!(
            Kek::in_file(&path, false),
            Err(SealError::File { .. })
        ));
        let sealed = Kek::in_file(&path, true).unwrap().seal("p", b"x").unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let again = Kek::in_file(&path, true).unwrap();
        assert_eq!(again.open("p", &sealed).unwrap().as_slice(), b"x");
        fs::write(&path, "short").unwrap();
        assert!(matches!(
            Kek::in_file(&path, true),
            Err(SealError::Short(_))
        ));
    }
}
