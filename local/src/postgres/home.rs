//! The directory of one private server: its lock, data, socket and log, and the
//! user they belong to. Used by [`super::Server`] only.
//!
//! ```text
//! DIR/lock           held while a server is started or runs
//! DIR/data/          Postgres' own; `data.new` until initdb is done
//! DIR/socket/        elsewhere when its path would be too long for a socket
//! DIR/postgres.log   of the last start
//! ```

use std::fs::{self, DirBuilder, File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Error;

/// sockaddr_un(7): 108 bytes with the zero at the end.
const SOCKET_PATH_LIMIT: usize = 107;

/// What Postgres names the socket for the port it is told.
const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// A locked directory.
#[derive(Debug)]
pub(super) struct Home {
    directory: PathBuf,
    socket: PathBuf,
    account: Option<Account>,
    _lock: File,
}

/// The user a server of root's runs as, since Postgres refuses to run as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// A directory as a program of the server's user is told it.
pub(super) struct Entrance {
    pub(super) path: PathBuf,
    /// What the path stands on, to be inherited.
    pub(super) descriptor: Option<OwnedFd>,
}

impl Home {
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        let created = builder.create(directory);
        created.map_err(Error::file("cannot make", directory))?;
        let directory = directory.canonicalize();
        let directory = directory.map_err(Error::file("cannot enter", Path::new(".")))?;
        let lock = lock(&directory)?;
        let account = account(&directory.join("data"))?;
        let mut home = Self {
            socket: directory.join("socket"),
            directory,
            account,
            _lock: lock,
        };
        if home.socket.join(SOCKET_NAME).as_os_str().len() > SOCKET_PATH_LIMIT {
            home.socket = short_directory(&home.directory);
        }
        home.own(&home.socket)?;
        Ok(home)
    }

    pub(super) fn account(&self) -> Option<Account> {
        self.account
    }

    /// Where clients find the socket.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Where initdb works, empty.
    pub(super) fn new_data(&self) -> Result<PathBuf, Error> {
        let path = self.directory.join("data.new");
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("cannot remove", &path)(error));
            }
            _ => self.own(&path)?,
        }
        Ok(path)
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.directory.join("postgres.log")
    }

    pub(super) fn log(&self) -> Result<File, Error> {
        let path = self.log_path();
        File::create(&path).map_err(Error::file("cannot write", &path))
    }

    /// The last lines of the log, as reason of an error.
    pub(super) fn last_words(&self) -> String {
        let text = fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(5);
        lines.get(from..).unwrap_or_default().join("\n")
    }

    /// A directory for the server's user to go into. Its parents may be closed to
    /// that user, as `/root` is: then the way in is a descriptor of ours.
    pub(super) fn entrance(&self, path: &Path) -> Result<Entrance, Error> {
        if self.account.is_none() {
            return Ok(Entrance {
                path: path.to_owned(),
                descriptor: None,
            });
        }
        let opened = File::open(path).map_err(Error::file("cannot open", path))?;
        Ok(Entrance {
            path: PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd())),
            descriptor: Some(opened.into()),
        })
    }

    /// Makes a directory the server's user's, closed to all others.
    fn own(&self, path: &Path) -> Result<(), Error> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            // A short one is in a place where anybody may have made it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return self.is_ours(path);
            }
            Err(error) => return Err(Error::file("cannot make", path)(error)),
        }
        let Some(account) = self.account else {
            return Ok(());
        };
        chown(path, Some(account.uid), Some(account.gid)).map_err(Error::file("cannot give", path))
    }

    fn is_ours(&self, path: &Path) -> Result<(), Error> {
        let found = fs::symlink_metadata(path).map_err(Error::file("cannot read", path))?;
        let user = self
            .account
            .map_or(rustix::process::geteuid().as_raw(), |account| account.uid);
        if found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0 {
            return Ok(());
        }
        Err(Error::NotOurs(path.to_owned()))
    }
}

/// Removes what a killed process has left of a server in a directory of its own.
/// One that is locked, or has only just been made, is somebody's.
pub(super) fn remove_abandoned(parent: &Path, prefix: &str) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries {
        let ours = entry.file_name().to_string_lossy().starts_with(prefix)
            && entry
                .metadata()
                .is_ok_and(|m| m.is_dir() && m.uid() == rustix::process::geteuid().as_raw());
        let path = entry.path();
        if ours && is_abandoned(&path.join("lock")) {
            // Whoever comes next tries again.
            let _removed = fs::remove_dir_all(path);
        }
    }
}

