//! Who an agent of a fleet is: its key, the certificate over it, whom it trusts,
//! and its address. One file, so that the parts always belong together. It has
//! no `Debug`: the key in it is a secret.

use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tidegate_core::document::Role;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::state_dir::StateDir;

/// Where it is kept.
const FILE: &str = "identity.json";
/// Where the key waits for its certificate.
pub(super) const KEY_FILE: &str = "joining.key";
/// More is not an identity.
const LARGEST_FILE: u64 = 1 << 20;
/// Certificates in a chain or a bundle, and bytes of each.
const MOST_CERTIFICATES: usize = 16;
const LARGEST_CERTIFICATE: usize = 16 << 10;

/// An agent's identity.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) agent: Uuid,
    pub(crate) roles: Vec<Role>,
    /// What it advertises, unless `--address` says otherwise.
    pub(crate) address: IpAddr,
    /// The public part of the token it joined by.
    pub(crate) join_token: String,
    pub(crate) credentials: Credentials,
}

/// What a renewal replaces.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// PKCS#8.
    pub(crate) key: AgentKey,
    /// Leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The authorities of control planes.
    pub(crate) trust_bundle: Vec<CertificateDer<'static>>,
    /// By this host's clock, when the certificate came. Its own beginning is
    /// dated back.
    pub(crate) issued_at: SystemTime,
    /// By the control plane's clock.
    pub(crate) not_after: SystemTime,
}

/// A private key of an agent, PKCS#8 DER.
#[derive(Clone)]
pub(crate) struct AgentKey(Zeroizing<Vec<u8>>);

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The host refuses.
    #[error("{FILE} in the state directory: {0}")]
    Io(#[from] io::Error),
    /// Somebody changed the file.
    #[error(
        "{FILE} in the state directory is damaged: remove it and start the agent with a new join \
         token"
    )]
    Damaged,
    /// The control plane sent something else than certificates.
    #[error("the control plane sent certificates that cannot be used")]
    BadCertificates,
    /// No key can be made.
    #[error("no key can be made: {0}")]
    Key(String),
}

impl AgentKey {
    /// A new key, ECDSA P-256.
    ///
    /// # Errors
    /// When the host has no randomness.
    pub(crate) fn new() -> Result<Self, IdentityError> {
        let pair = KeyPair::generate().map_err(|e| IdentityError::Key(e.to_string()))?;
        Ok(Self(Zeroizing::new(pair.serialize_der())))
    }

    /// A key from its DER, if that is one.
    pub(crate) fn from_der(der: Vec<u8>) -> Option<Self> {
        let key = Self(Zeroizing::new(der));
        key.pair().ok().map(|_| key)
    }

    /// The DER, for the file.
    pub(crate) fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// What the control plane signs: of all in it, it takes the public key only.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub(crate) fn signing_request(&self) -> Result<Vec<u8>, IdentityError> {
        let request = CertificateParams::default().serialize_request(&self.pair()?);
        let request = request.map_err(|e| IdentityError::Key(e.to_string()))?;
        Ok(request.der().to_vec())
    }

    fn pair(&self) -> Result<KeyPair, IdentityError> {
        KeyPair::try_from(self.reveal()).map_err(|e| IdentityError::Key(e.to_string()))
    }
}

impl Credentials {
    /// What came of an enrolment or a renewal.
    ///
    /// # Errors
    /// When it is not a chain and a bundle.
    pub(crate) fn issued(
        key: AgentKey,
        chain: Vec<Vec<u8>>,
        trust_bundle: Vec<Vec<u8>>,
        now: SystemTime,
    ) -> Result<Self, IdentityError> {
        let (chain, trust_bundle) = (certificates(chain)?, certificates(trust_bundle)?);
        Ok(Self {
            not_after: end_of(&chain)?,
            key,
            chain,
            trust_bundle,
            issued_at: now,
        })
    }

    /// When to renew: at half of the time since issue, plus up to a tenth, so
    /// that agents that joined together drift apart.
    pub(crate) fn renew_at(&self, random: f64) -> SystemTime {
        let life = self.not_after.duration_since(self.issued_at);
        let life = life.unwrap_or(Duration::ZERO);
        self.issued_at + life.mul_f64(0.5 + random.clamp(0.0, 1.0) / 10.0)
    }

    /// Whether only a renewal may still be asked for with it.
    pub(crate) fn is_expired(&self, now: SystemTime) -> bool {
        now >= self.not_after
    }
}

impl Identity {
    /// The one kept in the state directory, if there is one.
    ///
    /// # Errors
    /// When it cannot be read, or is not one.
    pub(crate) fn load(dir: &StateDir) -> Result<Option<Self>, IdentityError> {
        let Some(bytes) = dir.read(FILE, LARGEST_FILE)? else {
            return Ok(None);
        };
        let bytes = Zeroizing::new(bytes);
        let written: Written =
            serde_json::from_slice(&bytes).map_err(|_| IdentityError::Damaged)?;
        let identity = written.read()?;
        // Left over by a crash between the two; the identity's own key is in it.
        dir.remove(KEY_FILE)?;
        Ok(Some(identity))
    }

