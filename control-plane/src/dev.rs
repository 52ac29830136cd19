//! `tidegate dev`: a whole fleet on this machine, on loopback only. A composition
//! root: it puts together what the other files of this module make, from the
//! private Postgres to the last sample app, and watches it until Ctrl-C.
//!
//! Everything is a child process that ends with this one, also by `kill -9`
//! (`tidegate_local::child`); what it has stored stays in the state directory, and
//! the next run continues it. Agents enter by real join tokens, and everything is
//! set up over REST, as a person would.

mod addresses;
mod authority;
mod fleet;
mod home;
mod invite;
mod process;
mod stop;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use clap::Args;
use tidegate_local::postgres::{Durability, Server};
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::dev::addresses::{Addresses, Network};
use crate::dev::authority::Authority;
use crate::dev::fleet::Fleet;
use crate::dev::home::Home;
use crate::dev::process::{Process, first_end};
use crate::dev::stop::Stop;

/// `tidegate dev`.
#[derive(Args)]
pub(crate) struct Dev {
    /// Where everything is kept, for the next run as well; in the user's state (XDG) when absent.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// Begin anew: forget what an earlier run has stored.
    #[arg(long)]
    reset: bool,

    /// The first three numbers of all addresses, of 127.0.0.0/8: another fleet beside this one
    /// takes another network. What the first run took when absent, 127.0.0 then.
    #[arg(long, value_name = "127.X.Y")]
    network: Option<Network>,

    /// Where clients connect. What the first run took when absent, 8443 then.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// The sample app; examples/node-app here, or above this program, when absent.
    #[arg(long, value_name = "DIR")]
    app: Option<PathBuf>,
}

/// What a terminator is called, and the last number of its address.
const TERMINATORS: [(&str, u8); 2] = [("terminator-a", 2), ("terminator-b", 3)];

/// The sample app, and what runs it.
struct App {
    directory: PathBuf,
    node: PathBuf,
}

impl App {
    fn server(&self) -> PathBuf {
        self.directory.join("server.mjs")
    }
}

/// Runs the fleet until it is asked to stop.
///
/// # Errors
/// Whatever keeps the fleet from running, with the mend.
pub(crate) fn run(dev: Dev) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(until_stopped(dev))
}

async fn until_stopped(dev: Dev) -> anyhow::Result<()> {
    let mut stop = Stop::listen()?;
    let app = App {
        directory: app_directory(dev.app.as_deref())?,
        node: in_path("node").context("Node.js 20 or newer is needed: make setup")?,
    };
    let home = Home::open(dev.state_dir.as_deref(), dev.reset)?;
    let addresses = home.addresses(dev.network, dev.port)?;
    addresses.are_free()?;
    home.keep(&addresses)?;
    say("Tidegate dev: a control plane, a balancer, two terminators, four Node.js processes.\n");

    let data = home.at("postgres");
    let mut postgres = tokio::select! {
        started = Server::start(&data, Durability::Safe) => started?,
        () = stop.asked() => return Ok(()),
    };
    step("postgres", &format!("process {}", postgres.pid()));
    let mut processes = Vec::new();
    let outcome = tokio::select! {
        outcome = serve(&home, &addresses, &app, &mut postgres, &mut processes) => outcome,
        () = stop.asked() => Ok(()),
    };
    home.forget_processes();
    // Agents and apps first: they have nothing to finish. The control plane before its database.
    processes.sort_by_key(|process: &Process| process.name() == CONTROL_PLANE);
    for process in processes {
        process.end().await;
    }
    postgres.stop().await?;
    say(&format!(
        "\nStopped. What was stored is kept in {}",
        home.path().display()
    ));
    outcome
}

const CONTROL_PLANE: &str = "control-plane";

/// Brings everything up, says so, and watches it. Returns only with an error.
async fn serve(
    home: &Home,
    addresses: &Addresses,
    app: &App,
    postgres: &mut Server,
    processes: &mut Vec<Process>,
) -> anyhow::Result<()> {
    let began = OffsetDateTime::now_utc();
    processes.push(control_plane(home, addresses, postgres)?);
    let fleet = tokio::select! {
        fleet = Fleet::reach(home, addresses) => fleet?,
        ended = first_end(processes) => bail!("{ended}"),
    };
    step(CONTROL_PLANE, &addresses.rest_url());
    let authority = Authority::of(home)?;
    let first_run = fleet.is_new().await?;
    fleet.have_certificate(&authority).await?;

    start_apps(home, addresses, app, processes)?;
    start_agents(home, addresses, &fleet, processes).await?;
    let ready = async {
        fleet.agents_connected().await?;
        if first_run {
            fleet.apply_example().await?;
        }
        fleet.is_healthy(began, &authority).await
    };
    let healthy = tokio::select! {
        outcome = timeout(fleet::PATIENCE, ready) => match outcome {
            Ok(outcome) => outcome?,
            Err(_) => bail!("the fleet was not ready within {:?}; logs: {}",
                fleet::PATIENCE, home.at("logs").display()),
        },
        ended = first_end(processes) => bail!("{ended}"),
    };
    match healthy.as_slice() {
        [] => step("healthy", "every process answers through the whole chain"),
        // The document is no longer ours: who changed it may have meant that.
        missing if first_run => bail!("the fleet is not healthy:\n  {}", missing.join("\n  ")),
        missing => say(&format!(
            "\nNot everything is healthy:\n  {}",
            missing.join("\n  ")
        )),
    }
    fleet.forget_tokens();
    home.write_report(&invite::report(home, addresses, postgres.pid(), processes))?;
    say(&invite::text(home, addresses, app));
    watch(postgres, processes).await
}

