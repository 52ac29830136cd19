//! The systems that are compared. A [`Stack`] is a chain of programs, the one that
//! clients meet first; [`Stack::start`] writes their configuration, starts them from
//! the app forwards, and gives a [`Running`] stack.
//!
//! To add a program: a type in a file of its own that is a [`Layer`], and its name in
//! a scenario. All keep no access log, since not all would keep the same.

mod apache;
mod haproxy;
mod hitch;
mod nginx;
mod node;
mod openssl;
mod tidegate;

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Resource, getrlimit, kill_process_group};
use thiserror::Error;
use tidegate_local::child::{Child, Signal, Start};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

pub use apache::Apache;
pub use haproxy::{Haproxy, HaproxyTuning};
pub use hitch::Hitch;
pub use nginx::{Nginx, NginxFiles};
pub use node::{HttpProxy, Node};
pub use openssl::Tickets;
pub use tidegate::{Balancer, Terminator};

use crate::load::backend::Backend;
use crate::stage::{Certificate, CertificateKind, Stage, find_program};

/// How long a program may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(15);

/// One program of a chain.
pub trait Layer {
    /// What its processes are called in accounts: "haproxy".
    fn name(&self) -> &'static str;

    /// Whether it speaks TLS with who connects to it.
    fn ends_tls(&self) -> bool;

    /// Writes its configuration below `site.directory`, and says how to start it, in the
    /// foreground.
    ///
    /// # Errors
    /// When it is not installed, or cannot do what is asked.
    fn command(&self, site: &Site) -> Result<Command, Trouble>;

    /// Whether it tells who comes after it about the client, in a PROXY v2 header.
    fn sends_proxy_v2(&self) -> bool {
        false
    }

    /// The user and group it is started as, when that is not ours.
    fn user(&self) -> Option<(u32, u32)> {
        None
    }
}

/// Bytes as they come, or HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bytes.
    Tcp,
    /// Requests.
    Http,
}

/// How every program of a stack is run.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Threads or worker processes, where a program has a choice.
    pub workers: usize,
    /// The one processor it may use; any when absent.
    pub processor: Option<usize>,
    /// The one that our backend uses; any when absent.
    pub load_processor: Option<usize>,
    /// What it shows to TLS clients.
    pub certificate: CertificateKind,
    /// What it gives to TLS clients.
    pub tickets: Tickets,
}

/// The place of one program.
pub struct Site<'a> {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it connects to; nothing for an app.
    pub upstream: Option<SocketAddr>,
    /// Its own folder.
    pub directory: PathBuf,
    /// How it is run.
    pub conditions: Conditions,
    /// What is around.
    pub stage: &'a Stage,
}

impl Site<'_> {
    /// Where it connects to.
    ///
    /// # Errors
    /// When it was put at the end of a chain.
    pub fn upstream(&self) -> Result<SocketAddr, Trouble> {
        self.upstream
            .ok_or_else(|| Trouble::broken("a proxy needs something behind it"))
    }

    /// What it shows to TLS clients.
    pub fn certificate(&self) -> &Certificate {
        self.stage.certificate(self.conditions.certificate)
    }

    /// Writes a file into its folder.
    ///
    /// # Errors
    /// When that fails.
    pub fn write(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let file = self.directory.join(name);
        fs::write(&file, content)?;
        Ok(file)
    }
}

/// Why there is no figure.
#[derive(Debug, Error)]
pub enum Trouble {
    /// The system cannot do this, which is no failure.
    #[error("{0}")]
    Absent(String),
    /// It answered something else than it should have.
    #[error("wrong answer: {0}")]
    Wrong(String),
    /// It did not answer, or ended.
    #[error("{0}")]
    Broken(String),
}

impl Trouble {
    /// It did not answer, and why.
    pub fn broken(why: impl ToString) -> Self {
        Self::Broken(why.to_string())
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// How many connections a proxy can have at once with the descriptors it may have:
/// two each, and some of its own.
fn connection_limit() -> u64 {
    let descriptors = getrlimit(Resource::Nofile)
        .current
        .unwrap_or(20_000)
        .min(20_000);
    descriptors.saturating_sub(200) / 2
}

/// The command of an installed program.
///
/// # Errors
/// When it is not installed.
pub fn installed(name: &str) -> Result<Command, Trouble> {
    let missing = || Trouble::Absent(format!("{name} is not installed: scripts/setup bench"));
    Ok(Command::new(find_program(name).ok_or_else(missing)?))
}

/// A chain of programs. Empty, with our backend at its end, it is no chain at all:
/// clients talk to the backend.
#[derive(Clone)]
pub struct Stack {
    /// From the clients on.
    pub layers: Vec<Arc<dyn Layer>>,
    /// What the last one connects to.
    pub end: End,
}

/// What a chain ends at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Our backend, in this process.
    Backend {
        /// Whether each connection begins with a PROXY v2 header.
        proxied: bool,
    },
    /// The last layer, an app.
    App,
}

impl Stack {
    /// `layers` before our backend.
    pub fn before_backend(layers: Vec<Arc<dyn Layer>>) -> Self {
        Self {
            layers,
            end: End::Backend { proxied: false },
        }
    }

    /// Layers of which the last is the app.
    pub fn with_app(layers: Vec<Arc<dyn Layer>>) -> Self {
        Self {
            layers,
            end: End::App,
        }
    }

