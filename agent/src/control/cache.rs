//! The last good snapshots on disk, each with the private keys it names, so
//! that an agent serves again after a restart whoever else is away. Three
//! generations, newest first; each file is sealed (AES-256-GCM) and for the
//! agent's user only. Session ticket keys never come here.
//!
//! A key is on disk only inside a generation that names it: when that one has
//! been pushed out by newer ones, the key is gone as well.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use tidegate_core::snapshot::{Fingerprint, Snapshot};
use tidegate_proto::MAX_SNAPSHOT_BYTES;
use tidegate_proto::convert::Version;
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use super::state_dir::{StateDir, read_bounded};
use crate::tls::Keys;

/// How many snapshots are kept.
const GENERATIONS: usize = 3;
const FOLDER: &str = "cache";
const KEY_FILE: &str = "cache.key";
/// systemd's name for it (LoadCredential=).
const CREDENTIAL: &str = "tidegate-cache-key";
/// Says what was sealed: a file of another purpose does not open as a snapshot.
const PURPOSE: &[u8] = b"tidegate agent snapshot 1";
const TAG_BYTES: usize = 16;
/// Keys and framing beside the largest snapshot, which JSON may write twice as
/// long.
const LARGEST_FILE: u64 = 2 * MAX_SNAPSHOT_BYTES as u64 + (64 << 20);
/// A key file is at least as long as the key made from it.
const KEY_BYTES: usize = 32;
const LARGEST_KEY_FILE: u64 = 64 << 10;

