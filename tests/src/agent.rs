//! The real `tidegate-agent`, standalone or in a fleet: started as a user would, told
//! by signals, asked on its admin socket and health port, and understood by its log.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

use crate::child::{Child, Extras, Signal};
use crate::client::http::{Answer, get};
use crate::metrics::Metrics;
use crate::proc;

pub use crate::event::Event;

/// Where the agent's health port is unless told otherwise.
const HEALTH_PORT: u16 = 7445;

/// How an agent is started.
pub struct Start {
    /// Where its document is, when it runs one by itself.
    document: Option<PathBuf>,
    address: IpAddr,
    state_dir: PathBuf,
    name: String,
    capabilities: Option<String>,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    extras: Extras,
}

impl Start {
    /// An agent at `address` that runs `document` with its state in `state_dir`.
    pub fn new(document: &Path, address: IpAddr, state_dir: &Path) -> Self {
        let mut start = Self::command("standalone", address, state_dir);
        start.document = Some(document.to_owned());
        start.with("--config", document.display())
    }

    /// An agent at `address` that does what a control plane wants of it.
    pub fn run(control_planes: &[SocketAddr], address: IpAddr, state_dir: &Path) -> Self {
        let start = Self::command("run", address, state_dir);
        let dial = |start: Self, at: &SocketAddr| start.with("--control-plane", at);
        control_planes.iter().fold(start, dial)
    }

    fn command(name: &str, address: IpAddr, state_dir: &Path) -> Self {
        let start = Self {
            document: None,
            address,
            state_dir: state_dir.to_owned(),
            name: format!("agent {address}"),
            capabilities: None,
            arguments: vec![name.into()],
            environment: Vec::new(),
            extras: Extras::default(),
        };
        start
            .with("--address", address)
            .with("--state-dir", state_dir.display())
    }

    /// What it is called in messages.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// An option with its value.
    #[must_use]
    pub fn with(mut self, option: &str, value: impl Display) -> Self {
        self.arguments
            .extend([option.into(), value.to_string().into()]);
        self
    }

    /// A variable in its environment.
    #[must_use]
    pub fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// The only capabilities it has, as `+net_raw,+net_bind_service`; none when empty.
    #[must_use]
    pub fn capabilities(mut self, only: &str) -> Self {
        self.capabilities = Some(format!("-all,{only}").trim_end_matches(',').to_owned());
        self
    }

    /// How many descriptors it may have.
    #[must_use]
    pub fn max_files(mut self, count: u64) -> Self {
        self.extras.max_files = Some(count);
        self
    }

    /// Copies its log to a file.
    #[must_use]
    pub fn log_to(mut self, file: File) -> Self {
        self.extras.copy_to = Some(file);
        self
    }

    /// Starts it and does not wait for anything.
    pub fn spawn(self) -> Agent {
        let mut command = match &self.capabilities {
            None => Command::new(program("tidegate-agent")),
            Some(only) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--bounding-set={only}"));
                command.arg(format!("--inh-caps={only}"));
                command.arg(program("tidegate-agent"));
                command
            }
        };
        command.args(&self.arguments).envs(self.environment);
        let child = Child::spawn(&self.name, command, self.extras)
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.name));
        Agent {
            child,
            document: self.document,
            admin: self.state_dir.join("admin.sock"),
            health: SocketAddr::new(self.address, HEALTH_PORT),
        }
    }

    /// Starts it and waits until it serves.
    pub async fn serve(self) -> Agent {
        let agent = self.spawn();
        agent
            .await_log("serving", 0, |event| event.message() == "serving")
            .await;
        agent
    }
}

/// A program of this workspace, found beside the one that runs.
///
/// # Panics
/// When it was not built, with the line that builds it.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    // Tests are in `deps`, programs one directory above.
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|p| p.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "no {name} beside {}: run `cargo build --workspace --bins`",
            own.display()
        )
    })
}

/// A running agent; killed when dropped.
pub struct Agent {
    child: Child,
    document: Option<PathBuf>,
    admin: PathBuf,
    health: SocketAddr,
}