    /// Whether clients speak TLS to it.
    pub fn tls(&self) -> bool {
        self.layers.iter().any(|layer| layer.ends_tls())
    }

    /// Starts every program, the last one first, each when the one behind it accepts
    /// connections: a check that finds nobody would keep a proxy from it for a while.
    ///
    /// # Errors
    /// When one cannot be started; those before it are stopped.
    pub async fn start(&self, stage: &Stage, conditions: Conditions) -> Result<Running, Trouble> {
        let (backend, mut upstream) = match self.end {
            End::App => (None, None),
            End::Backend { proxied } => {
                let listen = stage.free_address()?;
                let backend =
                    Backend::start(listen, proxied, conditions.load_processor, stage.block())?;
                (Some(backend), Some(listen))
            }
        };
        let mut programs = Vec::new();
        for layer in self.layers.iter().rev() {
            let listen = stage.free_address()?;
            let directory = stage.folder(layer.name())?;
            let site = Site {
                listen,
                upstream,
                directory,
                conditions,
                stage,
            };
            let program = Program::start(layer.as_ref(), &site)?;
            program.accepts(listen).await?;
            programs.push(program);
            upstream = Some(listen);
        }
        let address = upstream.ok_or_else(|| Trouble::broken("a stack of nothing"))?;
        // Clients' side first: it is stopped first, and named first in accounts.
        programs.reverse();
        Ok(Running {
            address,
            tls: self.tls(),
            programs,
            _backend: backend,
        })
    }
}

/// A stack that runs; stopped when dropped.
pub struct Running {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Whether they speak TLS.
    pub tls: bool,
    programs: Vec<Program>,
    _backend: Option<Backend>,
}

impl Running {
    /// Its programs, by name and process number.
    pub fn programs(&self) -> Vec<(&'static str, u32)> {
        self.programs
            .iter()
            .map(|program| (program.name, program.child.pid()))
            .collect()
    }

    /// Its process numbers.
    pub fn pids(&self) -> Vec<u32> {
        self.programs
            .iter()
            .map(|program| program.child.pid())
            .collect()
    }

    /// Why it does not answer, when one of its programs has ended.
    pub fn ended(&self) -> Option<String> {
        let program = self.programs.iter().find(|program| program.has_ended())?;
        Some(format!("{} has ended", program.name))
    }

    /// What its programs said last, for whoever looks into a failure.
    pub fn last_words(&self) -> String {
        let said = self
            .programs
            .iter()
            .map(|program| format!("{} says: {}", program.name, program.last_words()));
        said.collect::<Vec<_>>().join("; ")
    }
}

/// What a program says, in its folder.
const LOG: &str = "output";

struct Program {
    name: &'static str,
    child: Child,
    /// Removed with it.
    directory: PathBuf,
}

impl Program {
    fn start(layer: &dyn Layer, site: &Site) -> Result<Self, Trouble> {
        let command = pinned(layer.command(site)?, site.conditions.processor);
        let command = logged(command, &site.directory)?;
        // TERM and not KILL: a master must get to stop its workers.
        let mut start = Start::new(command).on_our_end(Signal::TERM);
        if let Some((uid, gid)) = layer.user() {
            std::os::unix::fs::chown(&site.directory, Some(uid), Some(gid))?;
            start = start.as_user(uid, gid);
        }
        let child = start.spawn()?;
        Ok(Self {
            name: layer.name(),
            child,
            directory: site.directory.clone(),
        })
    }

    /// Waits until somebody can connect.
    async fn accepts(&self, address: SocketAddr) -> Result<(), Trouble> {
        let deadline = Instant::now() + START_LIMIT;
        while let Err(error) = TcpStream::connect(address).await {
            if self.has_ended() {
                let why = format!("{} has ended: {}", self.name, self.last_words());
                return Err(Trouble::Broken(why));
            }
            if Instant::now() > deadline {
                return Err(Trouble::broken(format!(
                    "{} does not listen: {error}",
                    self.name
                )));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    fn has_ended(&self) -> bool {
        self.child.ends_within(Duration::ZERO)
    }

    fn last_words(&self) -> String {
        let said = fs::read_to_string(self.directory.join(LOG)).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let last = lines
            .get(lines.len().saturating_sub(3)..)
            .unwrap_or_default();
        if last.is_empty() {
            "nothing".to_owned()
        } else {
            last.join(" | ")
        }
    }
}

fn logged(mut command: Command, directory: &Path) -> io::Result<Command> {
    let output = File::create(directory.join(LOG))?;
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    Ok(command)
}

/// The same command, bound to one processor: taskset(1) replaces itself by it.
fn pinned(command: Command, processor: Option<usize>) -> Command {
    let Some(processor) = processor else {
        return command;
    };
    let mut pinned = Command::new("taskset");
    pinned
        .args(["-c", &processor.to_string()])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => pinned.env(name, value),
            None => pinned.env_remove(name),
        };
    }
    pinned
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended = self.child.signal(Signal::TERM);
        if !self.child.ends_within(Duration::from_secs(3)) {
            // Its group: workers must not outlive their master.
            let group = i32::try_from(self.child.pid()).ok().and_then(Pid::from_raw);
            let _gone = group.map(|group| kill_process_group(group, Signal::KILL));
        }
        let _all_goes_with_the_stage = fs::remove_dir_all(&self.directory);
    }
}
