//! Open files: what the kernel lets this process have, asked for once at start,
//! and how the two servers share it. `app` raises it; the servers ask for their
//! share when they begin.

use rustix::process::{Resource, Rlimit};

/// For what is no connection of a client: the database, the ports, the runtime's
/// own, files that are read.
const RESERVE: u64 = 128;
/// REST, at most: people and programs come by the dozen.
const REST_AT_MOST: u64 = 1024;
/// The link, at most: three times the largest fleet, so that all of it may move
/// here while its old connections die.
const LINK_AT_MOST: u64 = 16_384;
/// Each server, at least, whatever the kernel says: with no place at all nobody
/// could learn why.
const AT_LEAST: u64 = 16;

/// Connections at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) rest: usize,
    pub(crate) link: usize,
}

impl Shares {
    /// Of what this process may have open now.
    pub(crate) fn now() -> Self {
        Self::of(rustix::process::getrlimit(Resource::Nofile).current)
    }

    /// A quarter for REST, the rest for the link; `None` is no limit.
    fn of(files: Option<u64>) -> Self {
        let free = files.unwrap_or(u64::MAX).saturating_sub(RESERVE);
        let rest = (free / 4).min(REST_AT_MOST);
        let link = (free - rest).min(LINK_AT_MOST);
        // Both are small: the bounds are above.
        let places = |share: u64| usize::try_from(share.max(AT_LEAST)).unwrap_or(usize::MAX);
        Self {
            rest: places(rest),
            link: places(link),
        }
    }
}

/// Raises the soft limit of open files to the hard one: a service usually starts
/// with 1024, which is less than a fleet.
pub(crate) fn raise_open_files() {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, "the limit of open files stays as it is: raise it (LimitNOFILE=)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
        let lower = Rlimit {
            current: Some(maximum.unwrap_or(1 << 20) - 1),
            maximum,
        };
        rustix::process::setrlimit(Resource::Nofile, lower).unwrap();
        raise_open_files();
        let raised = rustix::process::getrlimit(Resource::Nofile);
        assert_eq!(raised.current, maximum);
    }

    #[test]
    fn both_servers_together_leave_the_reserve_free() {
        for files in [1024, 4096, 65_536, 1 << 30] {
            let Shares { rest, link } = Shares::of(Some(files));
            let both = u64::try_from(rest + link).unwrap();
            assert!(both + RESERVE <= files, "{files}: {rest} and {link}");
        }
    }

    #[test]
    fn shares_grow_with_the_limit_up_to_a_bound() {
        let shares = |rest, link| Shares { rest, link };
        for (files, expected) in [
            (Some(0), shares(16, 16)),
            (Some(1024), shares(224, 672)),
            (Some(4096), shares(992, 2976)),
            (Some(1 << 20), shares(1024, 16_384)),
            (None, shares(1024, 16_384)),
        ] {
            assert_eq!(Shares::of(files), expected, "{files:?}");
        }
    }
}
