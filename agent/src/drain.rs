//! Drains with a pace: closes live connections of backends that an operator empties,
//! as many as `core::drain` says and no faster.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_core::document::{BackendName, Name};
use tidegate_core::drain::Drain;
use tidegate_core::snapshot::DrainPace;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use crate::cause::Cause;
use crate::control::draw_bits;
use crate::state::Active;
use crate::worker::Workers;

/// How often connections are closed.
const STEP: Duration = Duration::from_millis(250);

/// The drains under way.
#[derive(Default)]
pub(crate) struct Drains(HashMap<(Name, BackendName), Draining>);

struct Draining {
    pace: DrainPace,
    _task: AbortOnDropHandle<()>,
}

impl Drains {
    /// Follows what `active` says: begins, keeps and ends.
    pub(crate) fn follow(&mut self, active: &Active, workers: &Arc<Workers>) {
        let mut before = std::mem::take(&mut self.0);
        for pool in active.pools.values() {
            for backend in &pool.backends {
                let Some(pace) = backend.spec.drain else {
                    continue;
                };
                let identity = (pool.spec.name.clone(), backend.spec.name.clone());
                let kept = before.remove(&identity).filter(|d| d.pace == pace);
                let draining = kept.unwrap_or_else(|| {
                    let (pool, backend) = identity.clone();
                    let task = drain(pool, backend, pace, Arc::clone(workers));
                    Draining {
                        pace,
                        _task: AbortOnDropHandle::new(tokio::spawn(task)),
                    }
                });
                self.0.insert(identity, draining);
            }
        }
    }
}

async fn drain(pool: Name, backend: BackendName, pace: DrainPace, workers: Arc<Workers>) {
    let mut drain = Drain::new(pace, now());
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        steps.tick().await;
        let live = workers.live_on(&pool, &backend);
        let due = drain.step(now(), live.len(), draw_bits());
        for connection in live.iter().take(due) {
            connection.cut(Cause::BackendDrained);
        }
        if due > 0 {
            let left = live.len() - due;
            tracing::info!(%pool, %backend, closed = due, left, "draining");
        }
    }
}

/// In milliseconds since 1970, as the control plane counts.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
