//! The real `tidegate serve` on a database: started, killed, started again, and two
//! of them beside each other.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::agent::program;
use crate::child::{Child, Extras, Signal};
use crate::client::Client;
use crate::event::Event;
use crate::pki;
use crate::rest::Rest;
use crate::wire::Link;

/// The name that REST clients of tests ask for.
const NAME: &str = "control-plane.localhost";

/// Where administrators connect from; any loopback address would do.
const ADMINISTRATOR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// How a control plane is started.
#[derive(Clone)]
pub struct Start {
    address: IpAddr,
    state_dir: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
}

impl Start {
    /// A control plane at `address`, on the usual ports, with its state in
    /// `state_dir` and its truth in the database at `url`.
    pub fn new(address: IpAddr, url: &str, state_dir: &Path) -> Self {
        let start = Self {
            address,
            state_dir: state_dir.to_owned(),
            arguments: vec!["serve".into()],
            environment: vec![("TIDEGATE_DATABASE_URL", url.into())],
        };
        start
            .with("--state-dir", state_dir.display())
            .with("--rest", SocketAddr::new(address, 7443))
            .with("--link", SocketAddr::new(address, 7444))
            .with("--name", NAME)
            .with("--report-interval", "200ms")
    }

    /// An option with its value, instead of the one it had.
    #[must_use]
    pub fn with(mut self, option: &str, value: impl Display) -> Self {
        let value = value.to_string().into();
        let mut arguments = self.arguments.iter();
        match arguments.position(|argument| argument == option) {
            Some(before) => self.arguments[before + 1] = value,
            None => self.arguments.extend([option.into(), value]),
        }
        self
    }

    /// A variable in its environment.
    #[must_use]
    pub fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Starts it and does not wait for anything.
    pub fn spawn(&self) -> Child {
        let mut command = Command::new(program("tidegate"));
        command.args(&self.arguments).envs(self.environment.clone());
        let name = format!("control plane {}", self.address);
        Child::spawn(&name, command, Extras::default())
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"))
    }

    /// Starts the first one of a database and waits until it serves; who asks it is
    /// its first administrator.
    pub async fn serve(&self) -> ControlPlane {
        let child = self.spawn();
        serving(&child).await;
        let token = self.read("admin.token");
        self.served_to(child, token.trim())
    }

    /// Starts one that shares its database with others, and waits until it serves;
    /// who asks it is the bearer of `token`.
    pub async fn serve_to(&self, token: &str) -> ControlPlane {
        let child = self.spawn();
        serving(&child).await;
        self.served_to(child, token)
    }

    fn served_to(&self, child: Child, token: &str) -> ControlPlane {
        let client = Client::new(ADMINISTRATOR, pki::trusting(&self.read("ca.pem")));
        let address = SocketAddr::new(self.address, 7443);
        ControlPlane {
            child,
            rest: Rest::new(address, NAME, client, token),
            token: token.to_owned(),
            start: self.clone(),
        }
    }

    fn read(&self, name: &str) -> String {
        let path = self.state_dir.join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

async fn serving(child: &Child) -> Event {
    child
        .event("serving", 0, |event| event.message() == "serving")
        .await
}

/// A running control plane; killed when dropped.
pub struct ControlPlane {
    /// Its REST API.
    pub rest: Rest,
    child: Child,
    token: String,
    start: Start,
}

impl ControlPlane {
    /// Where agents connect.
    pub fn link(&self) -> SocketAddr {
        SocketAddr::new(self.start.address, 7444)
    }

    /// Where REST and the dashboard are.
    pub fn rest_address(&self) -> SocketAddr {
        SocketAddr::new(self.start.address, 7443)
    }

    /// The same for a test that speaks for an agent.
    pub fn wire(&self) -> Link {
        Link::new(self.link(), &self.start.read("ca.pem"))
    }

    /// The token of its administrator.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Where its state is.
    pub fn state_dir(&self) -> &Path {
        &self.start.state_dir
    }

    /// Its process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// All it has written, as text.
    pub fn log_text(&self) -> String {
        self.child.lines().since(0).join("\n")
    }

    /// How many lines it has logged: a place to look on from later.
    pub fn log_len(&self) -> usize {
        self.child.lines().count()
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

    /// `kill -9`, and waits until it has ended.
    pub async fn kill(&mut self) {
        self.child.signal(Signal::KILL);
        self.child.exit_code().await;
    }

    /// Starts it again where it was, after it has ended.
    pub async fn restart(&mut self) {
        self.child = self.start.spawn();
        serving(&self.child).await;
    }

    /// How one beside it on the same database is started.
    pub fn beside(&self, address: IpAddr, url: &str, state_dir: &Path) -> Start {
        let kek = self.start.state_dir.join("kek");
        Start::new(address, url, state_dir).with("--kek-file", kek.display())
    }
}
