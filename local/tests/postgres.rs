//! A private Postgres from outside: it comes back after every kind of end, leaves no
//! process, serves one owner at a time, and works for root and for anybody.
#![expect(
    clippy::unwrap_used,
    reason = "a test says what is wrong by a panic, also outside its own function"
)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tidegate_local::child::{Child, Signal, Start};
use tidegate_local::postgres::{Durability, Server};

/// Long, since it only passes when a test fails.
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_was_committed_is_there_after_a_stop_a_kill_and_a_drop() {
    let directory = TempDir::new().unwrap();
    let server = start(directory.path()).await;
    let url = server.url("postgres");
    execute(&url, "create table kept (n int)").await;
    execute(&url, "insert into kept values (1)").await;
    server.stop().await.unwrap();

    let server = start(directory.path()).await;
    execute(&url, "insert into kept values (2)").await;
    // With a connection in the middle of something.
    let mut busy = PgConnection::connect(&url).await.unwrap();
    let begin = sqlx::raw_sql("begin; insert into kept values (99)");
    begin.execute(&mut busy).await.unwrap();
    server.kill().await.unwrap();

    let server = start(directory.path()).await;
    execute(&url, "insert into kept values (3)").await;
    drop(server);
    let server = start(directory.path()).await;
    assert_eq!(
        server.url("postgres"),
        url,
        "the address outlives a restart"
    );
    assert_eq!(kept(&url).await, [1, 2, 3]);
}

#[tokio::test]
async fn data_that_is_not_whole_is_made_again() {
    let directory = TempDir::new().unwrap();
    // What a killed initdb leaves.
    fs::create_dir(directory.path().join("data.new")).unwrap();
    fs::write(directory.path().join("data.new/PG_VERSION"), "15").unwrap();
    let server = start(directory.path()).await;
    execute(&server.url("postgres"), "create table made (n int)").await;
    assert!(!directory.path().join("data.new").exists());
}

#[tokio::test]
async fn the_second_starter_of_a_directory_is_told_who_has_it() {
    let directory = TempDir::new().unwrap();
    let server = start(directory.path()).await;
    let second = Server::start(directory.path(), Durability::Fast).await;
    let text = second.unwrap_err().to_string();
    assert!(text.contains(&std::process::id().to_string()), "{text}");
    assert!(text.contains("name another directory"), "{text}");
    // The first has not noticed.
    execute(&server.url("postgres"), "create table ours (n int)").await;
}

#[tokio::test]
async fn nobody_else_may_enter_the_socket_and_nothing_listens_on_tcp() {
    let directory = TempDir::new().unwrap();
    let server = start(directory.path()).await;
    let socket = fs::metadata(directory.path().join("socket")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o700);
    let url = server.url("postgres");
    let listening = "select setting from pg_settings where name = 'listen_addresses'";
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let (addresses,): (String,) = sqlx::query_as(listening)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(addresses, "");
    // Postgres refuses to run as root: it is somebody else's process then.
    let process = fs::metadata(format!("/proc/{}", server.pid())).unwrap();
    assert_ne!(process.uid(), 0);
}

#[test]
fn kill_9_of_its_owner_ends_the_server_and_the_command() {
    let (owner, pids) = Owner::start("exec sleep 1000", None);
    owner.child.signal(Signal::KILL).unwrap();
    assert!(owner.child.ends_within(DEADLINE));
    for pid in pids {
        assert!(ended(&pid), "it outlives its owner");
    }
}

#[test]
fn a_command_has_a_migrated_database_and_its_end_is_told() {
    let script = "echo $DATABASE_URL $TIDEGATE_TEST_POSTGRES; exit 7";
    let (mut owner, pids) = Owner::start(script, None);
    let mut line = String::new();
    owner.output.read_line(&mut line).unwrap();
    let addresses: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(addresses.len(), 2, "{line}");
    assert_eq!(owner.code(), Some(7));
    assert!(pids.iter().all(ended));
    assert!(owner.directory.path().join("data").is_dir());
}

/// For root: everybody else is such a user in all other tests.
#[test]
fn a_user_without_rights_runs_one() {
    const NOBODY: u32 = 65534;
    if !geteuid().is_root() {
        return;
    }
    let (mut owner, pids) = Owner::start("exit 0", Some(NOBODY));
    assert_eq!(owner.code(), Some(0));
    assert!(pids.iter().all(ended));
    let data = fs::metadata(owner.directory.path().join("data")).unwrap();
    assert_eq!(data.uid(), NOBODY);
}

async fn start(directory: &Path) -> Server {
    Server::start(directory, Durability::Safe).await.unwrap()
}

async fn execute(url: &str, sql: &'static str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn kept(url: &str) -> Vec<i32> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let rows = sqlx::query_scalar("select n from kept order by n");
    rows.fetch_all(&mut connection).await.unwrap()
}

/// A `tidegate-postgres` that runs a script.
struct Owner {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    directory: TempDir,
}

impl Owner {
    /// Starts it, as that user; the processes it is waited for: the server, and the
    /// script, which says its number first and goes on when we know both: a short one
    /// would be over, and the server with it, before anybody could look.
    fn start(script: &str, uid: Option<u32>) -> (Self, [OwnedFd; 2]) {
        let directory = TempDir::new().unwrap();
        // A checkout may be closed to that user; an open file is not.
        let program = File::open(env!("CARGO_BIN_EXE_tidegate-postgres")).unwrap();
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        command
            .args(["run", "--migrated", "--data-dir"])
            .arg(directory.path());
        let script = format!(r#"echo $$; until [ -e "$1/go" ]; do sleep 0.01; done; {script}"#);
        command.args(["--", "sh", "-c", &script, "sh"]);
        command.arg(directory.path());
        command.current_dir("/").stdout(Stdio::piped());
        let mut start = Start::new(command).inheriting([program.into()]);
        if let Some(uid) = uid {
            chown(directory.path(), Some(uid), Some(uid)).unwrap();
            start = start.as_user(uid, uid);
        }
        let mut child = start.spawn().unwrap();
        let mut output = BufReader::new(child.stdout().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let file = directory.path().join("data/postmaster.pid");
        let postmaster = fs::read_to_string(file).unwrap();
        let pids = [postmaster.lines().next().unwrap(), line.trim()];
        let pids = pids.map(|pid| {
            let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
            pidfd_open(pid, PidfdFlags::empty()).unwrap()
        });
        fs::write(directory.path().join("go"), "").unwrap();
        let owner = Self {
            child,
            output,
            directory,
        };
        (owner, pids)
    }

    fn code(&mut self) -> Option<i32> {
        assert!(self.child.ends_within(DEADLINE));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        let status = runtime.unwrap().block_on(self.child.ended());
        status.unwrap().code()
    }
}

fn ended(process: &OwnedFd) -> bool {
    let limit = Timespec::try_from(DEADLINE).unwrap();
    let mut process = [PollFd::new(process, PollFlags::IN)];
    poll(&mut process, Some(&limit)).unwrap() > 0
}
