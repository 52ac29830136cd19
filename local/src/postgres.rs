//! A private Postgres: a child of ours on a unix socket of ours, no TCP, its data
//! kept in a directory of ours for the next time. Works as root, whose server runs
//! as another user, and as anybody.
//!
//! [`Server::start`] does all that is needed; `binaries` finds the programs, `home`
//! is the directory. For dev mode and [`crate::databases`].

mod binaries;
mod home;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

pub use binaries::{Binaries, Missing};

use crate::child::{Child, Signal, Start};
use home::Home;

/// The superuser of a private server. Whoever may enter the socket's directory is it.
const USER: &str = "tidegate";

/// How long a start is tried while what is left of a killed server goes away.
const LEFTOVERS: Duration = Duration::from_secs(10);

/// How long a server may take to answer. Recovery after a crash is in it.
const START: Duration = Duration::from_secs(60);

/// How long it may take to stop.
const STOP: Duration = Duration::from_secs(30);

/// Why there is no server.
#[derive(Debug, Error)]
pub enum Error {
    /// Not installed.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// Somebody runs one there.
    #[error("{} is in use by process {pid}: stop it, or name another directory", .directory.display())]
    InUse {
        /// The server's directory.
        directory: PathBuf,
        /// Who has locked it.
        pid: String,
    },
    /// We are root, and there is nobody to become.
    #[error("Postgres does not run as root, and there is no user `postgres` or `nobody`: add one")]
    NoUser,
    /// The directory of the socket is somebody else's.
    #[error("{} is not a directory closed to others: remove it", .0.display())]
    NotOurs(PathBuf),
    /// The data was made by another release.
    #[error(
        "{} was made by PostgreSQL {made_by}, and this is {found}: remove it (its data is lost), \
         or name the directory of {made_by}'s programs in TIDEGATE_PG_BIN", .data.display()
    )]
    OtherRelease {
        /// The data.
        data: PathBuf,
        /// Its release.
        made_by: String,
        /// Ours.
        found: u32,
    },
    /// A program that ended too early.
    #[error("{program} ended ({status}):\n{said}")]
    Ended {
        /// initdb or postgres.
        program: &'static str,
        /// How.
        status: ExitStatus,
        /// The end of its log.
        said: String,
    },
    /// It runs and does not answer.
    #[error("Postgres does not answer after {} s; its log is {}", START.as_secs(), .log.display())]
    Slow {
        /// What it says.
        log: PathBuf,
    },
    /// A file or directory.
    #[error("{action} {}", .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A process.
    #[error("cannot run {program}")]
    Process {
        /// Which program.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    fn process(program: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Process { program, source }
    }
}

/// What a crash of the machine may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing.
    Safe,
    /// Everything: for tests.
    Fast,
}

/// What directories of servers that are not kept begin with.
const TEMPORARY: &str = "tidegate-postgres-";

/// A directory for a server that is not kept; it goes when dropped. Those that killed
/// processes could not remove go now.
///
/// # Errors
/// When there is no room for one.
pub fn temporary_directory() -> io::Result<TempDir> {
    home::remove_abandoned(&std::env::temp_dir(), TEMPORARY);
    TempDir::with_prefix(TEMPORARY)
}

/// A running server. Dropped, it is stopped at once, with nothing lost.
#[derive(Debug)]
pub struct Server {
    process: Child,
    home: Home,
}

impl Server {
    /// Starts one with its data in `directory`, which is made when missing.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn start(directory: &Path, durability: Durability) -> Result<Self, Error> {
        let home = Home::open(directory)?;
        let binaries = Binaries::find()?;
        if home.data().exists() {
            is_of_our_release(&home, &binaries)?;
        } else {
            make_data(&home, &binaries, durability).await?;
        }
        let process = launch(&home, &binaries, durability).await?;
        Ok(Self { process, home })
    }

    /// The address of one of its databases; `postgres` always exists.
    pub fn url(&self, database: &str) -> String {
        url(&self.home, database)
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where its log is.
    pub fn log(&self) -> PathBuf {
        self.home.log_path()
    }

    /// Waits until it has ended, which it does not do by itself.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.process.ended().await
    }

    /// Stops it in order: connections are cut, what they committed is written.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn stop(mut self) -> io::Result<()> {
        self.process.signal(Signal::INT)?;
        match timeout(STOP, self.process.ended()).await {
            Ok(ended) => ended.map(drop),
            // `Drop` is less patient.
            Err(_) => Ok(()),
        }
    }

    /// `kill -9`, and waits for its end: for tests.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn kill(mut self) -> io::Result<()> {
        self.process.signal(Signal::KILL)?;
        self.process.ended().await.map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Also takes its shared memory back, which nobody does after SIGKILL. The
        // next start repeats what its log of writes holds.
        if self.process.signal(Signal::QUIT).is_ok() {
            self.process.ends_within(Duration::from_secs(5));
        }
    }
}

fn is_of_our_release(home: &Home, binaries: &Binaries) -> Result<(), Error> {
    let path = home.data().join("PG_VERSION");
    let made_by = std::fs::read_to_string(&path).map_err(Error::file("cannot read", &path))?;
    let made_by = made_by.trim().to_owned();
    if made_by == binaries.major().to_string() {
        return Ok(());
    }
    Err(Error::OtherRelease {
        data: home.data(),
        made_by,
        found: binaries.major(),
    })
}