/// Why snapshots cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    /// The key that was asked for cannot be read.
    #[error(
        "cache key {path}: {why} (--cache-key-file: a file of {KEY_BYTES} random bytes or more)"
    )]
    Key {
        /// Of the key.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The host refuses.
    #[error("{FOLDER}/ in the state directory: {0}")]
    Io(#[from] io::Error),
    /// It was written with another key, or changed.
    #[error("does not open: it is damaged, or was sealed with another key")]
    Sealed,
    /// It opens and is not a snapshot of this version.
    #[error("holds no snapshot that this version reads")]
    Content,
}

/// What is kept of one snapshot.
pub(crate) struct Generation {
    pub(crate) version: Version,
    pub(crate) snapshot: Snapshot,
    /// Those that it names.
    pub(crate) keys: Keys,
}

/// The cache of one state directory.
pub(crate) struct Cache {
    key: RandomizedNonceKey,
}

impl Cache {
    /// The cache of `dir`, with the key from the file given, else from systemd,
    /// else one made here and kept beside it.
    ///
    /// # Errors
    /// When the key that is to be used cannot be read.
    pub(crate) fn open(dir: &StateDir, key_file: Option<&Path>) -> Result<Self, CacheError> {
        let given = |path: &Path| {
            let refused = |why: String| CacheError::Key {
                path: path.display().to_string(),
                why,
            };
            let bytes = read_bounded(path, LARGEST_KEY_FILE).map_err(|e| refused(e.to_string()))?;
            if bytes.len() < KEY_BYTES {
                return Err(refused(format!("has {} bytes only", bytes.len())));
            }
            Ok(Zeroizing::new(bytes))
        };
        let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
            .map(|folder| Path::new(&folder).join(CREDENTIAL))
            .filter(|path| path.exists());
        let bytes = match (key_file, credential) {
            (Some(path), _) => given(path)?,
            (None, Some(path)) => given(&path)?,
            (None, None) => {
                let path = dir.at(KEY_FILE);
                if !path.exists() {
                    let mut fresh = Zeroizing::new([0; KEY_BYTES]);
                    aws_lc_rs::rand::fill(fresh.as_mut_slice()).map_err(io::Error::other)?;
                    dir.write(KEY_FILE, fresh.as_slice())?;
                }
                given(&path)?
            }
        };
        let hashed = Fingerprint::of(&bytes);
        let key = RandomizedNonceKey::new(&AES_256_GCM, hashed.as_bytes());
        Ok(Self {
            key: key.map_err(io::Error::other)?,
        })
    }

    /// The newest generation that can be used; what is wrong with newer ones is
    /// logged.
    pub(crate) fn load(&self, dir: &StateDir) -> Option<Generation> {
        let numbers = numbers(dir).unwrap_or_else(|error| {
            tracing::warn!(%error, "the kept snapshots cannot be listed");
            Vec::new()
        });
        numbers.into_iter().rev().find_map(|number| {
            let name = name(number);
            match self.read(dir, &name) {
                Ok(generation) => Some(generation),
                Err(error) => {
                    tracing::warn!(file = name, %error, "a kept snapshot is of no use");
                    None
                }
            }
        })
    }

    /// Keeps one more, and no more than three.
    ///
    /// # Errors
    /// When the host refuses; what was kept still is then.
    pub(crate) fn store(&self, dir: &StateDir, generation: &Generation) -> Result<(), CacheError> {
        let before = numbers(dir)?;
        let next = before.last().map_or(1, |last| last.saturating_add(1));
        dir.write(&name(next), &self.seal(Written::of(generation))?)?;
        let too_many = (before.len() + 1).saturating_sub(GENERATIONS);
        for old in before.into_iter().take(too_many) {
            dir.remove(&name(old))?;
        }
        Ok(())
    }

    /// Removes every snapshot and the key that was made for them.
    ///
    /// # Errors
    /// When the host refuses.
    pub(crate) fn forget(dir: &StateDir) -> io::Result<()> {
        match fs::remove_dir_all(dir.at(FOLDER)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        dir.remove(KEY_FILE)
    }

    fn read(&self, dir: &StateDir, name: &str) -> Result<Generation, CacheError> {
        let bytes = dir.read(name, LARGEST_FILE)?.ok_or(CacheError::Content)?;
        self.open_sealed(Zeroizing::new(bytes))?.read()
    }

    fn seal(&self, written: Written) -> Result<Vec<u8>, CacheError> {
        let plain = serde_json::to_vec(&written).map_err(io::Error::from)?;
        // With room for the tag: growing would leave a copy of the keys behind.
        let mut sealed = Zeroizing::new(Vec::with_capacity(plain.len() + TAG_BYTES));
        sealed.extend_from_slice(&plain);
        drop(Zeroizing::new(plain));
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(PURPOSE), &mut *sealed)
            .map_err(io::Error::other)?;
        Ok([nonce.as_ref().as_slice(), sealed.as_slice()].concat())
    }

    fn open_sealed(&self, mut file: Zeroizing<Vec<u8>>) -> Result<Written, CacheError> {
        let (nonce, sealed) = file
            .split_at_mut_checked(NONCE_LEN)
            .ok_or(CacheError::Sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CacheError::Sealed)?;
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(PURPOSE), sealed)
            .map_err(|_| CacheError::Sealed)?;
        serde_json::from_slice(plain).map_err(|_| CacheError::Content)
    }
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Written {
    epoch: Uuid,
    change: u64,
    revision: u64,
    snapshot: Snapshot,
    /// DER, base64.
    keys: BTreeMap<Fingerprint, String>,
}

impl Drop for Written {
    fn drop(&mut self) {
        self.keys.values_mut().for_each(Zeroize::zeroize);
    }
}

impl Written {
    fn of(generation: &Generation) -> Self {
        let keys = generation.keys.reveal();
        Self {
            epoch: generation.version.epoch,
            change: generation.version.change,
            revision: generation.version.revision,
            snapshot: generation.snapshot.clone(),
            keys: keys.map(|(of, der)| (of, BASE64.encode(der))).collect(),
        }
    }

    fn read(mut self) -> Result<Generation, CacheError> {
        let mut keys = Keys::default();
        for (of, text) in &self.keys {
            let der = BASE64.decode(text).map_err(|_| CacheError::Content)?;
            if !keys.insert_der(*of, der) {
                return Err(CacheError::Content);
            }
        }
        let snapshot = std::mem::take(&mut self.snapshot);
        let version = Version {
            epoch: self.epoch,
            change: self.change,
            revision: self.revision,
            hash: snapshot.hash(),
        };
        Ok(Generation {
            version,
            snapshot,
            keys,
        })
    }
}

fn name(number: u64) -> String {
    format!("{FOLDER}/{number}.sealed")
}

/// Of the generations there are, oldest first.
fn numbers(dir: &StateDir) -> io::Result<Vec<u64>> {
    let files = match fs::read_dir(dir.at(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files?,
    };
    let mut numbers = Vec::new();
    for file in files {
        let file = file?.file_name();
        let number = file.to_str().and_then(|f| f.strip_suffix(".sealed"));
        numbers.extend(number.and_then(|n| n.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    use super::*;

    struct Kept {
        root: TempDir,
        dir: StateDir,
        cache: Cache,
    }

    impl Kept {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let dir = StateDir::open(&root.path().join("state")).unwrap();
            let cache = Cache::open(&dir, None).unwrap();
            Self { root, dir, cache }
        }

        fn files(&self) -> Vec<Vec<u8>> {
            let files = numbers(&self.dir).unwrap().into_iter();
            files
                .map(|n| fs::read(self.dir.at(&name(n))).unwrap())
                .collect()
        }
    }

    /// A snapshot with one certificate, and its key in PEM.
    fn generation(change: u64) -> (Generation, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([format!("n{change}.invalid")]).unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        let mut keys = Keys::default();
        keys.insert(&chain, &key.serialize_pem()).unwrap();
        let snapshot = Snapshot {
            certificates: vec![tidegate_core::snapshot::Certificate {
                name: "c".parse().unwrap(),
                fingerprint: Fingerprint::of(chain.as_bytes()),
                chain,
            }],
            ..Snapshot::default()
        };
        let version = Version {
            epoch: Uuid::from_u128(3),
            change,
            revision: 1,
            hash: snapshot.hash(),
        };
        let generation = Generation {
            version,
            snapshot,
            keys,
        };
        (generation, key.serialize_pem())
    }

    fn contains(haystack: &[u8], needle: &[u8]) -> bool {
        haystack
            .windows(needle.len())
            .any(|window| window == needle)
    }

    #[test]
    fn the_newest_of_three_generations_comes_back_with_its_keys() {
        let kept = Kept::new();
        assert!(kept.cache.load(&kept.dir).is_none());
        for change in 1..=5 {
            let (generation, _) = generation(change);
            kept.cache.store(&kept.dir, &generation).unwrap();
            let read = kept.cache.load(&kept.dir).unwrap();
            assert_eq!(read.version, generation.version);
            assert_eq!(read.snapshot, generation.snapshot);
            assert_eq!(read.keys.fingerprints(), generation.keys.fingerprints());
            let bytes = |keys: &Keys| {
                keys.reveal()
                    .map(|(_, der)| der.to_vec())
                    .collect::<Vec<_>>()
            };
            assert_eq!(bytes(&read.keys), bytes(&generation.keys));
        }
        assert_eq!(numbers(&kept.dir).unwrap(), [3, 4, 5]);
    }

    #[test]
    fn a_damaged_file_is_passed_over_for_the_one_before() {
        let kept = Kept::new();
        for change in 1..=3 {
            kept.cache.store(&kept.dir, &generation(change).0).unwrap();
        }
        let mut flipped = kept.files().pop().unwrap();
        *flipped.last_mut().unwrap() ^= 1;
        for (number, bytes) in [(3, flipped), (2, vec![1; 5])] {
            kept.dir.write(&name(number), &bytes).unwrap();
            let read = kept.cache.load(&kept.dir).unwrap();
            assert_eq!(read.version.change, number - 1);
        }
        kept.dir.write(&name(1), b"").unwrap();
        assert!(kept.cache.load(&kept.dir).is_none());
    }

    #[test]
    fn another_key_opens_nothing() {
        let kept = Kept::new();
        kept.cache.store(&kept.dir, &generation(1).0).unwrap();
        let other = kept.root.path().join("other.key");
        fs::write(&other, [7; 32]).unwrap();
        let cache = Cache::open(&kept.dir, Some(&other)).unwrap();
        assert!(cache.load(&kept.dir).is_none());
        let again = Cache::open(&kept.dir, None).unwrap();
        assert!(again.load(&kept.dir).is_some());
    }

    #[test]
    fn a_key_file_that_is_short_or_away_is_an_error() {
        let kept = Kept::new();
        let file = kept.root.path().join("key");
        let refused = || {
            Cache::open(&kept.dir, Some(&file))
                .err()
                .unwrap()
                .to_string()
        };
        assert!(refused().contains("--cache-key-file"));
        fs::write(&file, [7; 31]).unwrap();
        assert!(refused().contains("31 bytes only"));
    }

    #[test]
    fn nothing_readable_is_on_disk_and_a_key_goes_with_the_last_snapshot_that_names_it() {
        let kept = Kept::new();
        let (first, pem) = generation(1);
        kept.cache.store(&kept.dir, &first).unwrap();
        let der: Vec<u8> = first.keys.reveal().next().unwrap().1.to_vec();
        let base64 = BASE64.encode(&der);
        let sealed = kept.files().pop().unwrap();
        for secret in [pem.as_bytes(), &der, base64.as_bytes(), b"certificates"] {
            assert!(!contains(&sealed, secret));
        }
        let mode = |name: &str| {
            let permissions = fs::metadata(kept.dir.at(name)).unwrap().permissions();
            permissions.mode() & 0o777
        };
        assert_eq!((mode(&name(1)), mode(KEY_FILE)), (0o600, 0o600));

        let held = |kept: &Kept| {
            kept.files().into_iter().any(|file| {
                let opened = kept.cache.open_sealed(Zeroizing::new(file)).unwrap();
                opened.keys.values().any(|key| *key == base64)
            })
        };
        assert!(held(&kept));
        for change in 2..=3 {
            kept.cache.store(&kept.dir, &generation(change).0).unwrap();
            assert!(held(&kept));
        }
        kept.cache.store(&kept.dir, &generation(4).0).unwrap();
        assert!(!held(&kept));

        Cache::forget(&kept.dir).unwrap();
        assert!(!kept.dir.at(FOLDER).exists() && !kept.dir.at(KEY_FILE).exists());
        Cache::forget(&kept.dir).unwrap();
    }
}
