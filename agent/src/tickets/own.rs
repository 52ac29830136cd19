//! Ticket keys of an agent without a control plane. By default it makes them
//! itself, by the schedule that a fleet follows, and they end with the process; from a
//! file they are those of every agent that is given the same one.
//!
//! The file has a secret a line, 64 hexadecimal digits: the first makes tickets,
//! the others only open them. It is rotated by hand, as nginx's
//! `ssl_session_ticket_key`: first add the new secret as the second line everywhere,
//! then move it to the first.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use tidegate_core::document::Name;
use tidegate_core::snapshot::{Snapshot, Work};
use tidegate_core::tickets::{self, Epoch, Stage, Step, Timing};
use tidegate_proto::convert::{TicketKey, TicketKeys};
use zeroize::Zeroizing;

/// Secrets in a file.
const MOST_SECRETS: usize = 8;
/// A file larger than this holds something else.
const LARGEST_FILE: usize = 4096;
/// What is in a file serves until the file changes: no process lives that long.
const FOR_EVER: Duration = Duration::from_hours(24 * 3660);

/// Where the keys come from.
pub(crate) struct Own {
    /// None: there are no tickets.
    timing: Option<Timing>,
    secrets: Option<Secrets>,
    made: BTreeMap<Name, Made>,
}

/// The keys made for one listener.
#[derive(Default)]
struct Made {
    epochs: Vec<Epoch>,
    keys: BTreeMap<u64, Zeroizing<[u8; 32]>>,
}

/// What a file says. No `Debug`.
#[derive(PartialEq, Eq)]
pub(crate) struct Secrets(Vec<Zeroizing<[u8; 32]>>);

/// The system gives no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no randomness")]
pub(crate) struct NoRandomness;

impl Own {
    /// Keys that the agent makes itself, for now; none without a timing.
    pub(crate) fn new(timing: Option<Timing>) -> Self {
        Self {
            timing,
            secrets: None,
            made: BTreeMap::new(),
        }
    }

    /// These secrets from now on; made keys where there are none.
    pub(crate) fn set_secrets(&mut self, secrets: Option<Secrets>) {
        self.secrets = secrets;
    }

    /// The keys that a snapshot's listeners should have now, when they are others than
    /// before. `anew` says that they may be, whatever the schedule says.
    ///
    /// # Errors
    /// When the system gives no randomness; what was goes on.
    pub(crate) fn follow(
        &mut self,
        snapshot: &Snapshot,
        now: SystemTime,
        anew: bool,
    ) -> Result<Option<TicketKeys>, NoRandomness> {
        let Some(timing) = self.timing else {
            return Ok(None);
        };
        let terminates = |work: &Work| matches!(work, Work::Terminate(_));
        let listeners = snapshot.listeners.iter();
        let names = listeners.filter(|l| terminates(&l.work)).map(|l| &l.name);
        if let Some(secrets) = &self.secrets {
            self.made.clear();
            let keys = names.map(|name| (name.clone(), secrets.keys(name)));
            return Ok(anew.then(|| set(&timing, keys.collect())));
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut changed = anew;
        let names: Vec<&Name> = names.collect();
        self.made.retain(|name, _| names.contains(&name));
        for name in names {
            let made = self.made.entry(name.clone()).or_default();
            changed |= made.keep(now, &timing)?;
        }
        let all = self.made.iter();
        let all = all.map(|(name, made)| (name.clone(), made.told(now, &timing)));
        Ok(changed.then(|| set(&timing, all.collect())))
    }
}

fn set(timing: &Timing, listeners: Vec<(Name, Vec<TicketKey>)>) -> TicketKeys {
    TicketKeys {
        number: 0,
        lifetime: timing.lifetime(),
        listeners,
    }
}

impl Made {
    /// Does what the schedule wants; whether that was anything. Whoever holds a key is
    /// this agent alone.
    fn keep(&mut self, now: Duration, timing: &Timing) -> Result<bool, NoRandomness> {
        let mut changed = false;
        while let Some(step) = tickets::step(&self.epochs, |_| true, now, timing) {
            let mut id = 0;
            match step {
                Step::Make => {
                    let head = random::<8>()?;
                    id = u64::from_be_bytes(*head);
                    self.keys.insert(id, random()?);
                }
                Step::Retire(id) => {
                    self.keys.remove(&id);
                }
                Step::Promote(_) => {}
            }
            tickets::take(&mut self.epochs, step, id, now);
            changed = true;
        }
        Ok(changed)
    }

