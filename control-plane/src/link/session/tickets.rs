//! Ticket keys of one session: those of the listeners in what the agent should
//! run, sent whole when they change, one set under way at a time. What the agent
//! acknowledges is written down, and only then may tickets be made with it.

use std::sync::Arc;

use tidegate_core::snapshot::Fingerprint;
use tidegate_core::tickets::Stage;
use tidegate_proto::v1;
use tidegate_proto::v1::control_message::Message as Down;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{ANSWER, End, Session};
use crate::seal::ticket_key_purpose;
use crate::store::{SealedTicketKey, StoreError, TicketSet};

/// The lane's side of a session.
pub(super) struct Lane {
    /// All keys of the fleet; none before they were read once.
    pub(super) fleet: watch::Receiver<Option<Arc<TicketSet>>>,
    /// What the agent should run, and which of its listeners end TLS.
    runs: Option<(Fingerprint, Vec<String>)>,
    /// What was sent last.
    sent: Option<Vec<(u64, Stage)>>,
    /// What the agent has to acknowledge.
    owed: Option<Owed>,
    /// What it acknowledged, and the database has not heard.
    unheld: Option<Vec<i64>>,
}

struct Owed {
    number: u64,
    keys: Vec<i64>,
    until: Instant,
}

impl Lane {
    /// For an agent that says it holds the set of number `held`; 0 = it holds none, and
    /// need not be told that there is none for it.
    pub(super) fn new(fleet: watch::Receiver<Option<Arc<TicketSet>>>, held: u64) -> Self {
        Self {
            fleet,
            runs: None,
            sent: (held == 0).then(Vec::new),
            owed: None,
            unheld: None,
        }
    }

    /// When it has to be looked at.
    pub(super) fn due(&self) -> Option<Instant> {
        self.owed.as_ref().map(|owed| owed.until)
    }
}

impl Session {
    /// What the agent should run is this from now on: it needs the keys of its
    /// listeners.
    pub(super) async fn ticket_keys_for(&mut self, hash: Fingerprint) -> Result<(), End> {
        if self.tickets.runs.as_ref().is_none_or(|runs| runs.0 != hash) {
            match self.link.store.terminates(hash).await {
                Ok(Some(listeners)) => self.tickets.runs = Some((hash, listeners)),
                // Something newer is wanted already, and will be said.
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.later(&error);
                    return Ok(());
                }
            }
        }
        self.ticket_keys().await
    }

    /// Sends the keys that the agent should have, where they are others than it has,
    /// unless it still owes an answer.
    pub(super) async fn ticket_keys(&mut self) -> Result<(), End> {
        let fleet = self.tickets.fleet.borrow_and_update().clone();
        let (Some(fleet), Some((_, listeners)), None) =
            (fleet, &self.tickets.runs, &self.tickets.owed)
        else {
            return Ok(());
        };
        let of = |name: &String| fleet.listeners.get_key_value(name);
        let wanted: Vec<_> = listeners.iter().filter_map(of).collect();
        let epochs = wanted.iter().flat_map(|(_, keys)| keys.iter());
        let epochs: Vec<_> = epochs.map(|k| (k.epoch.id, k.epoch.stage())).collect();
        if self.tickets.sent.as_ref() == Some(&epochs) {
            return Ok(());
        }
        let opened = wanted.into_iter().map(|(listener, keys)| {
            let keys = keys.iter().map(|key| self.opened(&fleet, listener, key));
            Ok(v1::ListenerTicketKeys {
                listener: listener.clone(),
                keys: keys.collect::<Result<_, StoreError>>()?,
            })
        });
        let opened = opened.collect::<Result<_, StoreError>>();
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // Its snapshot is more important than its tickets.
                tracing::error!(agent = %self.peer.agent, %error, "no ticket keys are sent");
                return Ok(());
            }
        };
        let lifetime = self.link.ticket_timing.lifetime().as_secs();
        let number = fleet.at.number;
        self.tickets.owed = Some(Owed {
            number,
            keys: epochs.iter().map(|(id, _)| signed(*id)).collect(),
            until: Instant::now() + ANSWER,
        });
        self.tickets.sent = Some(epochs);
        self.send(Down::TicketKeys(v1::TicketKeys {
            number,
            listeners: opened,
            lifetime_seconds: u32::try_from(lifetime).unwrap_or(u32::MAX),
        }))
        .await
    }

    fn opened(
        &self,
        fleet: &TicketSet,
        listener: &str,
        key: &SealedTicketKey,
    ) -> Result<v1::TicketKey, StoreError> {
        let SealedTicketKey { epoch, sealed } = key;
        let opened = self
            .link
            .kek
            .open(&ticket_key_purpose(listener, epoch.id), sealed)?;
        let (now, timing) = (fleet.now(), &self.link.ticket_timing);
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Ok(v1::TicketKey {
            id: epoch.id,
            key: opened.to_vec(),
            encrypts: epoch.stage() == Stage::Encrypting,
            encrypts_for_ms: ms(epoch.encrypts_for(now, timing)),
            opens_for_ms: ms(epoch.opens_for(now, timing)),
        })
    }

    /// The agent holds what it was sent; what changed meanwhile goes next.
    pub(super) async fn heard_ticket_keys(&mut self, ack: v1::LaneAck) -> Result<(), End> {
        match self.tickets.owed.take() {
            Some(owed) if owed.number == ack.number => self.tickets.unheld = Some(owed.keys),
            _ => {
                return Err(End::Protocol(
                    "ticket keys were acknowledged that were not sent",
                ));
            }
        }
        self.write_held().await;
        self.ticket_keys().await
    }

    /// Writes down what the agent acknowledged, now or when the database is back.
    pub(super) async fn write_held(&mut self) {
        let Some(keys) = self.tickets.unheld.take() else {
            return;
        };
        let (agent, store) = (self.peer.agent, &self.link.store);
        if let Err(error) = store.agent_holds(agent, self.id, &keys).await {
            self.later(&error);
            self.tickets.unheld = Some(keys);
        }
    }

    /// Whether an acknowledgement is overdue.
    pub(super) fn ticket_keys_overdue(&self) -> bool {
        self.tickets.due().is_some_and(|due| due <= Instant::now())
    }
}

fn signed(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}