/// Between making its directory and locking it, a process needs moments.
fn is_abandoned(lock: &Path) -> bool {
    let file = File::options().read(true).write(true).open(lock);
    let age = fs::metadata(lock).and_then(|m| m.modified());
    let age = age.ok().and_then(|at| at.elapsed().ok());
    let old = age.is_some_and(|age| age > Duration::from_secs(60));
    old && file.is_ok_and(|file| file.try_lock().is_ok())
}

fn lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join("lock");
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    let mut file = options
        .open(&path)
        .map_err(Error::file("cannot open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Error::InUse {
                directory: directory.to_owned(),
                pid: fs::read_to_string(&path).unwrap_or_default(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(Error::file("cannot lock", &path)(error)),
    }
    let written = file
        .set_len(0)
        .and_then(|()| write!(file, "{}", std::process::id()));
    written.map_err(Error::file("cannot write", &path))?;
    Ok(file)
}

/// The user of a server started here; none when we are not root and it is us.
fn account(data: &Path) -> Result<Option<Account>, Error> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    // Whoever the data was made for, also when that was not root's choice.
    if let Ok(found) = fs::metadata(data)
        && found.uid() != 0
    {
        return Ok(Some(Account {
            uid: found.uid(),
            gid: found.gid(),
        }));
    }
    let users = fs::read_to_string("/etc/passwd");
    let users = users.map_err(Error::file("cannot read", Path::new("/etc/passwd")))?;
    let found = ["postgres", "nobody"].iter();
    let found = found.filter_map(|name| user(&users, name)).next();
    found.map(Some).ok_or(Error::NoUser)
}

/// passwd(5): name, password, uid, gid, and more.
fn user(users: &str, name: &str) -> Option<Account> {
    let fields = users.lines().map(|line| line.split(':'));
    let mut fields = fields
        .into_iter()
        .find(|f| f.clone().next() == Some(name))?;
    let uid = fields.nth(2)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Account { uid, gid })
}

/// The same for the same `directory`, so that an address outlives a restart.
fn short_directory(directory: &Path) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    directory.as_os_str().as_bytes().hash(&mut hasher);
    let name = format!("tidegate-{:016x}", hasher.finish());
    // root's runtime directory is closed to the server's user.
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let ours = |path: &PathBuf| {
        !rustix::process::geteuid().is_root()
            && path.is_absolute()
            && path.join(&name).join(SOCKET_NAME).as_os_str().len() <= SOCKET_PATH_LIMIT
            && fs::metadata(path)
                .is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw())
    };
    let parent = runtime.filter(ours);
    parent.unwrap_or_else(|| PathBuf::from("/tmp")).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read_from_passwd() {
        let users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\n";
        let expected = Account {
            uid: 65534,
            gid: 65533,
        };
        assert_eq!(user(users, "nobody"), Some(expected));
        assert_eq!(user(users, "postgres"), None);
        assert_eq!(user("postgres:x", "postgres"), None);
    }

    #[test]
    fn a_directory_in_use_is_refused_with_the_process_that_uses_it() {
        let directory = tempfile::tempdir().unwrap();
        let _held = Home::open(directory.path()).unwrap();
        let text = Home::open(directory.path()).unwrap_err().to_string();
        let pid = std::process::id().to_string();
        assert!(text.contains(&pid), "{text}");
    }

    #[test]
    fn what_a_killed_process_left_goes_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(120);
        for name in ["x-left", "x-new", "x-unlocked", "other"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        for name in ["x-left", "x-new", "other"] {
            let file = File::create(parent.path().join(name).join("lock")).unwrap();
            if name != "x-new" {
                file.set_modified(long_ago).unwrap();
            }
        }
        let held = Home::open(&parent.path().join("x-held")).unwrap();
        held._lock.set_modified(long_ago).unwrap();
        remove_abandoned(parent.path(), "x-");
        let left = fs::read_dir(parent.path()).unwrap().flatten();
        let mut left: Vec<_> = left.map(|e| e.file_name().into_string().unwrap()).collect();
        left.sort_unstable();
        assert_eq!(left, ["other", "x-held", "x-new", "x-unlocked"]);
    }

    #[test]
    fn a_long_path_gets_a_short_socket_that_stays_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("d".repeat(100));
        let first = Home::open(&long).unwrap().socket().to_owned();
        assert!(first.join(SOCKET_NAME).as_os_str().len() <= SOCKET_PATH_LIMIT);
        let mode = fs::metadata(&first).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(Home::open(&long).unwrap().socket(), first);
        fs::remove_dir(&first).unwrap();
        // Somebody else has made it meanwhile.
        std::os::unix::fs::symlink(directory.path(), &first).unwrap();
        let text = Home::open(&long).unwrap_err().to_string();
        fs::remove_file(&first).unwrap();
        assert!(text.contains(&first.display().to_string()), "{text}");
    }
}
