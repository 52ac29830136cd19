//! `tidegate-bench`: runs the comparison, compares two runs, writes a report anew.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tidegate_bench::results::Scenario;
use tidegate_bench::run::{self, Settings};
use tidegate_bench::stage::Programs;
use tidegate_bench::{compare, report};
use time::OffsetDateTime;
use tokio::signal::unix::{SignalKind, signal};

/// Tidegate beside HAProxy, nginx, hitch, Apache and Node.js.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, and write results.json, a report and charts.
    Run(RunArguments),
    /// Say how two runs differ, as ratios with their spread.
    Compare(CompareArguments),
    /// Write the report and the charts of a results.json anew.
    Report {
        /// A folder with a results.json.
        folder: PathBuf,
    },
}

#[derive(clap::Args)]
struct RunArguments {
    /// Only these tables; may be given several times.
    #[arg(long, value_enum)]
    scenario: Vec<Scenario>,

    /// Only systems whose id holds one of these words.
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    only: Vec<String>,

    /// Only cases whose id holds one of these words.
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    case: Vec<String>,

    /// How often each system is measured in each case; when absent five times on a
    /// pinned core, three times where it takes longer.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,

    /// Tiny counts in one round: shows that everything works, and no figure.
    #[arg(long)]
    smoke: bool,

    /// Where to write; bench/results/<date> when absent.
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,

    /// The agent to measure; the one beside this program when absent.
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
}

#[derive(clap::Args)]
struct CompareArguments {
    /// Before: a results.json, or its folder.
    a: PathBuf,
    /// After.
    b: PathBuf,
    /// All metrics, not only the one that ratios are made of.
    #[arg(long)]
    all: bool,
    /// Only cases whose id holds this word.
    #[arg(long, value_name = "WORD")]
    case: Option<String>,
    /// Only systems whose id holds this word.
    #[arg(long, value_name = "WORD")]
    system: Option<String>,
}

fn main() -> anyhow::Result<ExitCode> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    if provider.install_default().is_err() {
        anyhow::bail!("another TLS provider is installed");
    }
    match Arguments::parse().command {
        Command::Run(arguments) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(run(arguments))
        }
        Command::Compare(arguments) => {
            println!("{}", compared(&arguments)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Report { folder } => {
            run::write(&compare::load(&folder)?, &folder)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs until done or interrupted; dropping the run stops every program it started.
async fn run(arguments: RunArguments) -> anyhow::Result<ExitCode> {
    let settings = settings(arguments)?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    let results = tokio::select! {
        results = run::run(&settings) => results?,
        _ = interrupted.recv() => return Ok(interruption(&settings)),
        _ = terminated.recv() => return Ok(interruption(&settings)),
        _ = hung_up.recv() => return Ok(interruption(&settings)),
    };
    for ratio in results
        .cases
        .iter()
        .flat_map(|case| report::ratios(&results, &case.id))
    {
        println!("{ratio}");
    }
    println!("\nresults: {}", settings.output.display());
    let failures: Vec<_> = results.failures().collect();
    for (row, why) in &failures {
        eprintln!("FAILED: {} in {}: {why}", row.system, row.case);
    }
    println!(
        "{} rows passed, {} failed",
        results.rows.len() - failures.len(),
        failures.len()
    );
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn interruption(settings: &Settings) -> ExitCode {
    let folder = settings.output.display();
    eprintln!("\ninterrupted: every program is stopped; cases that were done are in {folder}");
    ExitCode::from(130)
}

fn settings(arguments: RunArguments) -> anyhow::Result<Settings> {
    let scenarios = if arguments.scenario.is_empty() {
        clap::ValueEnum::value_variants().to_vec()
    } else {
        arguments.scenario
    };
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    let agent = match arguments.agent {
        Some(agent) => agent,
        None => std::env::current_exe()?.with_file_name("tidegate-agent"),
    };
    let output = match arguments.output {
        Some(folder) => folder,
        None if arguments.smoke => std::env::current_exe()?.with_file_name("bench-smoke"),
        None => folder_of_the_day(&bench.join("results"))?,
    };
    Ok(Settings {
        scenarios,
        only: arguments.only,
        cases: arguments.case,
        rounds: if arguments.smoke {
            Some(1)
        } else {
            arguments.rounds
        },
        smoke: arguments.smoke,
        output: std::path::absolute(output)?,
        programs: Programs {
            agent: std::path::absolute(agent)?,
            apps: bench.join("apps"),
        },
    })
}

/// `<date>`, or `<date>-2` and so on when there is one already.
fn folder_of_the_day(results: &Path) -> anyhow::Result<PathBuf> {
    let date = OffsetDateTime::now_utc().date().to_string();
    let mut folders = std::iter::once(date.clone()).chain((2..).map(|n| format!("{date}-{n}")));
    let free = folders.find(|name| !results.join(name).exists());
    Ok(results.join(free.context("there is always another number")?))
}

fn compared(arguments: &CompareArguments) -> anyhow::Result<String> {
    let (a, b) = (compare::load(&arguments.a)?, compare::load(&arguments.b)?);
    let options = compare::Wanted {
        all: arguments.all,
        case: arguments.case.clone(),
        system: arguments.system.clone(),
    };
    Ok(compare::compare(&a, &b, &options))
}
