//! The state directory of a fleet's agent: files that only its user can read,
//! each written whole or not at all. What is in them is the others' matter
//! (`identity`, `cache`, `enroll`). One process at a time has the directory.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A state directory, held until this is dropped.
pub(crate) struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateDirError {
    /// Another process has it.
    #[error(
        "{} is in use by another agent: give each a --state-dir of its own", .0.display()
    )]
    InUse(PathBuf),
    /// The host refuses.
    #[error("{}: {source} (--state-dir has to be a directory this user can write)", .path.display())]
    Io {
        /// Of what.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

impl StateDir {
    /// Makes it if it is missing, and takes it.
    ///
    /// # Errors
    /// When another process has it, or the host refuses.
    pub(crate) fn open(path: &Path) -> Result<Self, StateDirError> {
        let refused = |path: &Path| {
            let path = path.to_owned();
            move |source| StateDirError::Io { path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(refused(path))?;
        let lock_at = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_at)
            .map_err(refused(&lock_at))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(StateDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(refused(&lock_at)(error)),
        }
    }

    /// Where a file of it is.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The bytes of a file, if it is there.
    ///
    /// # Errors
    /// When it cannot be read or has more than `most` bytes.
    pub(crate) fn read(&self, name: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        match read_bounded(&self.at(name), most) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts `bytes` in the place of a file; after a crash it has the old bytes or
    /// the new ones.
    ///
    /// # Errors
    /// When the host refuses; the file is as it was then.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let place = self.at(name);
        if let Some(folder) = place.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        let new = self.at(&format!("{name}.new"));
        // Left over by a crash, perhaps with other permissions.
        remove_if_there(&new)?;
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &place)?;
        match place.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// When the host refuses.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        remove_if_there(&self.at(name))
    }
}

/// A whole file of at most `most` bytes.
///
/// # Errors
/// When it cannot be read or is larger.
pub(crate) fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("has more than {most} bytes")));
    }
    Ok(bytes)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_is_for_its_user_only() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&root.path().join("state")).unwrap();
        assert_eq!(dir.read("inner/file", 10).unwrap(), None);
        dir.write("inner/file", b"old").unwrap();
        fs::write(dir.at("inner/file.new"), "left over by a crash").unwrap();
        dir.write("inner/file", b"new").unwrap();
        assert_eq!(dir.read("inner/file", 3).unwrap().unwrap(), b"new");
        assert!(dir.read("inner/file", 2).is_err());
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(dir.at("inner/file")), 0o600);
        assert_eq!(mode(dir.at("")), 0o700);
        dir.remove("inner/file").unwrap();
        dir.remove("inner/file").unwrap();
        assert_eq!(fs::read_dir(dir.at("inner")).unwrap().count(), 0);
    }

    #[test]
    fn a_second_agent_does_not_get_the_directory() {
        let root = tempfile::tempdir().unwrap();
        let first = StateDir::open(root.path()).unwrap();
        let second = StateDir::open(root.path()).err().unwrap().to_string();
        assert!(second.contains("in use"), "{second}");
        drop(first);
        assert!(StateDir::open(root.path()).is_ok());
    }
}
