//! HAProxy: `mode tcp` and `mode http`, with and without TLS.

use std::process::Command;

use super::openssl::with_tickets;
use super::{Layer, Mode, Site, Trouble, connection_limit, installed};

/// HAProxy in one of its modes.
#[derive(Clone, Copy, Debug)]
pub struct Haproxy {
    /// `mode`.
    pub mode: Mode,
    /// `ssl` on the bind line.
    pub tls: bool,
    /// How it moves bytes.
    pub tuning: HaproxyTuning,
    /// `send-proxy-v2` on the server line.
    pub proxy_v2: bool,
}

/// How it moves bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaproxyTuning {
    /// Buffers of 16 KiB.
    Default,
    /// Connections to the app shared freely, in `mode http`.
    Reuse,
    /// That, and buffers of 64 KiB.
    Buffers,
    /// splice(2) in both directions, through pipes.
    Splice,
    /// Accepts what has data, and sends it in the SYN.
    Early,
}

impl Haproxy {
    /// `mode tcp`, as it comes.
    pub const TCP: Self = Self {
        mode: Mode::Tcp,
        tls: false,
        tuning: HaproxyTuning::Default,
        proxy_v2: false,
    };

    /// `mode http`, as it comes.
    pub const HTTP: Self = Self {
        mode: Mode::Http,
        ..Self::TCP
    };

    /// The same with TLS.
    #[must_use]
    pub const fn tls(self) -> Self {
        Self { tls: true, ..self }
    }

    fn configuration(self, site: &Site) -> Result<String, Trouble> {
        let (global, splice) = match self.tuning {
            HaproxyTuning::Default | HaproxyTuning::Reuse | HaproxyTuning::Early => ("", ""),
            HaproxyTuning::Buffers => ("    tune.bufsize 65536\n", ""),
            HaproxyTuning::Splice => (
                "    maxpipes 1000
    tune.pipesize 262144
",
                "    option splice-request\n    option splice-response\n",
            ),
        };
        // A pipe has two descriptors as well.
        let pipes = if self.tuning == HaproxyTuning::Splice {
            1_000
        } else {
            0
        };
        let (mode, forwarded) = match self.mode {
            Mode::Tcp => ("tcp", ""),
            Mode::Http => (
                "http",
                "    option forwardfor\n    \
                 http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]\n",
            ),
        };
        let tls = if self.tls {
            format!(" ssl crt {}", site.certificate().both.display())
        } else {
            String::new()
        };
        let reuse = match (self.mode, self.tuning) {
            (Mode::Http, HaproxyTuning::Reuse | HaproxyTuning::Buffers) => {
                "    http-reuse always\n"
            }
            _ => "",
        };
        // Pinned tickets pin the other way to resume too.
        let cache = match site.conditions.tickets.count() {
            Some(_) => "    tune.ssl.cachesize 0\n",
            None => "",
        };
        let (defer, early) = match self.tuning {
            HaproxyTuning::Early => (" defer-accept", " tfo"),
            _ => ("", ""),
        };
        let proxy = if self.proxy_v2 { " send-proxy-v2" } else { "" };
        Ok(format!(
            "global\n    nbthread {threads}\n    maxconn {maxconn}\n{global}{cache}\
             defaults\n    mode {mode}\n    timeout connect 5s\n    timeout client 1h\n    \
             timeout server 1h\n{splice}\
             frontend front\n    bind {listen}{tls}{defer}\n{forwarded}    default_backend back\n\
             backend back\n{reuse}    server one {upstream}{proxy}{early}\n",
            threads = site.conditions.workers,
            maxconn = connection_limit().saturating_sub(pipes),
            listen = site.listen,
            upstream = site.upstream()?,
        ))
    }
}

impl Layer for Haproxy {
    fn name(&self) -> &'static str {
        "haproxy"
    }

    fn ends_tls(&self) -> bool {
        self.tls
    }

    fn sends_proxy_v2(&self) -> bool {
        self.proxy_v2
    }

    fn command(&self, site: &Site) -> Result<Command, Trouble> {
        let file = site.write("haproxy.cfg", &self.configuration(site)?)?;
        let mut command = installed("haproxy")?;
        command.args(["-db", "-f"]).arg(file);
        Ok(with_tickets(command, site)?)
    }
}
