//! hitch, the maintained successor of stud: TLS in, bytes out.

use std::process::Command;

use super::openssl::with_tickets;
use super::{Layer, Site, Trouble, installed};

/// hitch, as it comes.
#[derive(Clone, Copy, Debug)]
pub struct Hitch;

/// The user without rights, on every Linux.
const NOBODY: u32 = 65_534;

impl Layer for Hitch {
    fn name(&self) -> &'static str {
        "hitch"
    }

    fn ends_tls(&self) -> bool {
        true
    }

    fn command(&self, site: &Site) -> Result<Command, Trouble> {
        let upstream = site.upstream()?;
        let file = format!(
            "frontend = {{\n  host = \"{}\"\n  port = \"{}\"\n}}\n\
             backend = \"[{}]:{}\"\npem-file = \"{}\"\nworkers = {}\nbacklog = 4096\n\
             ocsp-dir = \"\"\nlog-level = 0\ndaemon = off\n",
            site.listen.ip(),
            site.listen.port(),
            upstream.ip(),
            upstream.port(),
            site.certificate().both.display(),
            site.conditions.workers,
        );
        let file = site.write("hitch.conf", &file)?;
        let mut command = installed("hitch")?;
        command.arg("--config").arg(file);
        Ok(with_tickets(command, site)?)
    }

    /// It refuses to stay root, and a change of user would untie it from us.
    fn user(&self) -> Option<(u32, u32)> {
        rustix::process::geteuid()
            .is_root()
            .then_some((NOBODY, NOBODY))
    }
}
