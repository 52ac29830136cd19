//! Keeps the ticket keys of the fleet as their schedule wants it: makes, promotes
//! and retires them, one control plane at a time, by a lease. What comes of it
//! reaches the agents through the database (`publish`), like every change.

use std::sync::Arc;
use std::time::Duration;

use tidegate_core::tickets::{Step, Timing};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::seal::Kek;
use crate::store::{Store, StoreError};

/// Of the lease: the next control plane takes over after that long.
const LEASE: Duration = Duration::from_secs(15);
/// Between two looks at most. A new listener's first tickets wait for two of them.
const LOOK: Duration = Duration::from_secs(1);

/// The work, and what it needs.
pub(crate) struct Rotation {
    pub(crate) store: Store,
    pub(crate) kek: Arc<Kek>,
    pub(crate) replica: Uuid,
    pub(crate) timing: Timing,
}

impl Rotation {
    /// Works until told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        // A share of what it times, where that is short.
        let every = LOOK.min(self.timing.rotation() / 8);
        let mut looks = tokio::time::interval(every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            match self.look().await {
                Ok(()) => failing = false,
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!(%error, "ticket keys wait for the database");
                }
                Err(_) => {}
            }
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        if !self.store.lease("ticket keys", self.replica, LEASE).await? {
            return Ok(());
        }
        let steps = self.store.keep_ticket_keys(&self.kek, &self.timing).await?;
        for (listener, step) in steps {
            match step {
                Step::Make => tracing::info!(listener, "a new ticket key is on its way"),
                Step::Promote(id) => {
                    tracing::info!(listener, id = format!("{id:016x}"), "ticket key in use");
                }
                Step::Retire(id) => {
                    tracing::info!(listener, id = format!("{id:016x}"), "ticket key retired");
                }
            }
        }
        Ok(())
    }
}
