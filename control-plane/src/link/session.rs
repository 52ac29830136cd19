//! One agent's session: what it should run, and what it says of that. One
//! snapshot is under way at a time; when the agent has answered, the latest that
//! is wanted by then goes next. Keys go before the snapshot that names them (`keys`).
//! Commands wait for nothing (`commands`), and ticket keys wait for no snapshot (`tickets`).
//!
//! The database may go away while a session lives: what could not be written or
//! read is tried again, and the agent notices nothing.

mod commands;
mod keys;
mod tickets;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::snapshot::Fingerprint;
use tidegate_proto::PROTOCOL_VERSION;
use tidegate_proto::convert::{BadMessage, Version};
use tidegate_proto::v1::control_message::Message as Down;
use tidegate_proto::v1::{self, agent_message::Message as Up};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::Link;
use super::hello::Hello;
use super::peer::{self, Peer};
use super::said;
use crate::fleet::{Registration, Wanted};
use crate::model::{Applied, Desired, Outcome};
use crate::publish::Content;
use crate::store::{AgentState, Presence, StoreError, WriteError};

/// What goes to an agent.
pub(super) type Outgoing = ReceiverStream<Result<v1::ControlMessage, Status>>;

/// Messages to an agent that are not on the wire yet.
const OUTGOING: usize = 8;
/// For the first message of a session.
const HELLO: Duration = Duration::from_secs(10);
/// For an answer to keys or a snapshot: binding sockets and reading certificates
/// takes moments, so an agent that takes longer is stuck.
const ANSWER: Duration = Duration::from_secs(120);
/// Before a snapshot that an agent could not apply is sent to it again.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// Before what the database refused is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Over how long agents spread when this control plane stops.
const RECONNECT_WITHIN_MS: u32 = 2000;
/// Until agents are banned or certificates are issued, those lanes hold this one,
/// empty state.
const EMPTY_LANE: u64 = 1;

