//! HAProxy and nginx as they are installed, to run beside the agent: what they read of
//! our headers, and find out about the same backends, is nobody's opinion but theirs.
//! They stay in the foreground, and end with their test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::child::{Child, Extras};
use crate::{until, within};

/// A running HAProxy; killed when dropped.
pub struct Haproxy {
    child: Child,
    socket: PathBuf,
}

/// CHK_ST_INPROGRESS of HAProxy's `check-t.h`.
const IN_PROGRESS: u32 = 1;

/// What HAProxy says of a server (`show servers state`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// As its `server` line calls it.
    pub name: String,
    /// Its counter of checks: 0 after a failed one when it is down, and
    /// `rise + fall - 1` after a passed one when it is up.
    pub check_health: u32,
    /// Whether a check is under way.
    pub is_checked: bool,
}

impl Haproxy {
    /// Starts one with these sections, and waits until it serves. It logs to its
    /// output where `log global` is written, a line each, as raw text.
    pub async fn serve(directory: &Path, sections: &str) -> Self {
        let socket = directory.join("haproxy.sock");
        let file = directory.join("haproxy.cfg");
        let text = format!(
            "global
    nbthread 1
    log stdout format raw local0
    stats socket {} level admin
defaults
    mode tcp
    log global
    timeout client 1m
    timeout server 1m
{sections}",
            socket.display()
        );
        fs::write(&file, text).expect("the test's directory can be written");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        let child = start("haproxy", command);
        let haproxy = Self { child, socket };
        // Whatever it binds, it has bound when it answers here.
        until("haproxy answers", async || haproxy.answers().await).await;
        haproxy
    }

    async fn answers(&self) -> bool {
        UnixStream::connect(&self.socket).await.is_ok()
    }

    /// What it has written.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// The servers of a backend, in the order written.
    pub async fn servers(&self, backend: &str) -> Vec<Server> {
        let text = self.ask(&format!("show servers state {backend}")).await;
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        assert_eq!(lines.next(), Some("1"), "the format's version: {text}");
        let names = lines.next().and_then(|line| line.strip_prefix("# "));
        let names: Vec<&str> = names.unwrap_or_default().split(' ').collect();
        let field = |row: &[&str], name: &str| {
            let place = names.iter().position(|n| *n == name);
            let found = place.and_then(|place| row.get(place).copied());
            found
                .unwrap_or_else(|| panic!("no {name}: {text}"))
                .to_owned()
        };
        let rows = lines.map(|line| {
            let row: Vec<&str> = line.split(' ').collect();
            let state: u32 = field(&row, "srv_check_state").parse().expect("a number");
            Server {
                name: field(&row, "srv_name"),
                is_checked: state & IN_PROGRESS != 0,
                check_health: field(&row, "srv_check_health").parse().expect("a number"),
            }
        });
        rows.collect()
    }

    async fn ask(&self, command: &str) -> String {
        within(command, async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            stream.write_all(format!("{command}\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.map(|_| answer)
        })
        .await
        .expect("haproxy answers")
    }
}

/// A running nginx; killed when dropped.
pub struct Nginx {
    _child: Child,
}

impl Nginx {
    /// Starts one with these `http` and `stream` blocks, and waits until it serves.
    pub async fn serve(directory: &Path, blocks: &str) -> Self {
        let directory = directory.join("nginx");
        fs::create_dir_all(&directory).expect("the test's directory can be written");
        let file = directory.join("nginx.conf");
        let text = format!(
            "{}
daemon off;
master_process off;
pid nginx.pid;
error_log stderr notice;
events {{ }}
{blocks}",
            stream_module()
        );
        fs::write(&file, text).expect("the test's directory can be written");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&directory).arg("-c").arg(&file);
        command.args(["-e", "stderr"]);
        let child = start("nginx", command);
        // Said after all is bound, and before the first connection is taken.
        let is_up = |line: &str| line.contains("getrlimit(RLIMIT_NOFILE)").then_some(());
        child.find("its limits", 0, is_up).await;
        Self { _child: child }
    }
}

/// Debian has it apart.
fn stream_module() -> &'static str {
    const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if Path::new(MODULE).exists() {
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;"
    } else {
        ""
    }
}

fn start(name: &str, command: Command) -> Child {
    Child::spawn(name, command, Extras::default())
        .unwrap_or_else(|error| panic!("cannot start {name} ({error}): run `scripts/setup`"))
}
