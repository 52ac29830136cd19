//! What OpenSSL does on its own in every program that links it, set from outside
//! through its configuration file, since hitch has no option for tickets.

use std::io;
use std::process::Command;

use super::Site;

/// Session tickets per full handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tickets {
    /// As the program has it: two, of OpenSSL.
    Default,
    /// None: every handshake is a full one.
    None,
    /// One.
    One,
}

impl Tickets {
    /// How many a TLS 1.3 client gets in a full handshake, when it is pinned.
    pub fn count(self) -> Option<u32> {
        match self {
            Self::Default => None,
            Self::None => Some(0),
            Self::One => Some(1),
        }
    }
}

/// Makes OpenSSL give that many (`NumTickets`, SSL_CONF_cmd(3); TLS 1.3 only: in 1.2 a
/// client asks for one, and ours does not unless it wants to resume).
pub(super) fn with_tickets(mut command: Command, site: &Site) -> io::Result<Command> {
    if let Some(count) = site.conditions.tickets.count() {
        let file = site.write("openssl.cnf", &configuration(count))?;
        command.env("OPENSSL_CONF", file);
    }
    Ok(command)
}

fn configuration(tickets: u32) -> String {
    format!(
        "openssl_conf = start\n\
         [start]\nssl_conf = modules\n\
         [modules]\nsystem_default = defaults\n\
         [defaults]\nNumTickets = {tickets}\n"
    )
}