    fn told(&self, now: Duration, timing: &Timing) -> Vec<TicketKey> {
        let told = self.epochs.iter().filter_map(|epoch| {
            Some(TicketKey {
                id: epoch.id,
                key: self.keys.get(&epoch.id)?.clone(),
                stage: epoch.stage(),
                encrypts_for: epoch.encrypts_for(now, timing),
                opens_for: epoch.opens_for(now, timing),
            })
        });
        told.collect()
    }
}

impl Secrets {
    /// Those in a file that nobody but its owner can read.
    ///
    /// # Errors
    /// What is wrong with it, in words; never what it holds.
    pub(crate) fn in_file(path: &Path) -> Result<Self, String> {
        let file = fs::File::open(path).map_err(|error| error.to_string())?;
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err("others can read it: chmod 600".to_owned());
        }
        // Room for all of it: what is moved while it grows would not be wiped.
        let mut text = Zeroizing::new(String::with_capacity(LARGEST_FILE));
        let read = file.take(LARGEST_FILE as u64).read_to_string(&mut text);
        read.map_err(|error| error.to_string())?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let secrets: Option<Vec<_>> = lines.map(secret).collect();
        match secrets {
            Some(secrets) if (1..=MOST_SECRETS).contains(&secrets.len()) => Ok(Self(secrets)),
            _ => Err(format!(
                "a ticket key file has 1 to {MOST_SECRETS} lines of 64 hexadecimal digits, as of \
                 `openssl rand -hex 32`"
            )),
        }
    }

    /// The keys of a listener: others than those of any other (RFC 5869).
    fn keys(&self, listener: &Name) -> Vec<TicketKey> {
        let info = [b"tidegate ticket key 1/", listener.as_str().as_bytes()];
        let keys = self.0.iter().enumerate().filter_map(|(place, secret)| {
            let derived = Salt::new(HKDF_SHA256, &[]).extract(secret.as_slice());
            let mut bytes = Zeroizing::new([0; Derived::LENGTH]);
            let filled = derived
                .expand(&info, Derived)
                .and_then(|okm| okm.fill(bytes.as_mut_slice()));
            filled.ok()?;
            let (id, key) = bytes.split_first_chunk()?;
            Some(TicketKey {
                id: u64::from_be_bytes(*id),
                key: Zeroizing::new(key.try_into().ok()?),
                stage: match place {
                    0 => Stage::Encrypting,
                    _ => Stage::Previous,
                },
                encrypts_for: match place {
                    0 => FOR_EVER,
                    _ => Duration::ZERO,
                },
                opens_for: FOR_EVER,
            })
        });
        // The first is the youngest, and keys are told oldest first.
        let mut keys: Vec<_> = keys.collect();
        keys.reverse();
        keys
    }
}

/// Id and key.
struct Derived;

impl Derived {
    const LENGTH: usize = 8 + 32;
}

impl KeyType for Derived {
    fn len(&self) -> usize {
        Self::LENGTH
    }
}