/// Under another name until it is whole: a killed initdb leaves nothing that looks
/// like data.
async fn make_data(home: &Home, binaries: &Binaries, durability: Durability) -> Result<(), Error> {
    let new = home.new_data()?;
    let entrance = home.entrance(&new)?;
    let mut command = Command::new(binaries.program("initdb"));
    command.arg("--pgdata").arg(&entrance.path);
    command.args(["--username", USER, "--auth", "trust"]);
    command.args(["--encoding", "UTF8", "--locale", "C"]);
    if durability == Durability::Fast {
        command.arg("--no-sync");
    }
    let start = prepared(home, command)?.inheriting(entrance.descriptor);
    let mut process = start.spawn().map_err(Error::process("initdb"))?;
    let status = process.ended().await.map_err(Error::process("initdb"))?;
    if !status.success() {
        return Err(Error::Ended {
            program: "initdb",
            status,
            said: home.last_words(),
        });
    }
    let data = home.data();
    std::fs::rename(&new, &data).map_err(Error::file("cannot make", &data))
}

/// Starts the server and waits until it answers.
async fn launch(home: &Home, binaries: &Binaries, durability: Durability) -> Result<Child, Error> {
    let give_up = Instant::now() + LEFTOVERS;
    loop {
        let mut process = spawn(home, binaries, durability)?;
        let early = tokio::select! {
            ended = process.ended() => ended.map_err(Error::process("postgres"))?,
            () = answers(home) => return Ok(process),
            () = sleep(START) => return Err(Error::Slow { log: home.log_path() }),
        };
        // It removes its own file when it ends: this one is of a killed server,
        // whose last processes are about to notice.
        let has_leftovers = home.data().join("postmaster.pid").exists();
        if !has_leftovers || Instant::now() > give_up {
            return Err(Error::Ended {
                program: "postgres",
                status: early,
                said: home.last_words(),
            });
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn spawn(home: &Home, binaries: &Binaries, durability: Durability) -> Result<Child, Error> {
    let data = home.entrance(&home.data())?;
    let socket = home.entrance(home.socket())?;
    let mut command = Command::new(binaries.program("postgres"));
    command.arg("-D").arg(&data.path).args(["-p", "5432"]);
    // A list of paths, where quotes keep commas and spaces.
    let quoted = socket.path.to_string_lossy().replace('"', "\"\"");
    let directories = format!("unix_socket_directories=\"{quoted}\"");
    let mut settings = vec![
        directories.as_str(),
        "unix_socket_permissions=0700",
        "listen_addresses=",
        "max_connections=300",
        "wal_level=minimal",
        "max_wal_senders=0",
        "log_checkpoints=off",
    ];
    if durability == Durability::Fast {
        settings.extend([
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "autovacuum=off",
            "shared_buffers=32MB",
        ]);
    }
    for setting in settings {
        command.args(["-c", setting]);
    }
    // SIGINT: it cuts its connections and ends in order.
    let start = prepared(home, command)?
        .on_our_end(Signal::INT)
        .inheriting([data.descriptor, socket.descriptor].into_iter().flatten());
    start.spawn().map_err(Error::process("postgres"))
}

/// What both programs are started with: no environment but ours, the log, the user.
fn prepared(home: &Home, mut command: Command) -> Result<Start, Error> {
    let log = home.log()?;
    let again = log.try_clone();
    let again = again.map_err(Error::file("cannot write", &home.log_path()))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("LC_ALL", "C");
    command.current_dir("/");
    command.stdin(Stdio::null()).stdout(log).stderr(again);
    let start = Start::new(command);
    Ok(match home.account() {
        Some(account) => start.as_user(account.uid, account.gid),
        None => start,
    })
}

/// Returns when the server takes a connection.
async fn answers(home: &Home) {
    let url = url(home, "postgres");
    while !matches!(
        timeout(Duration::from_secs(5), PgConnection::connect(&url)).await,
        Ok(Ok(_))
    ) {
        sleep(Duration::from_millis(20)).await;
    }
}

fn url(home: &Home, database: &str) -> String {
    let socket = percent_encoded(home.socket().as_os_str().as_encoded_bytes());
    format!("postgres:///{database}?host={socket}&port=5432&user={USER}")
}

fn percent_encoded(bytes: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let encoded = bytes.iter().map(|&byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    encoded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_any_letters_is_one_value_of_an_address() {
        assert_eq!(percent_encoded(b"/a b/c&d%"), "/a%20b/c%26d%25");
        assert_eq!(percent_encoded("/ä".as_bytes()), "/%C3%A4");
    }

    #[tokio::test]
    async fn data_of_another_release_is_refused_with_both_numbers() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("data")).unwrap();
        std::fs::write(directory.path().join("data/PG_VERSION"), "9\n").unwrap();
        let started = Server::start(directory.path(), Durability::Fast).await;
        let text = started.unwrap_err().to_string();
        assert!(text.contains("PostgreSQL 9"), "{text}");
    }
}
