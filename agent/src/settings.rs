//! The command line, and the logs it chooses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tidegate_core::addr::unmapped;
use tidegate_core::document::{Labels, Role};

/// The data plane of Tidegate: balancer and terminator.
#[derive(Parser)]
#[command(name = "tidegate-agent", version, about)]
pub(crate) struct Settings {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run one document by itself, without a control plane. SIGHUP reads it again.
    Standalone(Standalone),
    /// Join a fleet, and run what its control plane says. A restarted agent serves what it ran
    /// last, also while no control plane can be reached.
    Run(Run),
    /// Make the host's routing rules for `client_ip: transparent`, once after each boot; needs
    /// CAP_NET_ADMIN, which no running agent does. Says what it did, and does nothing twice.
    SetupTransparent(SetupTransparent),
}

impl Command {
    /// How events are written.
    pub(crate) fn log(&self) -> LogFormat {
        match self {
            Self::Standalone(standalone) => standalone.common.log,
            Self::Run(run) => run.common.log,
            Self::SetupTransparent(_) => LogFormat::Text,
        }
    }
}

/// `tidegate-agent setup-transparent`.
#[derive(Args, Clone, Copy)]
pub(crate) struct SetupTransparent {
    /// Take the rules and routes away again.
    #[arg(long)]
    pub(crate) remove: bool,

    /// The routing table to use, which is for this alone.
    #[arg(long, value_name = "N", default_value_t = 7443, value_parser = own_table)]
    pub(crate) table: u32,
}

/// A number that is no table of the kernel's own (rtnetlink(7)).
fn own_table(written: &str) -> Result<u32, String> {
    match written.parse() {
        Ok(0 | 253..=255) | Err(_) => Err(
            "write a number from 1 on; 253, 254 and 255 are the kernel's default, main and local"
                .into(),
        ),
        Ok(table) => Ok(table),
    }
}

/// `tidegate-agent run`.
#[derive(Args, Clone)]
pub(crate) struct Run {
    /// Where the agents' link of a control plane is; several, one per option, are tried in random
    /// order.
    #[arg(long = "control-plane", value_name = "HOST:PORT", required = true, value_parser = host_port)]
    pub(crate) control_planes: Vec<String>,

    /// Where identity, kept snapshots and the admin socket are; made when missing. For this agent
    /// alone.
    #[arg(long, value_name = "DIR", env = "STATE_DIRECTORY")]
    pub(crate) state_dir: PathBuf,

    /// The agent's own address: what others reach it at, where `:port` is bound, and the source of
    /// its connections to backends. Where its first connection to the control plane came from when
    /// absent.
    #[arg(long, value_name = "IP", value_parser = own_address)]
    pub(crate) address: Option<IpAddr>,

    /// A file with the join token, or - for standard input; TIDEGATE_JOIN_TOKEN when absent. Not
    /// looked at once the agent has joined.
    #[arg(long, value_name = "FILE")]
    pub(crate) join_token_file: Option<PathBuf>,

    /// Insist on a role; may be given twice. What the join token gives when absent.
    #[arg(long = "role", value_name = "ROLE", value_enum)]
    roles: Vec<RoleName>,

    /// A file of 32 random bytes or more that seals the kept snapshots; the systemd credential
    /// tidegate-cache-key when absent, else cache.key in the state directory.
    #[arg(long, value_name = "FILE")]
    pub(crate) cache_key_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) common: Common,
}

impl Run {
    /// The roles insisted on.
    pub(crate) fn roles(&self) -> impl Iterator<Item = Role> {
        self.roles.iter().map(|role| (*role).into())
    }
}

/// `tidegate-agent standalone`.
#[derive(Args, Clone)]
pub(crate) struct Standalone {
    /// The document, YAML or JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,

    /// What to do; may be given twice. Both when absent.
    #[arg(long = "role", value_name = "ROLE", value_enum)]
    pub(crate) roles: Vec<RoleName>,

