//! Tidegate: an agent by itself, as balancer or as terminator.

use std::net::SocketAddr;
use std::process::Command;

use super::{Layer, Mode, Site, Tickets, Trouble};

/// An agent that balances TCP.
#[derive(Clone, Copy, Debug)]
pub struct Balancer {
    /// `proxy_protocol: v2` of the pool.
    pub proxy_v2: bool,
    /// `client_first` of the listener and `fast_open` of the pool, as they are by
    /// themselves where terminators are discovered.
    pub early: bool,
}

/// An agent that ends TLS.
#[derive(Clone, Copy, Debug)]
pub struct Terminator {
    /// `mode`.
    pub mode: Mode,
    /// `accept_proxy` from loopback: it stands behind a balancer.
    pub behind_balancer: bool,
}

impl Layer for Balancer {
    fn name(&self) -> &'static str {
        "tidegate-balancer"
    }

    fn ends_tls(&self) -> bool {
        false
    }

    fn sends_proxy_v2(&self) -> bool {
        self.proxy_v2
    }

    fn command(&self, site: &Site) -> Result<Command, Trouble> {
        let proxy = if self.proxy_v2 { "v2" } else { "none" };
        let document = format!(
            "listeners:\n  - {{ name: front, role: balancer, bind: \"{}\", pool: back, \
             client_first: {early} }}\n\
             pools:\n  - name: back\n    proxy_protocol: {proxy}\n    fast_open: {early}\n    \
             backends: [ {{ address: \"{}\" }} ]\n",
            site.listen,
            site.upstream()?,
            early = self.early,
        );
        agent("balancer", &document, site)
    }
}

impl Layer for Terminator {
    fn name(&self) -> &'static str {
        "tidegate-terminator"
    }

    fn ends_tls(&self) -> bool {
        true
    }

    fn command(&self, site: &Site) -> Result<Command, Trouble> {
        let (mode, client_ip) = match self.mode {
            Mode::Tcp => ("tcp", "none"),
            Mode::Http => ("http", "forwarded"),
        };
        let accept = if self.behind_balancer {
            "[127.0.0.1]"
        } else {
            "none"
        };
        let certificate = site.certificate();
        let document = format!(
            "listeners:\n  - name: front\n    role: terminator\n    bind: \"{listen}\"\n    \
             accept_proxy: {accept}\n    tls: {{ certificates: [bench] }}\n    mode: {mode}\n    \
             client_ip: {client_ip}\n    policy: patient\n    pool: back\n\
             policies:\n  - {{ name: patient, timeouts: {{ keep_alive: 1h }} }}\n\
             pools:\n  - name: back\n    backends: [ {{ address: \"{upstream}\" }} ]\n\
             certificates:\n  - {{ name: bench, chain_file: \"{chain}\", private_key_file: \"{key}\" }}\n",
            listen = site.listen,
            upstream = site.upstream()?,
            chain = certificate.chain.display(),
            key = certificate.key.display(),
        );
        agent("terminator", &document, site)
    }
}

fn agent(role: &str, document: &str, site: &Site) -> Result<Command, Trouble> {
    let document = site.write("document.yaml", document)?;
    let health: SocketAddr = site.stage.free_address()?;
    let agent = &site.stage.programs().agent;
    if !agent.is_file() {
        let why = "tidegate-agent is not built: cargo build --release -p tidegate-agent";
        return Err(Trouble::Absent(why.to_owned()));
    }
    let mut command = Command::new(agent);
    command
        .args(["standalone", "--role", role, "--address", "127.0.0.1"])
        .arg("--config")
        .arg(document)
        .arg("--state-dir")
        .arg(site.directory.join("state"))
        .args(["--threads", &site.conditions.workers.to_string()])
        .args(["--health-port", &health.port().to_string()])
        .args(["--drain-delay", "1ms", "--drain-timeout", "1ms"])
        // One ticket for each full handshake, unless none is wanted.
        .args(match site.conditions.tickets {
            Tickets::None => &["--ticket-lifetime", "0s"][..],
            Tickets::One | Tickets::Default => &[],
        })
        // No access events: the others keep no access log either.
        .env("RUST_LOG", "warn");
    Ok(command)
}
