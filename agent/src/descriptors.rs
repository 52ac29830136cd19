//! Descriptors: how many connections this process can hold, and whether what it is
//! to run fits. A proxied connection takes two; listening sockets take one for each
//! data thread and address.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::bail;
use tidegate_core::document::Mistake;
use tokio::sync::Semaphore;

use crate::sys;

/// For checks under way (256 at most), files, the link, epoll.
const OWN: u64 = 384;
/// Fewer connections than this are a mistake of whoever set the limit.
const LEAST: u64 = 64;

/// The bound of live connections, as descriptors allow.
pub(crate) struct Descriptors {
    files: u64,
    /// Whether the bound was asked for, and not made of the limit.
    asked: bool,
    bound: AtomicU32,
    permits: Arc<Semaphore>,
}

impl Descriptors {
    /// Raises the soft limit to the hard one. `wanted` connections, or as many as
    /// there can be.
    ///
    /// # Errors
    /// When that is none, or next to none.
    pub(crate) fn new(wanted: Option<u32>) -> anyhow::Result<Self> {
        let files = sys::raise_open_files();
        let possible = possible(files, 0);
        let bound = match wanted {
            Some(0) => bail!("--max-connections 0 serves nobody: leave it out, or give a number"),
            Some(wanted) => {
                if u64::from(wanted) > possible {
                    tracing::warn!(
                        wanted,
                        possible,
                        "--max-connections is more than open files allow (ulimit -n): clients \
                         beyond that are accepted and find no way to a backend"
                    );
                }
                wanted
            }
            None if possible < LEAST => bail!(too_few(files, 0)),
            None => most(files, 0),
        };
        Ok(Self {
            files,
            asked: wanted.is_some(),
            bound: AtomicU32::new(bound),
            permits: Arc::new(Semaphore::new(usize::try_from(bound)?)),
        })
    }

    /// One for each live connection.
    pub(crate) fn permits(&self) -> &Arc<Semaphore> {
        &self.permits
    }

    /// How many of them there are.
    pub(crate) fn bound(&self) -> u32 {
        self.bound.load(Ordering::Relaxed)
    }

    /// Whether so many listening sockets leave room for connections.
    ///
    /// # Errors
    /// When they do not.
    pub(crate) fn check(&self, sockets: usize) -> Result<(), Mistake> {
        let sockets = u64::try_from(sockets).unwrap_or(u64::MAX);
        if possible(self.files, sockets) < LEAST && !self.asked {
            return Err(Mistake::new("/listeners", too_few(self.files, sockets)));
        }
        Ok(())
    }

    /// Gives connections what so many listening sockets leave, unless their number was
    /// asked for.
    pub(crate) fn fit(&self, sockets: usize) {
        if self.asked {
            return;
        }
        let sockets = u64::try_from(sockets).unwrap_or(u64::MAX);
        let (before, now) = (self.bound(), most(self.files, sockets));
        let count = |permits: u32| usize::try_from(permits).unwrap_or(0);
        let bound = if now >= before {
            self.permits.add_permits(count(now - before));
            now
        } else {
            // Those in use cannot be taken back; there are fewer descriptors than hoped.
            let taken = self.permits.forget_permits(count(before - now));
            before.saturating_sub(u32::try_from(taken).unwrap_or(0))
        };
        self.bound.store(bound, Ordering::Relaxed);
    }
}

/// How many connections there can be beside so many listening sockets.
fn possible(files: u64, sockets: u64) -> u64 {
    files.saturating_sub(OWN).saturating_sub(sockets) / 2
}

/// As many as descriptors allow, bounded by what a semaphore holds.
fn most(files: u64, sockets: u64) -> u32 {
    let possible = possible(files, sockets);
    u32::try_from(possible).unwrap_or(u32::MAX).min(1 << 28)
}

fn too_few(files: u64, sockets: u64) -> String {
    let least = OWN + sockets + 2 * LEAST;
    format!(
        "only {files} files may be open (ulimit -n), and {sockets} listening sockets with {LEAST} \
         connections need {least}: raise that to {} at least (LimitNOFILE= in a systemd unit), or \
         set --max-connections",
        least.next_multiple_of(1024)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: u64, bound: u32, asked: bool) -> Descriptors {
        Descriptors {
            files,
            asked,
            bound: AtomicU32::new(bound),
            permits: Arc::new(Semaphore::new(bound as usize)),
        }
    }

    #[test]
    fn listening_sockets_take_from_connections_and_give_back() {
        let descriptors = of(2384, 1000, false);
        for (sockets, bound) in [(0, 1000), (200, 900), (100, 950), (0, 1000)] {
            descriptors.fit(sockets);
            assert_eq!(descriptors.bound(), bound);
            assert_eq!(descriptors.permits().available_permits(), bound as usize);
        }
    }

    #[test]
    fn what_leaves_no_room_is_refused_with_the_mend() {
        let mistake = of(2384, 1000, false).check(1900).unwrap_err();
        assert_eq!(mistake.pointer, "/listeners");
        for words in [
            "2384 files",
            "1900 listening sockets",
            "LimitNOFILE=",
            "3072",
        ] {
            assert!(mistake.message.contains(words), "{mistake}");
        }
        // Who has set the number has been warned, and gets it.
        let asked = of(2384, 1000, true);
        asked.check(1900).unwrap();
        asked.fit(1900);
        assert_eq!(asked.bound(), 1000);
    }
}