    /// A label for the selectors in the document; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<Label>,

    /// The agent's own address: where `:port` is bound, and the source of its connections to
    /// backends. Every address when absent.
    #[arg(long, value_name = "IP")]
    pub(crate) address: Option<IpAddr>,

    /// A file of 32 hexadecimal digits, the same for all balancers: by them `source_hash`
    /// spreads clients, and who knows them can choose a backend. All zeros when absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) hash_key_file: Option<PathBuf>,

    /// A file of 64 hexadecimal digits, the same for all terminators that share clients: with
    /// keys made of them session tickets are sealed. Further lines open older tickets. Readable
    /// for its owner alone. Keys of its own, which end with it, when absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) ticket_key_file: Option<PathBuf>,

    /// How often the agent makes a new key for its session tickets.
    #[arg(long, value_name = "TIME", default_value = "12h", value_parser = humantime::parse_duration, conflicts_with = "ticket_key_file")]
    pub(crate) ticket_key_rotation: Duration,

    /// How long a client may resume a TLS session: at most 7 days, and 8 times the rotation. 0s:
    /// none, every handshake is a full one.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    pub(crate) ticket_lifetime: Duration,

    /// Where the admin socket is; made when missing.
    #[arg(long, value_name = "DIR", env = "STATE_DIRECTORY")]
    pub(crate) state_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// What every agent is told, wherever its snapshots come from.
#[derive(Args, Clone)]
pub(crate) struct Common {
    /// Data threads; one per core when absent.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// Where `GET /health/<listener>` is answered, on the agent's address.
    #[arg(long, value_name = "PORT", default_value_t = 7445)]
    pub(crate) health_port: u16,

    /// Metrics and debug pages: IP:PORT or unix:PATH; admin.sock in the state directory when
    /// absent.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<AdminAddr>,

    /// After SIGTERM: how long to go on accepting while health checks already fail. At least
    /// fall x interval + 1s of whatever checks this agent.
    #[arg(long, value_name = "TIME", default_value = "7s", value_parser = humantime::parse_duration)]
    pub(crate) drain_delay: Duration,

    /// After that: how long live connections may take to end.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) drain_timeout: Duration,

    /// Connections at once, of all listeners together; as many as descriptors allow when absent.
    #[arg(long, value_name = "N")]
    pub(crate) max_connections: Option<u32>,

    /// Where connections to backends come from, instead of the agent's own address; may be given
    /// several times, and then takes turns: each address has its own ports. Backends with
    /// `accept_proxy: balancers` know the agent's own address only.
    #[arg(long = "source-address", value_name = "IP")]
    pub(crate) source_addresses: Vec<IpAddr>,

    /// How events are written to stderr; RUST_LOG filters them.
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    pub(crate) log: LogFormat,
}

impl Standalone {
    /// The roles given, or both.
    pub(crate) fn roles(&self) -> std::collections::BTreeSet<Role> {
        let chosen: &[RoleName] = match self.roles.as_slice() {
            [] => &[RoleName::Balancer, RoleName::Terminator],
            given => given,
        };
        chosen.iter().map(|role| (*role).into()).collect()
    }

    /// The labels given; the last one of a key counts.
    pub(crate) fn labels(&self) -> Labels {
        self.labels
            .iter()
            .map(|l| (l.key.clone(), l.value.clone()))
            .collect()
    }
}

/// An address that the rest of the fleet can dial.
fn own_address(written: &str) -> Result<IpAddr, String> {
    let address: IpAddr = written
        .parse()
        .map_err(|_| "write an IP address, such as 192.0.2.7")?;
    let canonical = unmapped(SocketAddr::new(address, 0)).ip();
    if canonical.is_unspecified()
        || canonical.is_multicast()
        || canonical == IpAddr::from(Ipv4Addr::BROADCAST)
    {
        return Err(
            "others dial the agent at it, so it has to be an address of this host: write that \
             one, or leave --address out"
                .into(),
        );
    }
    Ok(address)
}

/// Names are resolved when they are dialled; the form is looked at now.
fn host_port(written: &str) -> Result<String, String> {
    match written.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0) => {
            Ok(written.to_owned())
        }
        _ => Err("write HOST:PORT, such as control.example.com:7444".into()),
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum RoleName {
    Balancer,
    Terminator,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Balancer => Self::Balancer,
            RoleName::Terminator => Self::Terminator,
        }
    }
}