/// Answers a session with its stream.
pub(super) async fn begin(
    link: Arc<Link>,
    peer: Peer,
    mut incoming: Streaming<v1::AgentMessage>,
) -> Result<Outgoing, Status> {
    link.hellos.admit().await?;
    let first = timeout(HELLO, incoming.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no Hello"))??;
    let Some(Up::Hello(hello)) = first.and_then(|m| m.message) else {
        return Err(Status::invalid_argument("a session begins with Hello"));
    };
    let hello = Hello::read(hello).map_err(|why| Status::invalid_argument(why.to_string()))?;

    let id = Uuid::now_v7();
    let place = link.fleet.register(peer.agent, id);
    let (sender, outgoing) = mpsc::channel(OUTGOING);
    let session = Session {
        id,
        peer,
        place,
        outgoing: sender,
        held: hello.secrets.iter().copied().collect(),
        runs: hello.snapshot,
        refused: None,
        greeted: false,
        cuts_backends: hello.cuts_backends,
        owed: Owed::Nothing,
        unsaid: None,
        retry: false,
        tickets: tickets::Lane::new(link.publisher.ticket_keys(), hello.lanes[0]),
        link,
    };
    // On its own from here on: what it writes down is also taken back, whoever
    // hangs up meanwhile.
    tokio::spawn(session.run(incoming, hello));
    Ok(ReceiverStream::new(outgoing))
}

/// What the agent owes an answer to.
enum Owed {
    Nothing,
    Keys {
        number: u64,
        version: Version,
        content: Arc<Content>,
        until: Instant,
    },
    Snapshot {
        hash: Fingerprint,
        until: Instant,
    },
}

struct Session {
    id: Uuid,
    peer: Peer,
    place: Registration,
    outgoing: mpsc::Sender<Result<v1::ControlMessage, Status>>,
    /// Chains whose keys the agent has.
    held: HashSet<Fingerprint>,
    /// What it runs.
    runs: Option<Version>,
    /// What it could not run, and when it may be tried again: the port that was
    /// taken may be free by then.
    refused: Option<(Fingerprint, Instant)>,
    /// Whether it was told what it should run at all.
    greeted: bool,
    /// Whether it understands that command.
    cuts_backends: bool,
    owed: Owed,
    /// What it said and the database has not heard.
    unsaid: Option<Applied>,
    /// Whether the database failed us: what is wanted is looked at again.
    retry: bool,
    /// Of the listeners that end TLS.
    tickets: tickets::Lane,
    link: Arc<Link>,
}

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the agent left")]
    Left,
    #[error("a newer session of the agent took its place")]
    Replaced,
    #[error("the agent was revoked")]
    Revoked,
    #[error("the agent broke the protocol: {0}")]
    Protocol(&'static str),
    #[error(transparent)]
    Message(#[from] BadMessage),
    #[error("the agent did not answer within {}s", ANSWER.as_secs())]
    Silent,
    #[error("the stream broke: {0}")]
    Stream(Status),
    #[error("{}", .0.message())]
    Refused(Status),
}

impl Session {
    /// Enters the agent as connected. After it has its place: a change from here on
    /// reaches it.
    async fn connect(&self, hello: &Hello) -> Result<(), Status> {
        let agent = self.peer.agent;
        let away = |error: StoreError| peer::away(&error);
        let store = &self.link.store;
        if store.agent_state(agent).await.map_err(away)? == AgentState::Revoked {
            return Err(peer::revoked());
        }
        let presence = Presence {
            session: self.id,
            replica: self.link.replica,
            boot: hello.boot,
            address: hello.address,
            health_port: hello.health_port,
            version: hello.version.clone(),
            certificate_not_after: self.peer.certificate_not_after,
        };
        match store.agent_connects(agent, &presence).await {
            Ok(()) => {}
            Err(WriteError::Store(error)) => return Err(away(error)),
            Err(WriteError::Mistakes(mistakes)) => return Err(peer::impossible(&mistakes)),
        }
        // After a restored backup it holds keys that nobody remembers sending.
        if !hello.secrets.is_empty() {
            let held = store.delivering_keys(agent, &hello.secrets).await;
            held.map_err(away)?;
        }
        self.link.publisher.greet(agent).await.map_err(away)
    }

    async fn run(mut self, mut incoming: Streaming<v1::AgentMessage>, hello: Hello) {
        let agent = self.peer.agent;
        tracing::info!(%agent, address = %hello.address, version = hello.version, "connected");
        let end = match self.connect(&hello).await {
            Ok(()) => self.serve(&mut incoming, &hello).await,
            Err(status) => Err(End::Refused(status)),
        };
        match &end {
            Err(End::Left | End::Replaced) => tracing::info!(%agent, "disconnected"),
            Err(why) => tracing::warn!(%agent, %why, "disconnected"),
            Ok(never) => match *never {},
        }
        let told = match end {
            Err(End::Refused(status)) => Some(status),
            Err(why @ (End::Protocol(_) | End::Message(_))) => {
                Some(Status::invalid_argument(why.to_string()))
            }
            _ => None,
        };
        if let Some(told) = told {
            // If it does not listen any more, it need not know.
            let _ = self.outgoing.try_send(Err(told));
        }
        let left = self.link.store.agent_leaves(agent, self.id).await;
        if let Err(error) = left {
            // The replica's own silence ends the session for the others.
            tracing::debug!(%agent, %error, "the end of a session was not written");
        }
    }

    async fn serve(
        &mut self,
        incoming: &mut Streaming<v1::AgentMessage>,
        hello: &Hello,
    ) -> Result<std::convert::Infallible, End> {
        self.welcome(hello).await?;
        self.next().await?;
        loop {
            let due = self.due();
            tokio::select! {
                changed = self.place.wanted.changed() => {
                    changed.map_err(|_| End::Replaced)?;
                    self.next().await?;
                }
                Ok(()) = self.tickets.fleet.changed() => self.ticket_keys().await?,
                Some(command) = self.place.commands.recv() => self.command(command).await?,
                message = incoming.message() => match message {
                    Ok(Some(v1::AgentMessage { message: Some(message) })) => {
                        self.heard(message).await?;
                    }
                    // A message of a later version.
                    Ok(Some(v1::AgentMessage { message: None })) => {}
                    Ok(None) => return Err(End::Left),
                    Err(status) => return Err(End::Stream(status)),
                },
                () = self.outgoing.closed() => return Err(End::Left),
                () = sleep_until(due) => self.overdue().await?,
            }
        }
    }

    /// When something has to be looked at, whatever happens.
    fn due(&self) -> Instant {
        let far = Instant::now() + ANSWER;
        let answer = match &self.owed {
            Owed::Nothing => far,
            Owed::Keys { until, .. } | Owed::Snapshot { until, .. } => *until,
        };
        let answer = self.refused.map_or(answer, |(_, again)| answer.min(again));
        let answer = self.tickets.due().map_or(answer, |due| answer.min(due));
        if self.retry || self.unsaid.is_some() {
            answer.min(Instant::now() + AGAIN)
        } else {
            answer
        }
    }

    async fn overdue(&mut self) -> Result<(), End> {
        match &self.owed {
            Owed::Keys { until, .. } | Owed::Snapshot { until, .. } if *until <= Instant::now() => {
                return Err(End::Silent);
            }
            _ if self.ticket_keys_overdue() => return Err(End::Silent),
            _ => {}
        }
        self.write_held().await;
        if let Some(applied) = self.unsaid.take() {
            self.say(applied).await;
        }
        let again = self.refused.is_some_and(|(_, at)| at <= Instant::now());
        if again {
            self.refused = None;
        }
        if std::mem::take(&mut self.retry) || again {
            self.next().await?;
        }
        Ok(())
    }

    async fn welcome(&mut self, hello: &Hello) -> Result<(), End> {
        let interval = self.link.report_interval.as_millis();
        self.send(Down::Welcome(v1::Welcome {
            protocol_version: PROTOCOL_VERSION,
            features: Vec::new(),
            report_interval_ms: u32::try_from(interval).unwrap_or(u32::MAX),
            certificate_not_after: u64::try_from(self.peer.certificate_not_after.unix_timestamp())
                .unwrap_or(0),
        }))
        .await?;
        let [_, bans, challenges] = hello.lanes.map(|held| held != EMPTY_LANE);
        let number = EMPTY_LANE;
        if bans {
            let bans = Vec::new();
            self.send(Down::BanFull(v1::BanFull { number, bans }))
                .await?;
        }
        if challenges {
            let challenges = Vec::new();
            self.send(Down::Challenges(v1::Challenges { number, challenges }))
                .await?;
        }
        if let Some(version) = hello.snapshot {
            // It may run what another control plane, or a lost message, told it.
            let outcome = Outcome::Applied;
            self.say(Applied { version, outcome }).await;
        }
        Ok(())
    }

    /// Does what is wanted now, unless an answer is still owed.
    async fn next(&mut self) -> Result<(), End> {
        let wanted = self.place.wanted.borrow_and_update().clone();
        match wanted {
            Wanted::Revoked => {
                let reason = "revoked by an operator".to_owned();
                self.send(Down::Revoked(v1::Revoked { reason })).await?;
                Err(End::Revoked)
            }
            Wanted::Reconnect => {
                let within_ms = RECONNECT_WITHIN_MS;
                self.send(Down::Reconnect(v1::Reconnect { within_ms }))
                    .await
            }
            Wanted::Run(epoch, desired) => {
                self.ticket_keys_for(desired.hash).await?;
                match self.owed {
                    Owed::Nothing => self.steer(epoch, desired).await,
                    Owed::Keys { .. } | Owed::Snapshot { .. } => Ok(()),
                }
            }
            Wanted::Nothing => Ok(()),
        }
    }

    async fn steer(&mut self, epoch: Uuid, desired: Desired) -> Result<(), End> {
        let version = Version {
            epoch,
            change: desired.change,
            revision: desired.revision,
            hash: desired.hash,
        };
        let first = !std::mem::replace(&mut self.greeted, true);
        if let Some(runs) = self.runs.filter(|runs| runs.hash == desired.hash) {
            if self.refused.take().is_some() {
                // What it failed is wanted no more, and what it runs is.
                let (version, outcome) = (runs, Outcome::Applied);
                self.say(Applied { version, outcome }).await;
            }
            if first {
                let version = Some(version.into());
                self.send(Down::UpToDate(v1::UpToDate { version })).await?;
            }
            return Ok(());
        }
        if self.refused.is_some_and(|(hash, _)| hash == desired.hash) {
            return Ok(());
        }
        match self.link.publisher.content(desired.hash).await {
            // Something newer is wanted already, and will be said.
            Ok(None) => Ok(()),
            Ok(Some(content)) => self.prepare(version, content).await,
            Err(error) => {
                self.later(&error);
                Ok(())
            }
        }
    }

    async fn send_snapshot(&mut self, version: Version, content: &Content) -> Result<(), End> {
        self.owed = Owed::Snapshot {
            hash: version.hash,
            until: Instant::now() + ANSWER,
        };
        let message = content.encoded.message(version);
        self.send(Down::Snapshot(message)).await
    }

    async fn heard(&mut self, message: Up) -> Result<(), End> {
        match message {
            Up::Hello(_) => Err(End::Protocol("a second Hello")),
            Up::SnapshotStatus(status) => self.heard_status(status).await,
            Up::SecretsAck(ack) => self.heard_keys(ack).await,
            Up::CommandResult(result) => self.heard_result(result).await,
            Up::TicketKeysAck(ack) => self.heard_ticket_keys(ack).await,
            Up::BansAck(_) | Up::ChallengesAck(_) => Ok(()),
        }
    }

    async fn heard_status(&mut self, status: v1::SnapshotStatus) -> Result<(), End> {
        let Applied { version, outcome } = said::read(status)?;
        let agent = self.peer.agent;
        match &outcome {
            Outcome::Applying => {}
            Outcome::Applied => {
                tracing::debug!(%agent, change = version.change, hash = %version.hash, "applied");
                self.runs = Some(version);
                self.refused = None;
            }
            Outcome::Failed(mistakes) => {
                tracing::warn!(%agent, change = version.change, ?mistakes, "failed");
                self.refused = Some((version.hash, Instant::now() + TRY_AGAIN));
            }
        }
        let is_answer = outcome != Outcome::Applying;
        self.say(Applied { version, outcome }).await;
        let awaited = matches!(&self.owed, Owed::Snapshot { hash, .. } if *hash == version.hash);
        if is_answer && awaited {
            self.owed = Owed::Nothing;
            return self.next().await;
        }
        Ok(())
    }

    /// Writes down what the agent said, now or when the database is back. Only the
    /// latest counts.
    async fn say(&mut self, applied: Applied) {
        self.unsaid = None;
        if let Err(error) = self.link.store.agent_says(self.peer.agent, &applied).await {
            tracing::debug!(agent = %self.peer.agent, %error, "not written yet");
            self.unsaid = Some(applied);
        }
    }

    fn later(&mut self, error: &StoreError) {
        tracing::debug!(agent = %self.peer.agent, %error, "not read yet");
        self.retry = true;
    }

    async fn send(&self, message: Down) -> Result<(), End> {
        let message = v1::ControlMessage {
            message: Some(message),
        };
        // Within the bound for answers: an agent that does not read does not answer.
        match timeout(ANSWER, self.outgoing.send(Ok(message))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Left),
            Err(_) => Err(End::Silent),
        }
    }
}
