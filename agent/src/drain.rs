//! Drains with a pace: closes live connections of backends that an operator empties,
//! as many as `core::drain` says and no faster.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_core::document::{BackendName, Name};
use tidegate_core::drain::Drain;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use crate::cause::Cause;
use crate::connection::Live;
use crate::control::draw_bits;
use crate::state::Active;
use crate::worker::Workers;

/// How often connections are closed.
const STEP: Duration = Duration::from_millis(250);

type Identity = (Name, BackendName);

/// The drains under way, and the one task that carries them out.
#[derive(Default)]
pub(crate) struct Drains {
    all: Arc<Mutex<HashMap<Identity, Drain>>>,
    task: Option<AbortOnDropHandle<()>>,
}

impl Drains {
    /// Follows what `active` says: begins, keeps and ends.
    pub(crate) fn follow(&mut self, active: &Active, workers: &Arc<Workers>) {
        let mut all = lock(&self.all);
        let mut before = std::mem::take(&mut *all);
        for pool in active.pools.values() {
            for backend in &pool.backends {
                let Some(pace) = backend.spec.drain else {
                    continue;
                };
                let identity = (pool.spec.name.clone(), backend.spec.name.clone());
                let kept = before.remove(&identity).filter(|d| d.pace() == pace);
                let drain = kept.unwrap_or_else(|| Drain::new(pace, now()));
                all.insert(identity, drain);
            }
        }
        if all.is_empty() {
            self.task = None;
        } else if self.task.is_none() {
            let task = carry_out(Arc::clone(&self.all), Arc::clone(workers));
            self.task = Some(AbortOnDropHandle::new(tokio::spawn(task)));
        }
    }
}

async fn carry_out(all: Arc<Mutex<HashMap<Identity, Drain>>>, workers: Arc<Workers>) {
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        steps.tick().await;
        step(&mut lock(&all), &workers);
    }
}

/// One look at all connections serves all drains.
fn step(all: &mut HashMap<Identity, Drain>, workers: &Workers) {
    let mut theirs: HashMap<Identity, Vec<Arc<Live>>> = HashMap::new();
    for live in workers.live() {
        if let Some(backend) = live.backend() {
            let identity = (backend.pool.name.clone(), backend.name.clone());
            if all.contains_key(&identity) {
                theirs.entry(identity).or_default().push(live);
            }
        }
    }
    for (identity, drain) in all {
        let live = theirs.remove(identity).unwrap_or_default();
        let due = drain.step(now(), live.len(), draw_bits());
        for connection in live.iter().take(due) {
            connection.cut(Cause::BackendDrained);
        }
        if due > 0 {
            let ((pool, backend), left) = (identity, live.len() - due);
            tracing::info!(%pool, %backend, closed = due, left, "draining");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In milliseconds since 1970, as the control plane counts.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
