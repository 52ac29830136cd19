//! Gives memory back: after a crowd has left, the allocator would keep what the
//! crowd took until the next one comes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::state::State;
use crate::sys;
use crate::worker::live_total;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Fewer connections than this hold too little: what the last of a crowd leave behind
/// lies between what others left, and is more than their own.
const CROWD: u64 = 100;

/// Looks on, without an end.
pub(crate) async fn give_back(state: Arc<State>) {
    let mut crowd = Crowd::default();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if crowd.has_left(live_total(&state)) {
            // Milliseconds for each GiB: not on a thread that others wait for.
            let _ = tokio::task::spawn_blocking(sys::trim_heap).await;
        }
    }
}

/// The most connections since memory was given back last.
#[derive(Default)]
struct Crowd {
    most: u64,
    /// Whether those who are left are the last of a crowd.
    is_rest: bool,
    /// Whether somebody has left at the last look: what they held may have been freed only
    /// after it.
    again: bool,
}

impl Crowd {
    /// Whether at least half of the most have left, and they were many, or what was left
    /// of many.
    fn has_left(&mut self, live: u64) -> bool {
        self.most = self.most.max(live);
        self.is_rest |= self.most >= CROWD;
        let left = self.is_rest && self.most > 0 && live <= self.most / 2;
        if left {
            self.most = live;
            self.is_rest = live > 0;
            self.again = true;
            return true;
        }
        std::mem::take(&mut self.again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_each_time_half_of_a_crowd_has_left() {
        let mut crowd = Crowd::default();
        let looks = [
            0, 90, 0, 5000, 4000, 2500, 2400, 1300, 1200, 150, 70, 60, 40, 0, 0, 0, 90, 0,
        ];
        let left: Vec<_> = looks
            .into_iter()
            .filter(|live| crowd.has_left(*live))
            .collect();
        // 2400, 60 and the second 0: once more after somebody has left.
        assert_eq!(left, [2500, 2400, 1200, 150, 70, 60, 0, 0]);
    }
}