    /// Keeps it in the state directory.
    ///
    /// # Errors
    /// When the host refuses; what was kept still is then.
    pub(crate) fn store(&self, dir: &StateDir) -> Result<(), IdentityError> {
        let written = Written::of(self)?;
        let bytes = serde_json::to_vec_pretty(&written).map_err(io::Error::from)?;
        dir.write(FILE, &Zeroizing::new(bytes))?;
        Ok(())
    }

    /// Removes it, and a key that waited for it, from the state directory.
    ///
    /// # Errors
    /// When the host refuses; the other file is removed all the same.
    pub(crate) fn forget(dir: &StateDir) -> io::Result<()> {
        let removed = [FILE, KEY_FILE].map(|file| dir.remove(file));
        removed.into_iter().collect()
    }
}

/// The identity of the running agent, as it is now, and where it is kept.
pub(crate) struct Member {
    pub(crate) dir: StateDir,
    identity: Mutex<Identity>,
}

impl Member {
    /// An agent with an identity.
    pub(crate) fn new(dir: StateDir, identity: Identity) -> Self {
        Self {
            dir,
            identity: Mutex::new(identity),
        }
    }

    /// What it proves itself with now.
    pub(crate) fn credentials(&self) -> Credentials {
        self.identity().credentials.clone()
    }

    /// Its number in the fleet.
    pub(crate) fn agent(&self) -> Uuid {
        self.identity().agent
    }

    /// The public part of the token it joined by.
    pub(crate) fn join_token(&self) -> String {
        self.identity().join_token.clone()
    }

    /// Takes over what a renewal gave: on disk first, so that what is used is
    /// never newer than what is kept.
    ///
    /// # Errors
    /// When the host refuses; nothing has changed then.
    pub(crate) fn replace(&self, credentials: Credentials) -> Result<(), IdentityError> {
        let mut identity = self.identity();
        let mut renewed = identity.clone();
        renewed.credentials = credentials;
        renewed.store(&self.dir)?;
        *identity = renewed;
        Ok(())
    }

    fn identity(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Written {
    agent: Uuid,
    roles: Vec<Role>,
    address: IpAddr,
    join_token: String,
    /// Seconds since 1970.
    issued_at: f64,
    /// PKCS#8, base64.
    private_key: String,
    /// DER, base64.
    chain: Vec<String>,
    /// DER, base64.
    trust_bundle: Vec<String>,
}

impl Written {
    fn of(identity: &Identity) -> Result<Self, IdentityError> {
        let credentials = &identity.credentials;
        let encoded = |all: &[CertificateDer<'_>]| all.iter().map(|c| BASE64.encode(c)).collect();
        let issued_at = credentials.issued_at.duration_since(UNIX_EPOCH);
        Ok(Self {
            agent: identity.agent,
            roles: identity.roles.clone(),
            address: identity.address,
            join_token: identity.join_token.clone(),
            issued_at: issued_at.map_err(io::Error::other)?.as_secs_f64(),
            private_key: BASE64.encode(credentials.key.reveal()),
            chain: encoded(&credentials.chain),
            trust_bundle: encoded(&credentials.trust_bundle),
        })
    }

    fn read(self) -> Result<Identity, IdentityError> {
        let decode = |text: &str| BASE64.decode(text).map_err(|_| IdentityError::Damaged);
        let decoded = |all: &[String]| {
            let all = all.iter().map(|text| decode(text));
            all.collect::<Result<Vec<_>, _>>()
        };
        let key = AgentKey::from_der(decode(&self.private_key)?).ok_or(IdentityError::Damaged)?;
        let since = Duration::try_from_secs_f64(self.issued_at);
        let issued_at = UNIX_EPOCH.checked_add(since.map_err(|_| IdentityError::Damaged)?);
        let credentials = Credentials::issued(
            key,
            decoded(&self.chain)?,
            decoded(&self.trust_bundle)?,
            issued_at.ok_or(IdentityError::Damaged)?,
        );
        Ok(Identity {
            agent: self.agent,
            roles: self.roles,
            address: self.address,
            join_token: self.join_token,
            credentials: credentials.map_err(|_| IdentityError::Damaged)?,
        })
    }
}

fn certificates(all: Vec<Vec<u8>>) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let fits = |der: &Vec<u8>| der.len() <= LARGEST_CERTIFICATE;
    if !(1..=MOST_CERTIFICATES).contains(&all.len()) || !all.iter().all(fits) {
        return Err(IdentityError::BadCertificates);
    }
    Ok(all.into_iter().map(CertificateDer::from).collect())
}

fn end_of(chain: &[CertificateDer<'_>]) -> Result<SystemTime, IdentityError> {
    let leaf = chain.first().ok_or(IdentityError::BadCertificates)?;
    let (_, parsed) =
        x509_parser::parse_x509_certificate(leaf).map_err(|_| IdentityError::BadCertificates)?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp());
    let seconds = seconds.map_err(|_| IdentityError::BadCertificates)?;
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .ok_or(IdentityError::BadCertificates)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::control::fake::Authority;

    fn identity(life: Duration) -> Identity {
        Identity {
            agent: Uuid::from_u128(1),
            roles: vec![Role::Terminator],
            address: "127.0.0.7".parse().unwrap(),
            join_token: "0102".into(),
            credentials: Authority::new().credentials(life),
        }
    }

    #[test]
    fn an_identity_survives_its_file_whole() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(root.path()).unwrap();
        assert!(Identity::load(&dir).unwrap().is_none());
        let kept = identity(Duration::from_secs(60));
        kept.store(&dir).unwrap();
        let read = Identity::load(&dir).unwrap().unwrap();
        assert_eq!((read.agent, &read.roles), (kept.agent, &kept.roles));
        assert_eq!(
            (read.address, &read.join_token),
            (kept.address, &kept.join_token)
        );
        let (ours, theirs) = (&kept.credentials, &read.credentials);
        assert_eq!(theirs.key.reveal(), ours.key.reveal());
        assert_eq!(
            (&theirs.chain, &theirs.trust_bundle),
            (&ours.chain, &ours.trust_bundle)
        );
        assert_eq!(theirs.not_after, ours.not_after);
        let drift = ours.issued_at.duration_since(theirs.issued_at);
        assert!(drift.unwrap_or_else(|e| e.duration()) < Duration::from_millis(1));

        Identity::forget(&dir).unwrap();
        assert!(Identity::load(&dir).unwrap().is_none());
    }

    #[test]
    fn the_key_that_waited_goes_when_an_identity_is_loaded_and_when_it_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(root.path()).unwrap();
        let waits = || dir.write(KEY_FILE, b"the same key").unwrap();
        waits();
        assert!(Identity::load(&dir).unwrap().is_none());
        assert!(dir.at(KEY_FILE).exists(), "it waits for the identity");
        identity(Duration::from_secs(60)).store(&dir).unwrap();
        assert!(Identity::load(&dir).unwrap().is_some());
        assert!(!dir.at(KEY_FILE).exists());
        waits();
        Identity::forget(&dir).unwrap();
        assert!(!dir.at(KEY_FILE).exists());
    }

