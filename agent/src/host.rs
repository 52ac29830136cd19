//! What the host's settings take away from what is to run, said once with the
//! command that gives it back. Nothing here is an error: all of it works without,
//! at a higher price.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_core::snapshot::{Snapshot, Work};

/// Settings of the host that matter to us; `None` where they cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    /// `net.ipv4.tcp_fastopen`: 1 for clients, 2 for servers.
    fast_open: Option<u32>,
    /// `net.core.somaxconn`.
    somaxconn: Option<u32>,
}

impl Host {
    /// As they are now.
    pub(crate) fn read() -> Self {
        let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse().ok();
        Self {
            fast_open: number("/proc/sys/net/ipv4/tcp_fastopen"),
            somaxconn: number("/proc/sys/net/core/somaxconn"),
        }
    }

    /// What `snapshot` asks for in vain, a sentence each.
    pub(crate) fn advice(&self, snapshot: &Snapshot) -> Vec<String> {
        let lacks = |bit: u32| self.fast_open.filter(|flags| flags & bit == 0);
        let mut advice = Vec::new();
        if let Some(flags) = lacks(1)
            && let Some(pool) = snapshot.pools.iter().find(|pool| pool.fast_open)
        {
            advice.push(format!(
                "net.ipv4.tcp_fastopen is {flags}: first bytes to pool {} wait for its backends to \
                 accept; sysctl -w net.ipv4.tcp_fastopen=3",
                pool.name
            ));
        }
        let terminates = |work: &Work| matches!(work, Work::Terminate(_));
        if let Some(flags) = lacks(2)
            && let Some(listener) = snapshot.listeners.iter().find(|l| terminates(&l.work))
        {
            advice.push(format!(
                "net.ipv4.tcp_fastopen is {flags}: listener {} takes no bytes in the SYN of \
                 balancers; sysctl -w net.ipv4.tcp_fastopen=3",
                listener.name
            ));
        }
        let largest = snapshot
            .listeners
            .iter()
            .max_by_key(|l| l.tcp.backlog.get());
        if let (Some(most), Some(listener)) = (self.somaxconn, largest)
            && listener.tcp.backlog.get() > most
        {
            let backlog = listener.tcp.backlog.get();
            advice.push(format!(
                "net.core.somaxconn is {most}: listener {} asks for a backlog of {backlog}; \
                 sysctl -w net.core.somaxconn={backlog}",
                listener.name
            ));
        }
        advice
    }
}

/// Tells that this host has no descriptor, port or memory left for something: once in a
/// second, since thousands want it at the same time.
pub(crate) fn tell_want(error: &io::Error, wanted: &'static str) {
    static TOLD: Seldom = Seldom::new();
    if TOLD.is_time() {
        tracing::error!(%error, wanted, "this host has no room left");
    }
}

/// Something that is said once in a second at most, however many connections meet it.
pub(crate) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Never said yet.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether to say it, which is then done.
    pub(crate) fn is_time(&self) -> bool {
        let now = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = last.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(1));
        if is_time {
            *last = Some(now);
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::two_backends;

    #[test]
    fn what_is_asked_for_in_vain_is_said_with_its_mend() {
        let mut snapshot = two_backends();
        let host = Host {
            fast_open: Some(0),
            somaxconn: Some(128),
        };
        let advice = host.advice(&snapshot);
        assert_eq!(advice.len(), 1, "{advice:?}");
        assert!(advice[0].contains("sysctl -w net.core.somaxconn=4096"));
        snapshot.pools[0].fast_open = true;
        assert!(host.advice(&snapshot)[0].contains("tcp_fastopen=3"));
    }

    #[test]
    fn a_host_that_gives_all_or_says_nothing_is_left_alone() {
        let mut snapshot = two_backends();
        snapshot.pools[0].fast_open = true;
        let host = Host {
            fast_open: Some(3),
            somaxconn: Some(4096),
        };
        assert_eq!(host.advice(&snapshot), [""; 0]);
        assert_eq!(Host::default().advice(&snapshot), [""; 0]);
    }
}
