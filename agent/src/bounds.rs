//! What a listener takes in at most: live connections, and new ones per second, of
//! all clients and of each. What is too much for all waits in the kernel's
//! backlog; what is too much for one client is refused.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_core::rate::{Gcra, Rate, RateTable};
use tokio::sync::Notify;

use crate::facts::ListenerFacts;

/// Clients whose rate is remembered, of each listener that has one: 1 MiB. Beyond
/// them whoever has been quiet longest is forgotten.
const CLIENTS: usize = 1 << 16;

/// The bounds of one listener, as far as they are used up.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    live: AtomicU64,
    /// Told when a connection has ended, if anybody waits for that.
    freed: Notify,
    waiting: AtomicU32,
    all: Mutex<Option<Gcra>>,
    clients: Mutex<Option<RateTable>>,
}

impl Bounds {
    /// Connections open now.
    pub(crate) fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    /// Takes in one more of all clients, or says how long to wait for that.
    pub(crate) fn admit(&self, rate: Rate, now: Duration) -> Result<(), Duration> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let gcra = all.get_or_insert_with(|| Gcra::new(rate));
        gcra.retune(rate);
        gcra.admit(now)
    }

    /// Whether a client, by its keyed hash, does not come too fast.
    pub(crate) fn admits_client(&self, hash: u64, rate: Rate, now: Duration) -> bool {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let table = clients.get_or_insert_with(|| RateTable::new(rate, CLIENTS));
        table.retune(rate);
        table.admit(hash, now).is_ok()
    }

    /// The bounds have changed: whoever waits looks again. What is no longer bounded
    /// is forgotten.
    pub(crate) fn changed(&self, per_client: Option<Rate>) {
        self.freed.notify_waiters();
        if per_client.is_none() {
            *self.clients.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

/// One live connection of a listener.
#[derive(Debug)]
pub(crate) struct Seat(Arc<ListenerFacts>);

impl Seat {
    /// One more, unless the listener has as many as it may.
    pub(crate) fn take(listener: &Arc<ListenerFacts>, limit: Option<NonZeroU32>) -> Option<Self> {
        let limit = limit.map_or(u64::MAX, |limit| limit.get().into());
        let more = |live: u64| (live < limit).then(|| live + 1);
        let live = &listener.bounds.live;
        let taken = live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Self(Arc::clone(listener)))
    }

    /// One more; `None` when the bound has changed while there was no room.
    pub(crate) async fn wait(
        listener: &Arc<ListenerFacts>,
        limit: Option<NonZeroU32>,
    ) -> Option<Self> {
        let bounds = &listener.bounds;
        let mut freed = pin!(bounds.freed.notified());
        // Whoever waits says so first and then looks; whoever frees frees first.
        freed.as_mut().enable();
        let _waits = Waits::among(&bounds.waiting);
        if let Some(seat) = Self::take(listener, limit) {
            return Some(seat);
        }
        freed.await;
        Self::take(listener, limit)
    }
}

/// One of those who wait.
struct Waits<'a>(&'a AtomicU32);

impl<'a> Waits<'a> {
    fn among(waiting: &'a AtomicU32) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.bounds.live.fetch_sub(1, Ordering::SeqCst);
        if self.0.bounds.waiting.load(Ordering::SeqCst) > 0 {
            self.0.bounds.freed.notify_one();
        }
    }
}
