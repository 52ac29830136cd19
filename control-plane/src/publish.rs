//! From the database to the connected agents. A commit on any control plane
//! notifies all of them; what each then reads is the database's, so a lost
//! notification costs one poll. Snapshots are encoded once per content and shared
//! by all agents that get them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sqlx::postgres::PgListener;
use tidegate_core::backoff::Backoff;
use tidegate_core::snapshot::Fingerprint;
use tidegate_proto::convert::Encoded;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fleet::Fleet;
use crate::model::AgentId;
use crate::store::{Store, StoreError, TicketSet};

/// How long a commit may go unnoticed when its notification is lost.
const POLL: Duration = Duration::from_millis(500);
/// Between attempts while the database is away.
const AWAY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// A snapshot, ready to send.
pub(crate) struct Content {
    pub(crate) encoded: Encoded,
    /// Of the certificates it names.
    pub(crate) fingerprints: Vec<Fingerprint>,
}

/// What was read last, and what is being sent.
pub(crate) struct Publisher {
    store: Store,
    fleet: Arc<Fleet>,
    contents: Mutex<HashMap<Fingerprint, Weak<Content>>>,
    /// All ticket keys, sealed; none before they were read once.
    ticket_keys: watch::Sender<Option<Arc<TicketSet>>>,
}

impl Publisher {
    /// For the agents of this fleet.
    pub(crate) fn new(store: Store, fleet: Arc<Fleet>) -> Self {
        Self {
            store,
            fleet,
            contents: Mutex::default(),
            ticket_keys: watch::channel(None).0,
        }
    }

    /// Follows the database until told to stop; it may go away and come back.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut seen = Seen::default();
        let mut failures = 0;
        while !stop.is_cancelled() {
            let following = async {
                let mut listener = self.store.listen().await?;
                self.store.renew_epoch().await?;
                failures = 0;
                self.follow(&mut listener, &mut seen).await
            };
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = following => ended,
            };
            if let Err(error) = ended {
                if failures == 0 {
                    tracing::warn!(%error, "the database is away: agents go on with what they have");
                }
                let pause = AWAY.delay(failures, crate::clock::draw());
                failures = failures.saturating_add(1);
                tokio::time::sleep(pause.max(Duration::from_millis(50))).await;
            }
        }
    }

    async fn follow(&self, listener: &mut PgListener, seen: &mut Seen) -> Result<(), StoreError> {
        loop {
            self.look(seen).await?;
            self.pass_on().await?;
            self.look_at_ticket_keys().await?;
            match tokio::time::timeout(POLL, listener.recv()).await {
                // Which change it was plays no part: the numbers are read.
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(error)) => return Err(error.into()),
            }
        }
    }

    /// Hands commands to the agents that are connected here.
    async fn pass_on(&self) -> Result<(), StoreError> {
        for (agent, command) in self.store.take_commands(|| self.fleet.agents()).await? {
            let number = command.number;
            if !self.fleet.order(agent, command) {
                tracing::warn!(%agent, number, "a command was not said: the agent has left or is slow");
            }
        }
        Ok(())
    }

    /// Tells connected agents what changed since the last look.
    async fn look(&self, seen: &mut Seen) -> Result<(), StoreError> {
        let numbers = self.store.numbers().await?;
        if seen.epoch == Some(numbers.epoch) && seen.change == numbers.change {
            return Ok(());
        }
        if seen.epoch != Some(numbers.epoch) {
            seen.change = 0;
        } else if numbers.change < seen.change {
            // The next look finds the new epoch.
            return self.store.end_epoch(numbers.epoch).await;
        }
        let agents = self.fleet.agents();
        for agent in self.store.revoked_among(&agents).await? {
            self.fleet.revoke(agent);
        }
        for (agent, desired) in self.store.desired_since(&agents, seen.change).await? {
            self.fleet.offer(agent, numbers.epoch, desired);
        }
        *seen = Seen {
            epoch: Some(numbers.epoch),
            change: numbers.change,
        };
        Ok(())
    }

    /// Reads the ticket keys where they are others than were read last. By the number
    /// alone, which is another one after each change: a restored backup has another
    /// epoch.
    async fn look_at_ticket_keys(&self) -> Result<(), StoreError> {
        let at = self.store.ticket_number().await?;
        let read = self.ticket_keys.borrow().as_ref().map(|set| set.at);
        if read != Some(at) {
            let set = Arc::new(self.store.ticket_set().await?);
            self.ticket_keys.send_replace(Some(set));
        }
        Ok(())
    }

    /// All ticket keys of the fleet, now and whenever they change.
    pub(crate) fn ticket_keys(&self) -> watch::Receiver<Option<Arc<TicketSet>>> {
        self.ticket_keys.subscribe()
    }

    /// Tells one agent, that has just connected, what it should run. After it was
    /// registered: a commit in between is then seen by one of the two.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn greet(&self, agent: AgentId) -> Result<(), StoreError> {
        let numbers = self.store.numbers().await?;
        if let Some(desired) = self.store.desired(agent).await? {
            self.fleet.offer(agent, numbers.epoch, desired);
        }
        // An agent that comes from another control plane may have newer ticket keys.
        self.look_at_ticket_keys().await
    }

    /// A snapshot to send, shared with whoever is sending it already. `None` when
    /// it is wanted no more: something newer is.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn content(
        &self,
        hash: Fingerprint,
    ) -> Result<Option<Arc<Content>>, StoreError> {
        if let Some(content) = self.contents().get(&hash).and_then(Weak::upgrade) {
            return Ok(Some(content));
        }
        let Some((bytes, fingerprints)) = self.store.snapshot(hash).await? else {
            return Ok(None);
        };
        let content = Arc::new(Content {
            encoded: Encoded::new(bytes),
            fingerprints,
        });
        let mut contents = self.contents();
        contents.retain(|_, content| content.strong_count() > 0);
        contents.insert(hash, Arc::downgrade(&content));
        Ok(Some(content))
    }

    fn contents(&self) -> std::sync::MutexGuard<'_, HashMap<Fingerprint, Weak<Content>>> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far the database was read.
#[derive(Default)]
struct Seen {
    epoch: Option<Uuid>,
    change: u64,
}