fn secret(line: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut secret = Zeroizing::new([0; 32]);
    if line.len() != 64 || !line.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(line.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(secret)
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, NoRandomness> {
    let mut bytes = Zeroizing::new([0; N]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn snapshot(names: &[&str]) -> Snapshot {
        let listeners = names.iter().map(|name| {
            serde_json::json!({
                "name": name, "bind": "127.0.0.1:1", "accept_proxy": null, "announce": null,
                "policy": tidegate_core::snapshot::Policy::default(),
                "work": { "terminate": { "certificates": [], "inside": "tcp" } },
            })
        });
        let listeners: Vec<_> = listeners.collect();
        let whole = serde_json::json!({ "listeners": listeners, "pools": [], "certificates": [] });
        serde_json::from_value(whole).unwrap()
    }

    fn stages(keys: &TicketKeys) -> Vec<(&str, Vec<Stage>)> {
        let listeners = keys.listeners.iter();
        let stages = |keys: &Vec<TicketKey>| keys.iter().map(|key| key.stage).collect();
        listeners
            .map(|(name, keys)| (name.as_str(), stages(keys)))
            .collect()
    }

    #[test]
    fn an_agent_alone_makes_and_rotates_keys_for_each_listener() {
        let mut own = Own::new(Some(Timing::default()));
        let (runs, now) = (snapshot(&["a", "b"]), UNIX_EPOCH + 20_000 * DAY);
        let first = own.follow(&runs, now, true).unwrap().unwrap();
        let one = vec![Stage::Encrypting];
        assert_eq!(stages(&first), [("a", one.clone()), ("b", one.clone())]);
        let keys = first.listeners.iter().map(|(_, keys)| &keys[0]);
        let keys: Vec<_> = keys.map(|key| (key.id, key.key.to_vec())).collect();
        assert_ne!(keys[0], keys[1]);
        assert!(own.follow(&runs, now, false).unwrap().is_none(), "no news");
        let later = now + DAY / 2;
        let second = own.follow(&runs, later, false).unwrap().unwrap();
        let two = vec![Stage::Previous, Stage::Encrypting];
        assert_eq!(stages(&second), [("a", two.clone()), ("b", two)]);
        let gone = own.follow(&snapshot(&["b"]), later, true).unwrap().unwrap();
        assert_eq!(gone.listeners.len(), 1);
        assert_eq!(own.made.len(), 1, "what is not served has no keys");
        let none = Own::new(None).follow(&runs, now, true).unwrap();
        assert!(none.is_none(), "no tickets are wanted");
    }

    #[test]
    fn a_file_gives_every_agent_the_same_keys_and_each_listener_its_own() {
        let lines = format!("{}\n\n{}\n", "0f".repeat(32), "A0".repeat(32));
        let keys = |listener: &str| {
            let name = listener.parse().unwrap();
            let keys = Secrets::parse(&lines).ok().unwrap().keys(&name);
            let told = keys.iter().map(|k| (k.id, k.key.to_vec(), k.stage));
            told.collect::<Vec<_>>()
        };
        assert_eq!(keys("a"), keys("a"));
        let (a, b) = (keys("a"), keys("b"));
        assert_eq!(
            a.iter().map(|k| k.2).collect::<Vec<_>>(),
            [Stage::Previous, Stage::Encrypting]
        );
        let mut ids = vec![a[0].0, a[1].0, b[0].0, b[1].0];
        ids.dedup();
        assert_eq!(ids.len(), 4);
        assert_ne!(a[0].1, b[0].1);
    }

    #[test]
    fn a_file_that_others_can_read_or_that_holds_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tickets");
        fs::write(&path, "0f".repeat(32)).unwrap();
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o640);
        let refused = Secrets::in_file(&path).err().unwrap();
        assert!(refused.contains("chmod 600"), "{refused}");
        mode(0o600);
        assert!(Secrets::in_file(&path).is_ok());
        for bad in [
            "",
            "0f",
            &"0g".repeat(32),
            &format!("{}\n", "0f".repeat(32)).repeat(9),
        ] {
            fs::write(&path, bad).unwrap();
            let refused = Secrets::in_file(&path).err().unwrap();
            assert!(refused.contains("openssl rand -hex 32"), "{refused}");
        }
    }
}
