//! `tidegate`: the control plane's server, its command line and its dev mode.
//! This file only starts things: the arguments, the crypto provider, then the
//! part that was asked for.

mod alike;
mod api;
mod app;
mod attention;
mod ca;
mod cli;
mod clock;
mod dev;
mod fleet;
mod incoming;
mod ingest;
mod journal;
mod limits;
mod link;
mod model;
mod observer;
mod picture;
mod publish;
mod rest;
mod rotation;
mod seal;
mod series;
mod settings;
mod store;
mod upkeep;

use std::process::ExitCode;

use clap::Parser;

use crate::settings::{Command, Settings};

fn main() -> ExitCode {
    let settings = Settings::parse();
    // A second provider can only be installed by a second call, and this is the only one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = match settings.command {
        Command::Serve(serve) => run_server(&serve),
        Command::Dev(dev) => dev::run(dev),
        Command::Openapi => print_description(),
        Command::Client(command) => return cli::run(command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Plain text: whoever starts it by hand reads this, not a log shipper.
            eprintln!("tidegate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_description() -> anyhow::Result<()> {
    println!("{}", api::openapi().to_pretty_json()?);
    Ok(())
}

fn run_server(serve: &settings::Serve) -> anyhow::Result<()> {
    settings::start_logs(serve.log);
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async { app::App::build(serve).await?.run().await })
}
