//! Data threads: one per core, each with an event loop, its own sockets, its own registry of live connections and its own tallies. A
//! connection stays on the thread that accepted it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use slab::Slab;
use tidegate_core::document::{BackendName, Name};
use tidegate_core::pick::Picker;
use tokio_util::sync::CancellationToken;

use crate::cause::Cause;
use crate::connection::Live;
use crate::engine::{self, Handle};
use crate::source::Source;
use crate::state::{Pool, State};
use crate::tallies::{Counted, Summary, Tallies};

/// Room that is kept in the registry when the last connection has gone.
const KEPT: usize = 1024;

/// One data thread and what it owns.
pub(crate) struct Worker {
    /// Its place among the workers.
    index: usize,
    /// Spawns on its thread.
    pub(crate) handle: Handle,
    /// What runs, the same for all workers.
    pub(crate) state: Arc<State>,
    /// Where connections to backends come from.
    pub(crate) source: Source,
    /// Cancelled when the agent drains: connections at rest may go.
    pub(crate) draining: CancellationToken,
    connections: Mutex<Slab<Arc<Live>>>,
    tallies: Mutex<Tallies>,
}

impl Worker {
    /// Enters a connection; the answer is the number to leave with.
    pub(crate) fn register(&self, live: &Arc<Live>) -> usize {
        self.connections().insert(Arc::clone(live))
    }

    /// The reverse of [`Worker::register`].
    pub(crate) fn unregister(&self, number: usize) {
        let mut connections = self.connections();
        connections.try_remove(number);
        if connections.is_empty() && connections.capacity() > KEPT {
            *connections = Slab::new();
        }
    }

    /// Its live connections.
    pub(crate) fn live(&self) -> Vec<Arc<Live>> {
        self.connections()
            .iter()
            .map(|(_, live)| Arc::clone(live))
            .collect()
    }

    /// Its tallies.
    pub(crate) fn tallies(&self) -> MutexGuard<'_, Tallies> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its picker of a pool.
    pub(crate) fn picker<'a>(&self, pool: &'a Pool) -> Option<MutexGuard<'a, Picker>> {
        let picker = pool.pickers.get(self.index)?;
        Some(picker.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn connections(&self) -> MutexGuard<'_, Slab<Arc<Live>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// All data threads.
pub(crate) struct Workers {
    all: Vec<Arc<Worker>>,
    /// What was counted before it was taken.
    past: Mutex<Summary>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &self.all {
            worker.handle.stop();
        }
    }
}

impl Workers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When the host refuses a thread or an epoll instance.
    pub(crate) fn start(
        count: usize,
        state: &Arc<State>,
        source: &Source,
        draining: &CancellationToken,
    ) -> io::Result<Self> {
        let mut all = Vec::new();
        for index in 0..count {
            all.push(Arc::new(Worker {
                index,
                handle: engine::start(format!("data-{index}"))?,
                state: Arc::clone(state),
                source: source.clone(),
                draining: draining.clone(),
                connections: Mutex::default(),
                tallies: Mutex::new(Tallies::new(state)),
            }));
        }
        Ok(Self {
            all,
            past: Mutex::default(),
        })
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Arc<Worker>> {
        self.all.iter()
    }

    /// Live connections of all.
    pub(crate) fn live(&self) -> Vec<Arc<Live>> {
        self.all.iter().flat_map(|w| w.live()).collect()
    }

    /// Ends the live connections of clients in `net`; answers how many.
    pub(crate) fn cut_clients(&self, net: IpNet) -> usize {
        let mut theirs = self.live();
        theirs.retain(|live| live.client().is_some_and(|c| net.contains(&c.ip())));
        for live in &theirs {
            live.cut(Cause::Killed);
        }
        theirs.len()
    }

    /// Ends the live connections to a backend; answers how many.
    pub(crate) fn cut_backend(&self, pool: &Name, backend: &BackendName) -> usize {
        let mut theirs = self.live();
        theirs.retain(|live| live.is_on(pool, backend));
        for live in &theirs {
            live.cut(Cause::Killed);
        }
        theirs.len()
    }

    /// What all have counted since the last call, with what live connections have
    /// carried so far.
    pub(crate) fn take_counted(&self) -> Counted {
        let mut sum = Counted::default();
        self.settled(|tallies| sum.merge(tallies.take()));
        self.past().merge(&sum);
        sum
    }

    /// What all have counted since the start, the same way.
    pub(crate) fn summary(&self) -> Summary {
        let mut summary = self.past().clone();
        self.settled(|tallies| summary.merge(tallies.counted()));
        summary
    }

    /// Brings the listeners' counters of bytes up to now.
    pub(crate) fn settle(&self) {
        self.settled(|_| {});
    }

    fn settled(&self, mut look: impl FnMut(&mut Tallies)) {
        for worker in &self.all {
            let live = worker.live();
            let mut tallies = worker.tallies();
            for connection in live {
                connection.settle(&mut tallies);
            }
            look(&mut tallies);
        }
    }

    fn past(&self) -> MutexGuard<'_, Summary> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Live connections over all listeners, as the gauges say.
pub(crate) fn live_total(state: &State) -> u64 {
    state
        .facts()
        .listeners()
        .iter()
        .map(|l| l.bounds.live())
        .sum()
}
