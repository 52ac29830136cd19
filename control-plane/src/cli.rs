//! The command line: what people type to a control plane, over REST. It holds no
//! state but where the control plane is ([`connection`]), and knows no more than
//! any other client of the API. Called by `main`.
//!
//! To add a command: a file with its `Args` (flatten [`connection::Given`]) and a
//! `run` that takes a [`screen::Screen`]; then a variant of [`Command`].

mod agent;
mod api_token;
mod apply;
mod certificate;
pub(crate) mod client;
mod commit;
pub(crate) mod connection;
pub(crate) mod error;
mod get;
mod kill;
mod nearest;
mod problem;
mod revision;
mod screen;
mod state;
mod status;
mod table;
#[cfg(test)]
pub(crate) mod testing;
mod ticket_key;
mod token;
mod top;
mod transport;
pub(crate) mod words;

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::error::Error;
use crate::cli::screen::Screen;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Remember where the control plane is, for all later commands.
    Login(connection::Login),
    /// Make the fleet's document what a file says, and show the difference.
    Apply(apply::Apply),
    /// Show what is there: a list, or one by name.
    Get(get::Get),
    /// Certificates.
    Cert(certificate::Certificates),
    /// Join tokens, by which agents enter the fleet.
    Token(token::Tokens),
    /// API tokens, by which people and programs use the API.
    ApiToken(api_token::ApiTokens),
    /// Give a backend no new connection; what lives ends by itself, or at a pace.
    Drain(state::Emptying),
    /// The same, and stop checking it.
    Maintenance(state::Emptying),
    /// Use a backend normally again.
    Ready(state::Target),
    /// Close the live connections to a backend now; its state stays.
    Kill(kill::Kill),
    /// Keys of session tickets, by which clients resume TLS sessions on any terminator.
    TicketKey(ticket_key::TicketKeys),
    /// Agents.
    Agent(agent::Agents),
    /// Revisions of the document.
    Revision(revision::Revisions),
    /// Who does most: clients by connections, bytes, failures.
    Top(top::Top),
    /// The fleet in a few lines.
    Status(status::Status),
}

/// Runs one command: exit code 0 when it was done, 1 when it was refused or
/// failed, 2 when it was written wrongly.
pub(crate) fn run(command: Command) -> ExitCode {
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Output)
        .and_then(|runtime| runtime.block_on(command.run(&mut Screen::of_this_process())));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has read enough: `tidegate get agents | head`.
        Err(Error::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

impl Command {
    async fn run(self, screen: &mut Screen<'_>) -> Result<(), Error> {
        match self {
            Self::Login(login) => login.run(screen).await,
            Self::Apply(apply) => apply.run(screen).await,
            Self::Get(get) => get.run(screen).await,
            Self::Cert(certificates) => certificates.run(screen).await,
            Self::Token(tokens) => tokens.run(screen).await,
            Self::ApiToken(tokens) => tokens.run(screen).await,
            Self::Drain(target) => target.run("drain", screen).await,
            Self::Maintenance(target) => target.run("maintenance", screen).await,
            Self::Ready(target) => target.run("ready", screen).await,
            Self::Kill(kill) => kill.run(screen).await,
            Self::TicketKey(keys) => keys.run(screen).await,
            Self::Agent(agents) => agents.run(screen).await,
            Self::Revision(revisions) => revisions.run(screen).await,
            Self::Top(top) => top.run(screen).await,
            Self::Status(status) => status.run(screen).await,
        }
    }
}