impl Agent {
    /// Its process, for signals, its end, and `/proc`.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// `kill -9`, and waits until it has ended.
    pub async fn kill(&mut self) {
        self.child.signal(Signal::KILL);
        self.child.exit_code().await;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// How many lines it has logged: a place to look on from later.
    pub fn log_len(&self) -> usize {
        self.child.lines().count()
    }

    /// The events it has logged from line `from` on.
    pub fn events_since(&self, from: usize) -> Vec<Event> {
        let lines = self.child.lines().since(from);
        lines.iter().filter_map(|line| Event::parse(line)).collect()
    }

    /// All it has written, as text.
    pub fn log_text(&self) -> String {
        self.child.lines().since(0).join("\n")
    }

    /// Waits for the first event from line `from` on that `wanted` takes.
    pub async fn await_log(
        &self,
        what: &str,
        from: usize,
        wanted: impl FnMut(&Event) -> bool,
    ) -> Event {
        self.child.event(what, from, wanted).await
    }

    /// Waits for the end of a connection that `wanted` takes.
    pub async fn await_closed(&self, from: usize, wanted: impl Fn(&Event) -> bool) -> Event {
        let is_closed = |event: &Event| event.is_closed() && wanted(event);
        self.await_log("the end of a connection", from, is_closed)
            .await
    }

    /// The connections that have ended, from line `from` on, as logged.
    pub fn closed_since(&self, from: usize) -> Vec<Event> {
        let mut events = self.events_since(from);
        events.retain(Event::is_closed);
        events
    }

    /// Has it read its document again; the event that says what came of it.
    pub async fn reload(&self) -> Event {
        let from = self.log_len();
        self.signal(Signal::HUP);
        let outcomes = ["applied", "unchanged", "refused"];
        let wanted = |event: &Event| outcomes.contains(&event.message());
        self.await_log("an answer to SIGHUP", from, wanted).await
    }

    /// Writes a new document and has it applied.
    pub async fn apply(&self, document: &Value) -> Event {
        write_document(self.document(), document);
        let event = self.reload().await;
        assert_ne!(event.message(), "refused", "{event:?}");
        event
    }

    /// Writes a document and has it refused.
    pub async fn refuse(&self, document: &Value) -> Event {
        write_document(self.document(), document);
        let event = self.reload().await;
        assert_eq!(event.message(), "refused", "{event:?}");
        event
    }

    fn document(&self) -> &Path {
        let path = self.document.as_deref();
        path.expect("a fleet's document is with its control plane")
    }

    /// What the admin socket answers to a GET.
    pub async fn admin(&self, path: &str) -> Answer {
        let stream = UnixStream::connect(&self.admin)
            .await
            .expect("the admin socket listens");
        get(stream, "agent", path)
            .await
            .expect("the admin socket answers")
    }

    /// The JSON of an admin path.
    pub async fn debug(&self, path: &str) -> Value {
        let answer = self.admin(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// Its metrics.
    pub async fn metrics(&self) -> Metrics {
        Metrics::parse(&self.admin("/metrics").await.text())
    }

    /// The status its health port answers for a listener.
    pub async fn health(&self, listener: &str) -> u16 {
        let stream = TcpStream::connect(self.health)
            .await
            .expect("the health port listens");
        let path = format!("/health/{listener}");
        get(stream, "agent", &path)
            .await
            .expect("the health port answers")
            .status
            .as_u16()
    }

    /// Whether it holds a backend for up.
    pub async fn is_up(&self, pool: &str, backend: &str) -> bool {
        self.backend(pool, backend).await["up"] == true
    }

    /// A row of `/debug/backends`.
    pub async fn backend(&self, pool: &str, backend: &str) -> Value {
        let rows = self.debug("/debug/backends").await;
        let rows = rows.as_array().expect("a list");
        let row = rows
            .iter()
            .find(|row| row["pool"] == pool && row["backend"] == backend);
        row.unwrap_or_else(|| panic!("no {pool}/{backend} in {rows:?}"))
            .clone()
    }

    /// Descriptors it has open.
    pub fn descriptors(&self) -> usize {
        proc::descriptors(self.pid())
    }
}

/// Writes a document where an agent reads it; JSON is YAML.
pub fn write_document(path: &Path, document: &Value) {
    fs::write(path, format!("{document:#}")).expect("the test's directory can be written");
}
