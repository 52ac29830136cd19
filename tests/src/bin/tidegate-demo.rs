//! `make demo`: a balancer, two terminators and four Node.js processes on this
//! machine, from `examples/demo/chain.yaml`, until Ctrl-C.
//!
//! Nothing outlives it, also when it is killed by `kill -9`: the kernel ends its
//! children with it, and a shell that waits for its end removes its directory.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, ChildStdin, Command, ExitCode, Stdio};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use futures_util::future::select_all;
use tidegate_tests::agent::{self, Agent};
use tidegate_tests::child::Child;
use tidegate_tests::client::Client;
use tidegate_tests::node::NodeApp;
use tidegate_tests::pki::Pki;
use tidegate_tests::{checkout, until};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A balancer, two terminators and four Node.js processes on this machine, until Ctrl-C.
#[derive(Parser)]
#[command(name = "tidegate-demo")]
struct Settings {
    /// Where clients connect.
    #[arg(long, default_value_t = 8443)]
    port: u16,

    /// The first three numbers of all addresses, of 127.0.0.0/8: another demo beside this one
    /// takes another network.
    #[arg(long, default_value = "127.0.0", value_parser = network)]
    network: [u8; 3],

    /// Where document, certificate and logs go, and stay. A directory that is removed at the end
    /// when absent.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// A terminator is named by its letter, its processes by letter and number.
const TERMINATORS: [(char, u8); 2] = [('a', 2), ('b', 3)];
const NODE_PORTS: [u16; 2] = [3000, 3001];
const TERMINATOR_PORT: u16 = 8443;
const HEALTH_PORT: u16 = 7445;
const HOST: &str = "play.localhost";

// One thread: children end with the thread that starts them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let settings = Settings::parse();
    match run(&settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: &Settings) -> anyhow::Result<()> {
    let mut stop = Stop::listen()?;
    settings.addresses_are_free()?;
    let state = State::new(settings.state_dir.as_deref())?;
    let outcome = tokio::select! {
        outcome = demo(settings, &state.directory) => outcome,
        () = stop.asked() => Ok(()),
    };
    // Whatever was started has been killed with the future above.
    state.end()?;
    println!("\nStopped.");
    outcome
}

async fn demo(settings: &Settings, directory: &Path) -> anyhow::Result<()> {
    println!("Tidegate demo: a balancer, two terminators, two Node.js processes behind each.\n");
    let pki = write_files(settings, directory)?;
    let mut apps = start_apps(settings, directory).await?;
    let mut agents = start_agents(settings, directory).await?;
    healthy(settings, &pki, &agents).await;
    println!("  healthy        each process answers through the whole chain");
    invite(settings, directory);
    let apps = apps.iter_mut().map(NodeApp::child);
    watch(
        apps.chain(agents.iter_mut().map(Agent::child)).collect(),
        directory,
    )
    .await
}

/// The authority, its certificate, and the document, where the agents find them.
fn write_files(settings: &Settings, directory: &Path) -> anyhow::Result<Pki> {
    let pki = Pki::new("Tidegate demo authority");
    let address = settings.ip(1).to_string();
    pki.issue(&[HOST, "localhost", "127.0.0.1", &address])
        .write(directory, "play")?;
    fs::write(directory.join("ca.pem"), pki.ca_pem())?;
    let example = checkout("examples/demo/chain.yaml");
    let text = fs::read_to_string(&example)
        .with_context(|| format!("cannot read {}", example.display()))?;
    fs::write(directory.join("chain.yaml"), settings.document(&text))?;
    println!("  certificate    {HOST}, localhost, {address}");
    Ok(pki)
}

async fn start_apps(settings: &Settings, directory: &Path) -> anyhow::Result<Vec<NodeApp>> {
    let mut apps = Vec::new();
    for (letter, host) in TERMINATORS {
        for (number, port) in NODE_PORTS.into_iter().enumerate() {
            let name = format!("node-{letter}{number}");
            let log = File::create(directory.join(format!("{name}.log")))?;
            let app = NodeApp::at(settings.at(host, port), &name)
                .log_to(log)
                .spawn();
            apps.push(app.context("cannot start node: run `make setup`")?);
        }
    }
    for app in &apps {
        app.listening().await;
        println!("  {:<14} {}", app.name(), app.address());
    }
    Ok(apps)
}

/// The balancer first.
async fn start_agents(settings: &Settings, directory: &Path) -> anyhow::Result<Vec<Agent>> {
    let mut agents = Vec::new();
    // Last, so that what it finds is there.
    let edge = ("balancer", "balancer".to_owned(), 1, settings.port);
    let terminators = TERMINATORS.map(|(letter, host)| {
        (
            "terminator",
            format!("terminator-{letter}"),
            host,
            TERMINATOR_PORT,
        )
    });
    for (role, name, host, port) in terminators.into_iter().chain([edge]) {
        let log = File::create(directory.join(format!("{name}.log")))?;
        let document = directory.join("chain.yaml");
        let start = agent::Start::new(&document, settings.ip(host), &directory.join(&name));
        agents.push(
            start
                .named(&name)
                .with("--role", role)
                .log_to(log)
                .serve()
                .await,
        );
        println!("  {name:<14} {}", settings.at(host, port));
    }
    agents.rotate_right(1);
    Ok(agents)
}

/// Waits until every backend has passed its checks and a request has been answered.
async fn healthy(settings: &Settings, pki: &Pki, agents: &[Agent]) {
    for agent in agents {
        until("all backends up", async || {
            let rows = agent.debug("/debug/backends").await;
            let mut rows = rows.as_array().expect("a list").iter();
            rows.all(|row| row["up"] == true && !row["last_check"].is_null())
        })
        .await;
    }
    let client = Client::new(settings.ip(1), pki.trusting());
    until("an answer through the chain", async || {
        match client.http(settings.at(1, settings.port), HOST).await {
            Ok(mut http) => http
                .get("/whoami")
                .await
                .is_ok_and(|answer| answer.status == 200),
            Err(_) => false,
        }
    })
    .await;
}

fn invite(settings: &Settings, directory: &Path) {
    let (url, here) = (settings.url(), directory.display());
    let curl = format!("curl --cacert {here}/ca.pem");
    println!(
        "
Open       {url}/
           Your browser asks once about the certificate: a local authority signed it.
Authority: {here}/ca.pem
State:     {here}
           chain.yaml, logs and admin sockets

Worth typing in another terminal:

  # who answers, and whom it sees
  {curl} {url}/whoami
  # another client: the app sees its address, through TLS and two hops
  {curl} --interface {other} {url}/whoami
  # who connects most, as the balancer counts them
  curl --unix-socket {here}/balancer/admin.sock http://agent/debug/clients

Ctrl-C stops everything.",
        other = settings.ip(9),
    );
}

/// Tells of children that end; returns only when all have.
async fn watch(mut children: Vec<&mut Child>, directory: &Path) -> anyhow::Result<()> {
    while !children.is_empty() {
        let ends = children.iter_mut().map(|child| Box::pin(child.ended()));
        let (status, index, _) = select_all(ends).await;
        let child = children.swap_remove(index);
        println!(
            "{} ended: {status}; {}/{}.log",
            child.name(),
            directory.display(),
            child.name()
        );
    }
    bail!("everything has ended")
}

impl Settings {
    fn ip(&self, host: u8) -> IpAddr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, host).into()
    }

    fn at(&self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(host), port)
    }

    fn url(&self) -> String {
        match self.network {
            [127, 0, 0] => format!("https://localhost:{}", self.port),
            _ => format!("https://{}", self.at(1, self.port)),
        }
    }

    /// The example, with our addresses and our port in it.
    fn document(&self, example: &str) -> String {
        let [a, b, c] = self.network;
        let text = example.replace("127.0.0.", &format!("{a}.{b}.{c}."));
        // The first is the balancer's.
        text.replacen("bind: \":8443\"", &format!("bind: \":{}\"", self.port), 1)
    }

    fn addresses_are_free(&self) -> anyhow::Result<()> {
        let mut addresses = vec![self.at(1, self.port), self.at(1, HEALTH_PORT)];
        for (_, host) in TERMINATORS {
            let ports = NODE_PORTS.into_iter().chain([TERMINATOR_PORT, HEALTH_PORT]);
            addresses.extend(ports.map(|port| self.at(host, port)));
        }
        for address in addresses {
            match TcpListener::bind(address) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
                    "{address} is taken. Who has it: ss -ltnp 'sport = :{}'\n\
                     Stop that program, or take other addresses: {} --network 127.0.77{}",
                    address.port(),
                    std::env::args().next().unwrap_or_default(),
                    if address == self.at(1, self.port) {
                        " (or --port 9443)"
                    } else {
                        ""
                    },
                ),
                Err(error) => return Err(error).with_context(|| format!("cannot use {address}")),
            }
        }
        Ok(())
    }
}