#[derive(Clone)]
pub(crate) struct Label {
    key: String,
    value: String,
}

impl FromStr for Label {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        match written.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err("write KEY=VALUE, such as tier=edge".into()),
        }
    }
}

/// Where the admin pages are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdminAddr {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for AdminAddr {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        match written.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(_) => Err("write a path after unix:".into()),
            None => written
                .parse()
                .map(Self::Tcp)
                .map_err(|_| "write IP:PORT, such as 127.0.0.1:9900, or unix:PATH".into()),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Sends events to stderr; `RUST_LOG` filters (`RUST_LOG=info,access=off` for no access events).
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
    use super::*;

    #[test]
    fn admin_addresses() {
        assert_eq!("unix:/run/a".parse(), Ok(AdminAddr::Unix("/run/a".into())));
        assert_eq!(
            "127.0.0.1:9".parse(),
            Ok(AdminAddr::Tcp("127.0.0.1:9".parse().unwrap()))
        );
        for bad in ["unix:", "localhost:1", "9900", ""] {
            assert!(bad.parse::<AdminAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn control_planes_are_hosts_with_ports() {
        for good in ["control.example.com:7444", "127.0.0.1:1", "[::1]:7444"] {
            assert_eq!(host_port(good), Ok(good.to_owned()));
        }
        for bad in ["", "host", ":7444", "host:", "host:0", "host:65536"] {
            assert!(host_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_agent_of_a_fleet_has_an_address_that_others_can_dial() {
        let parsed = |start: &[&str], address: &str| {
            let words = [&["tidegate-agent"], start, &["--address", address]].concat();
            Settings::try_parse_from(words)
        };
        let run = [
            "run",
            "--control-plane",
            "127.0.0.1:1",
            "--state-dir",
            "state",
        ];
        for good in ["127.0.0.7", "192.0.2.7", "2001:db8::7", "::1"] {
            assert!(parsed(&run, good).is_ok(), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "::",
            "::ffff:0.0.0.0",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "host",
        ] {
            assert!(parsed(&run, bad).is_err(), "{bad}");
        }
        let refused = parsed(&run, "0.0.0.0").err().unwrap().to_string();
        assert!(refused.contains("leave --address out"), "{refused}");
        assert!(parsed(&["standalone", "--config", "c"], "0.0.0.0").is_ok());
    }

    #[test]
    fn rules_have_a_table_of_their_own() {
        assert_eq!(own_table("7443"), Ok(7443));
        assert_eq!(own_table("1"), Ok(1));
        for bad in ["0", "253", "254", "255", "-1", "main", ""] {
            assert!(own_table(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn roles_default_to_both() {
        let parse = |args: &[&str]| {
            let words = ["tidegate-agent", "standalone", "--config", "c"]
                .iter()
                .chain(args);
            match Settings::parse_from(words).command {
                Command::Standalone(standalone) => standalone,
                Command::Run(_) | Command::SetupTransparent(_) => panic!("another command"),
            }
        };
        assert_eq!(parse(&[]).roles().len(), 2);
        let one = parse(&[
            "--role",
            "balancer",
            "--label",
            "tier=edge",
            "--label",
            "tier=x",
        ]);
        assert_eq!(
            one.roles().into_iter().collect::<Vec<_>>(),
            [Role::Balancer]
        );
        assert_eq!(one.labels().get("tier").map(String::as_str), Some("x"));
    }
}
