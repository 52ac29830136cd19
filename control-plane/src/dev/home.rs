//! The state directory of dev: what is in it, who has it, and beginning anew.
//!
//! ```text
//! lock            held while a dev runs here
//! settings.json   network and port, as the first run took them
//! fleet.yaml      the document that was applied first
//! ca.pem ca.key   the authority of the clients' certificate
//! cli.json        for TIDEGATE_CONFIG: this fleet's address and token
//! dev.json        where everything is, while it runs
//! tokens/         join tokens, until they are used
//! logs/           a log for each process, of its last start
//! postgres/ control-plane/ balancer/ terminator-*/   theirs
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::cli::connection::{Remembered, write_private};
use crate::dev::addresses::{Addresses, DEFAULT_PORT, Network};

const LOCK: &str = "lock";
const SETTINGS: &str = "settings.json";
const REPORT: &str = "dev.json";

/// A state directory, held until this is dropped.
pub(super) struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    /// Takes the directory; made when missing, emptied for a reset.
    pub(super) fn open(given: Option<&Path>, reset: bool) -> anyhow::Result<Self> {
        let wanted = match given {
            Some(path) => path.to_owned(),
            None => usual().context("there is no HOME to keep it in: give --state-dir")?,
        };
        let shown = || format!("cannot use {} (--state-dir)", wanted.display());
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&wanted).with_context(shown)?;
        // Children run elsewhere, and people type these paths elsewhere.
        let path = wanted.canonicalize().with_context(shown)?;
        let is_empty = fs::read_dir(&path).with_context(shown)?.next().is_none();
        ensure!(
            is_empty || path.join(LOCK).exists(),
            "{} holds something else: name another --state-dir",
            path.display()
        );
        let lock = lock(&path)?;
        let home = Self { path, _lock: lock };
        if reset {
            home.empty()?;
        }
        for folder in ["logs", "tokens"] {
            fs::create_dir_all(home.at(folder)).with_context(shown)?;
        }
        home.forget_processes();
        Ok(home)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Something in it.
    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn empty(&self) -> anyhow::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name() == LOCK {
                continue;
            }
            let removed = match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path()),
                false => fs::remove_file(entry.path()),
            };
            removed.with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
        Ok(())
    }

    /// Where the fleet is: as the first run chose, since the document, the
    /// certificate and the agents' identities say the same.
    pub(super) fn addresses(
        &self,
        network: Option<Network>,
        port: Option<u16>,
    ) -> anyhow::Result<Addresses> {
        let path = self.at(SETTINGS);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Addresses {
                    network: network.unwrap_or_default(),
                    port: port.unwrap_or(DEFAULT_PORT),
                });
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let kept = settings(&text)
            .with_context(|| format!("{} is damaged: begin anew with --reset", path.display()))?;
        let differs =
            network.is_some_and(|n| n != kept.network) || port.is_some_and(|p| p != kept.port);
        if differs {
            bail!(
                "the fleet in {} has network {} and port {}: leave --network and --port out, name \
                 another --state-dir, or begin anew with --reset",
                self.path.display(),
                kept.network,
                kept.port
            );
        }
        Ok(kept)
    }

    /// Keeps them for later runs; not before they are known to be free.
    pub(super) fn keep(&self, addresses: &Addresses) -> anyhow::Result<()> {
        let kept = json!({ "network": addresses.network.to_string(), "port": addresses.port });
        Ok(write_private(&self.at(SETTINGS), &format!("{kept}\n"))?)
    }

    /// A log, empty, and where it is.
    pub(super) fn log(&self, name: &str) -> anyhow::Result<(File, PathBuf)> {
        let path = self.at("logs").join(format!("{name}.log"));
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok((file, path))
    }

    /// What the command line needs to reach this fleet.
    pub(super) fn write_connection(&self, connection: &Remembered) -> anyhow::Result<()> {
        Ok(connection.write(&self.at("cli.json"))?)
    }

    /// Says where everything is, whole or not at all: its being there means that the
    /// fleet is up.
    pub(super) fn write_report(&self, report: &Value) -> anyhow::Result<()> {
        let fresh = self.at("dev.json.new");
        write_private(&fresh, &format!("{report:#}\n"))?;
        fs::rename(&fresh, self.at(REPORT)).context("cannot write dev.json")
    }

    /// What `write_report` said is over.
    pub(super) fn forget_processes(&self) {
        // Mostly there is none.
        let _ = fs::remove_file(self.at(REPORT));
    }
}

fn settings(text: &str) -> Option<Addresses> {
    let kept: Value = serde_json::from_str(text).ok()?;
    Some(Addresses {
        network: kept.get("network")?.as_str()?.parse().ok()?,
        port: kept.get("port")?.as_u64()?.try_into().ok()?,
    })
}

fn usual() -> Option<PathBuf> {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let state = variable("XDG_STATE_HOME");
    let state = state.or_else(|| variable("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("tidegate/dev"))
}

/// One dev at a time; the file says which.
fn lock(directory: &Path) -> anyhow::Result<File> {
    let path = directory.join(LOCK);
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!(
            "process {} runs a fleet in {}: stop it, or name another --state-dir and --network",
            fs::read_to_string(&path).unwrap_or_default().trim(),
            directory.display()
        ),
        Err(TryLockError::Error(error)) => return Err(error).context("cannot lock"),
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "mine").unwrap();
        for reset in [false, true] {
            let error = Home::open(Some(folder.path()), reset).err().unwrap();
            assert!(error.to_string().contains("another --state-dir"), "{error}");
        }
        assert!(folder.path().join("thesis.txt").exists());
    }

    #[test]
    fn one_fleet_at_a_time_has_a_directory() {
        let folder = tempfile::tempdir().unwrap();
        let first = Home::open(Some(folder.path()), false).unwrap();
        let error = Home::open(Some(folder.path()), true)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        assert!(Home::open(Some(folder.path()), false).is_ok());
    }

    #[test]
    fn addresses_are_those_of_the_first_run_until_a_reset() {
        let folder = tempfile::tempdir().unwrap();
        let network: Network = "127.8.9".parse().unwrap();
        let home = Home::open(Some(folder.path()), false).unwrap();
        let first = home.addresses(Some(network), Some(9443)).unwrap();
        // Not yet: somebody may have had one of them.
        assert_eq!(home.addresses(None, None).unwrap().port, DEFAULT_PORT);
        home.keep(&first).unwrap();
        assert_eq!(home.addresses(None, None).unwrap(), first);
        assert_eq!(home.addresses(Some(network), None).unwrap(), first);
        let error = home.addresses(None, Some(8443)).unwrap_err().to_string();
        assert!(
            error.contains("127.8.9") && error.contains("--reset"),
            "{error}"
        );
        drop(home);
        let home = Home::open(Some(folder.path()), true).unwrap();
        assert_eq!(home.addresses(None, None).unwrap().port, DEFAULT_PORT);
    }
}