fn network(text: &str) -> Result<[u8; 3], String> {
    let bytes: Option<Vec<u8>> = text.split('.').map(|part| part.parse().ok()).collect();
    match bytes.as_deref() {
        Some(&[127, b, c]) => Ok([127, b, c]),
        _ => Err("write 127.X.Y, such as 127.0.77".to_owned()),
    }
}

/// The directory of one demo.
struct State {
    directory: PathBuf,
    /// Removes the directory when it reads our end; none for one that stays.
    remover: Option<(Process, ChildStdin)>,
}

impl State {
    fn new(given: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(directory) = given {
            fs::create_dir_all(directory)?;
            // Agents and people need it whole, whatever the working directory.
            let directory = directory.canonicalize()?;
            let used = fs::read_dir(&directory)?.next().is_some();
            ensure!(
                !used,
                "{} is not empty: name another --state-dir",
                directory.display()
            );
            return Ok(Self {
                directory,
                remover: None,
            });
        }
        let directory = tempfile::Builder::new()
            .prefix("tidegate-demo-")
            .tempdir()?
            .keep();
        let mut remover = remover(&directory)?;
        let alive = remover.stdin.take().context("a piped stdin is there")?;
        Ok(Self {
            directory,
            remover: Some((remover, alive)),
        })
    }