/// Writes a line; whoever listened may have gone, and the fleet goes on.
fn say(text: &str) {
    let _gone = writeln!(std::io::stdout(), "{text}");
}

fn step(name: &str, what: &str) {
    say(&format!("  {name:<14} {what}"));
}

fn control_plane(home: &Home, at: &Addresses, postgres: &Server) -> anyhow::Result<Process> {
    let program = std::env::current_exe().context("cannot find this program again")?;
    let mut command = Command::new(program);
    command
        .arg("serve")
        .arg("--state-dir")
        .arg(home.at(CONTROL_PLANE))
        .args(["--rest", &at.rest().to_string()])
        .args(["--link", &at.link().to_string()])
        .args(["--name", &at.ip(1).to_string()])
        // So that what people try is seen soon.
        .args(["--report-interval", "1s"]);
    let database = postgres.url("postgres");
    let variables = [("TIDEGATE_DATABASE_URL", database.as_str())];
    Process::start(CONTROL_PLANE, command, &variables, home)
}

fn start_apps(
    home: &Home,
    at: &Addresses,
    app: &App,
    processes: &mut Vec<Process>,
) -> anyhow::Result<()> {
    for (terminator, host) in TERMINATORS {
        let letter = terminator.trim_start_matches("terminator-");
        for (number, port) in addresses::NODE_PORTS.into_iter().enumerate() {
            let name = format!("node-{letter}{number}");
            let (ip, port) = (at.ip(host).to_string(), port.to_string());
            let mut command = Command::new(&app.node);
            command.arg(app.server());
            let variables = [("HOST", ip.as_str()), ("PORT", &port), ("NAME", &name)];
            processes.push(Process::start(&name, command, &variables, home)?);
            step(&name, &format!("http://{ip}:{port}"));
        }
    }
    Ok(())
}

async fn start_agents(
    home: &Home,
    at: &Addresses,
    fleet: &Fleet<'_>,
    processes: &mut Vec<Process>,
) -> anyhow::Result<()> {
    let program = agent_program()?;
    let balancer = ("balancer", 1, "balancer", "tier", "edge");
    let terminators = TERMINATORS.map(|(name, host)| (name, host, "terminator", "app", "game"));
    for (name, host, role, label, value) in [balancer].into_iter().chain(terminators) {
        let mut command = Command::new(&program);
        command
            .arg("run")
            .args(["--control-plane", &at.link().to_string()])
            .args(["--address", &at.ip(host).to_string()])
            .arg("--state-dir")
            .arg(home.at(name));
        if let Some(token) = fleet.token_for(name, role, (label, value)).await? {
            command.arg("--join-token-file").arg(token);
        }
        processes.push(Process::start(name, command, &[], home)?);
        step(name, &at.ip(host).to_string());
    }
    Ok(())
}

/// Tells of every process that ends, and goes on.
async fn watch(postgres: &mut Server, processes: &mut Vec<Process>) -> anyhow::Result<()> {
    let mut postgres_runs = true;
    loop {
        tokio::select! {
            status = postgres.ended(), if postgres_runs => {
                postgres_runs = false;
                say(&format!("postgres ended: {}; {}", status?, postgres.log().display()));
            }
            ended = first_end(processes), if !processes.is_empty() => say(&ended),
            else => bail!("everything has ended"),
        }
    }
}

/// Beside this program, as both are built and installed; else by PATH.
fn agent_program() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find this program again")?;
    let beside = this.with_file_name("tidegate-agent");
    if beside.is_file() {
        return Ok(beside);
    }
    in_path("tidegate-agent").with_context(|| {
        format!(
            "tidegate-agent is not in {}, nor in PATH: build it (make build), or copy it there",
            beside.parent().unwrap_or(Path::new(".")).display()
        )
    })
}

/// A program as the shell would find it, from whatever directory it is run.
fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(program));
    let found = found.find(|program| program.is_file())?;
    std::path::absolute(found).ok()
}

fn app_directory(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir().context("cannot tell the working directory")?;
    let this = std::env::current_exe().context("cannot find this program again")?;
    let found = match given {
        Some(directory) => directory.to_owned(),
        None => [here.as_path()]
            .into_iter()
            .chain(this.ancestors())
            .map(|folder| folder.join("examples/node-app"))
            .find(|app| app.join("server.mjs").is_file())
            .context("there is no sample app here: run this in a checkout, or give --app DIR")?,
    };
    let found = found
        .canonicalize()
        .with_context(|| format!("cannot read {} (--app)", found.display()))?;
    if !found.join("server.mjs").is_file() {
        bail!("there is no server.mjs in {} (--app)", found.display());
    }
    if !found.join("node_modules/ws").is_dir() {
        let place = found.display();
        bail!("the packages of {place} are missing: npm ci --prefix {place}");
    }
    Ok(found)
}
