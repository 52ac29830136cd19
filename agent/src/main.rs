//! `tidegate-agent`: the data plane. This file only starts things: settings,
//! logs, the crypto provider, then [`app::App`].

mod admin;
mod app;
mod balancer;
mod bounds;
mod cause;
mod connect;
mod connection;
mod control;
mod descriptors;
mod drain;
mod engine;
mod facts;
mod health_port;
mod host;
mod http;
mod limits;
mod linger;
mod listener;
mod memory;
mod metrics;
mod opening;
mod plane;
mod probe;
mod proxy;
mod queue;
mod redirect;
mod relay;
mod settings;
mod shutdown;
mod sockets;
mod source;
mod state;
mod sys;
mod tallies;
mod terminator;
mod tickets;
mod tls;
mod transparent;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::settings::{Command, Settings};

fn main() -> ExitCode {
    let settings = Settings::parse();
    settings::start_logs(settings.command.log());
    // A second provider can only be installed by a second call, and this is the only one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    sys::forbid_core_dumps();

    let ended = match &settings.command {
        Command::Standalone(standalone) => app::App::standalone(standalone).and_then(app::App::run),
        Command::Run(run) => app::App::of_fleet(run).and_then(app::App::run),
        Command::SetupTransparent(setup) => transparent::setup(setup),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Plain text: whoever starts an agent by hand reads this, not a log shipper.
            eprintln!("tidegate-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}