    fn end(self) -> io::Result<()> {
        let Some((mut remover, alive)) = self.remover else {
            return Ok(());
        };
        drop(alive);
        remover.wait().map(drop)
    }
}

/// A shell in a process group of its own: neither Ctrl-C nor our death ends it, only
/// the end of the pipe that we alone hold.
fn remover(directory: &Path) -> io::Result<Process> {
    // Agents die at the same moment, and may still write their last file.
    let script = r#"read _; for _ in 1 2 3 4 5; do rm -rf -- "$0" && exit; sleep 0.2; done"#;
    Command::new("sh")
        .args(["-c", script])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// Being asked to stop.
struct Stop([Signal; 3]);

impl Stop {
    fn listen() -> io::Result<Self> {
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_moves_to_another_network_and_port() {
        let settings = Settings {
            port: 9443,
            network: [127, 8, 9],
            state_dir: None,
        };
        let text = fs::read_to_string(checkout("examples/demo/chain.yaml")).unwrap();
        let moved = settings.document(&text);
        assert!(!moved.contains("127.0.0."));
        for address in [
            "127.8.9.2:8443",
            "127.8.9.3:8443",
            "accept_proxy: [127.8.9.1]",
        ] {
            assert!(moved.contains(address), "{address} in {moved}");
        }
        assert_eq!(moved.matches("bind: \":9443\"").count(), 1);
        assert_eq!(moved.matches("bind: \":8443\"").count(), 1);
        let same = Settings {
            port: 8443,
            network: [127, 0, 0],
            state_dir: None,
        };
        assert_eq!(same.document(&text), text);
    }
}