    #[test]
    fn a_damaged_file_is_an_error_with_the_mend() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(root.path()).unwrap();
        identity(Duration::from_secs(60)).store(&dir).unwrap();
        let whole = fs::read_to_string(dir.at(FILE)).unwrap();
        let damaged = [
            String::new(),
            whole[..whole.len() / 2].to_owned(),
            whole.replace("127.0.0.7", "nowhere"),
            whole.replace("\"private_key\": \"", "\"private_key\": \"AAAA"),
            whole.replace("\"issued_at\": ", "\"issued_at\": -"),
        ];
        for text in damaged {
            dir.write(FILE, text.as_bytes()).unwrap();
            let error = Identity::load(&dir).err().unwrap().to_string();
            assert!(error.contains("new join token"), "{error}");
        }
    }

    #[test]
    fn renewal_is_due_at_half_of_the_time_since_issue_and_a_little_later() {
        let credentials = identity(Duration::from_secs(1000)).credentials;
        let life = credentials.not_after.duration_since(credentials.issued_at);
        let life = life.unwrap();
        for (random, share) in [(0.0, 0.5), (1.0, 0.6)] {
            let due = credentials.renew_at(random);
            let due = due.duration_since(credentials.issued_at).unwrap();
            assert!(due.abs_diff(life.mul_f64(share)) < Duration::from_millis(1));
        }
        let over = identity(Duration::ZERO).credentials;
        assert!(over.is_expired(SystemTime::now()));
        assert!(over.renew_at(1.0) <= SystemTime::now());
    }

    #[test]
    fn what_is_no_chain_is_refused() {
        let good = Authority::new().credentials(Duration::from_secs(60));
        let bundle = || vec![good.trust_bundle[0].to_vec()];
        let leaf = good.chain[0].to_vec();
        for chain in [
            vec![],
            vec![vec![]],
            vec![leaf[..20].to_vec()],
            vec![leaf.clone(); MOST_CERTIFICATES + 1],
            vec![vec![0; LARGEST_CERTIFICATE + 1]],
        ] {
            let issued = Credentials::issued(good.key.clone(), chain, bundle(), SystemTime::now());
            assert!(issued.is_err());
        }
        let issued = Credentials::issued(good.key.clone(), vec![leaf], vec![], SystemTime::now());
        assert!(issued.is_err());
    }
}
