//! The program's arguments: the top of the command tree, and what `serve` takes.
//! What the other commands take stands beside them, in `cli` and `dev`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{cli, dev};

/// Tidegate: the front door for WebSocket and Node.js fleets.
#[derive(Parser)]
#[command(name = "tidegate", version)]
pub(crate) struct Settings {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the control plane.
    Serve(Serve),
    /// Run a whole fleet on this machine: Postgres, control plane, agents, sample apps.
    Dev(dev::Dev),
    /// Print the description of the REST API (OpenAPI 3.1).
    Openapi,
    #[command(flatten)]
    Client(cli::Command),
}

/// `tidegate serve`.
#[derive(Args, Clone)]
pub(crate) struct Serve {
    /// Where the truth is kept: a Postgres database, 14 or newer. It may hold a password, which an
    /// argument shows to every process of the machine: prefer the variable.
    #[arg(
        long,
        value_name = "URL",
        env = "TIDEGATE_DATABASE_URL",
        hide_env_values = true
    )]
    pub(crate) database_url: String,

    /// Where the first admin's token, the authority's certificate and the key-encryption key go;
    /// made when missing.
    #[arg(long, value_name = "DIR", env = "STATE_DIRECTORY")]
    pub(crate) state_dir: PathBuf,

    /// Where REST and the dashboard are answered.
    #[arg(long, value_name = "IP:PORT", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 7443)))]
    pub(crate) rest: SocketAddr,

    /// Where agents connect.
    #[arg(long, value_name = "IP:PORT", default_value_t = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7444)))]
    pub(crate) link: SocketAddr,

    /// A name or address by which people and programs reach this control plane, for its own
    /// certificate; may be given several times.
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// The key that seals secrets in the database: 32 bytes or more. The same for every replica.
    /// Absent: kek in the state directory, made when missing.
    #[arg(long, value_name = "FILE")]
    pub(crate) kek_file: Option<PathBuf>,

    /// A certificate for REST, PEM, leaf first, instead of one signed by the fleet's own authority.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_chain: Option<PathBuf>,

    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_chain")]
    pub(crate) tls_key: Option<PathBuf>,

    /// How long an agent's certificate lives; it renews itself at half of that.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    pub(crate) agent_certificate_lifetime: Duration,

    /// How often agents report health, connections and clients.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) report_interval: Duration,

    /// How long an agent may be away before it no longer counts as a discovered backend.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    pub(crate) forget_after: Duration,

    /// How often each terminator listener gets a new key for its session tickets.
    #[arg(long, value_name = "TIME", env = "TIDEGATE_TICKET_KEY_ROTATION", default_value = "12h", value_parser = humantime::parse_duration)]
    pub(crate) ticket_key_rotation: Duration,

    /// How long a client may resume a TLS session: at most 7 days, and 8 times the rotation.
    #[arg(long, value_name = "TIME", env = "TIDEGATE_TICKET_LIFETIME", default_value = "24h", value_parser = humantime::parse_duration)]
    pub(crate) ticket_lifetime: Duration,

    /// How events are written to stderr; RUST_LOG filters them.
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    pub(crate) log: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Sends the events of this process to stderr.
pub(crate) fn start_logs(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    let events = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => events.json().flatten_event(true).init(),
        LogFormat::Text => events.init(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn serve(arguments: &[&str]) -> Result<Serve, clap::Error> {
        let given = ["tidegate", "serve", "--database-url", "postgres:///t"];
        match Settings::try_parse_from(given.iter().chain(arguments))?.command {
            Command::Serve(serve) => Ok(serve),
            _ => panic!("serve was asked for"),
        }
    }

    #[test]
    fn the_arguments_fit_together() {
        Settings::command().debug_assert();
    }

    #[test]
    fn rest_is_for_this_machine_alone_unless_told_otherwise() {
        let serve = serve(&["--state-dir", "s"]).unwrap();
        assert!(serve.rest.ip().is_loopback());
        assert_eq!(serve.rest.port(), 7443);
        assert_eq!(serve.link.to_string(), "0.0.0.0:7444");
        assert_eq!(serve.report_interval, Duration::from_secs(5));
    }

    #[test]
    fn a_certificate_needs_its_key() {
        assert!(serve(&["--state-dir", "s", "--tls-chain", "c.pem"]).is_err());
        let both = ["--state-dir", "s", "--tls-chain", "c", "--tls-key", "k"];
        assert!(serve(&both).is_ok());
    }

    #[test]
    fn help_never_shows_the_database_password() {
        let mut command = Settings::command();
        let serve = command.find_subcommand_mut("serve").unwrap();
        let shown = serve.render_long_help().to_string();
        assert!(shown.contains("[env: TIDEGATE_DATABASE_URL]"), "{shown}");
    }
}
