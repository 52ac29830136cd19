//! `tidegate-postgres run -- COMMAND`: a private Postgres for as long as a command
//! runs. For runs of tests (`make check-tests`), which share its server by
//! [`databases::SERVER`], and for `scripts/sqlx`, which needs a migrated database.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::Context;
use clap::{Args, Parser};
use tempfile::TempDir;
use tidegate_local::child::{Signal, Start};
use tidegate_local::databases::{self, Database};
use tidegate_local::postgres::{Durability, Server, temporary_directory};
use tokio::signal::unix::{SignalKind, signal};

/// A private Postgres for as long as a command runs.
#[derive(Parser)]
#[command(name = "tidegate-postgres")]
enum Settings {
    /// Run COMMAND with TIDEGATE_TEST_POSTGRES set to the server's address.
    Run(Run),
}

#[derive(Args)]
struct Run {
    /// Where the data is kept for the next time; in a directory removed at the end when absent.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Also set DATABASE_URL, to a new and migrated database.
    #[arg(long)]
    migrated: bool,

    /// What to run.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Settings::Run(settings) = Settings::parse();
    match run(settings).await {
        Ok(status) => code(status),
        Err(error) => {
            eprintln!("tidegate-postgres: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Run) -> anyhow::Result<ExitStatus> {
    // Before anything is started: from here on these signals end us in order.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // From a terminal the command gets this one too, and says when it has ended.
    let _interrupt = signal(SignalKind::interrupt())?;
    let temporary = match &settings.data_dir {
        None => Some(temporary_directory()?),
        Some(_) => None,
    };
    let directory = temporary.as_ref().map(TempDir::path);
    let directory = directory.or(settings.data_dir.as_deref());
    let directory = directory.context("one of the two is there")?;

    let server = Server::start(directory, Durability::Fast).await?;
    let url = server.url("postgres");
    databases::prepare(&url).await?;
    let migrated = match settings.migrated {
        true => Some(Database::create_at(&url).await?),
        false => None,
    };
    let mut words = settings.command.iter();
    let program = words.next().context("a command is required")?;
    let mut command = Command::new(program);
    command.args(words).env(databases::SERVER, &url);
    if let Some(database) = &migrated {
        command.env("DATABASE_URL", database.url());
    }
    let start = Start::new(command).in_our_group().on_our_end(Signal::TERM);
    let child = start.spawn();
    let mut child = child.with_context(|| format!("cannot run {}", program.display()))?;
    let status = loop {
        tokio::select! {
            status = child.ended() => break status,
            _ = terminate.recv() => child.signal(Signal::TERM)?,
            _ = hangup.recv() => child.signal(Signal::HUP)?,
        }
    };
    drop(migrated);
    server.stop().await?;
    Ok(status?)
}

fn code(status: ExitStatus) -> ExitCode {
    let signal = status.signal().map(|signal| 128 + signal);
    let code = status.code().or(signal).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
