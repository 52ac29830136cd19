//! TCP Fast Open for the length of a run: systems that send a client's first bytes in
//! the SYN need a backend that takes them. The host's setting is put back at the end.

use std::fs;

const SETTING: &str = "/proc/sys/net/ipv4/tcp_fastopen";
/// Clients and servers may, and every listening socket does without asking
/// (`Documentation/networking/ip-sysctl.rst` of the kernel).
const EVERYWHERE: &str = "1027";

/// The setting as it was.
pub(super) struct FastOpen(Option<String>);

impl FastOpen {
    /// Allows it everywhere, if that is allowed; the rows of systems that wanted it say
    /// what they did without it.
    pub(super) fn everywhere() -> Self {
        let before = fs::read_to_string(SETTING).ok();
        let set = before.filter(|_| fs::write(SETTING, EVERYWHERE).is_ok());
        if let Some(before) = &set {
            let before = before.trim();
            eprintln!("net.ipv4.tcp_fastopen is {EVERYWHERE} for this run, and {before} after it");
        }
        Self(set)
    }

    /// What holds now.
    pub(super) fn now() -> String {
        fs::read_to_string(SETTING).map_or_else(|_| "unknown".into(), |now| now.trim().into())
    }
}

impl Drop for FastOpen {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nobody is left to be told.
            let _lost = fs::write(SETTING, before);
        }
    }
}
