//! One session with a control plane: Hello, Welcome, and then what the agent is
//! to run, one message after the other. What it is told to do goes to `fleet`
//! as an [`Order`] and is answered when it is done.
//!
//! A new lane: its message in `Session::take`, its number in [`Held`].

use std::sync::Arc;
use std::time::Duration;

use tidegate_core::diff::Diff;
use tidegate_core::document::{Cidr, Mistake};
use tidegate_core::snapshot::Snapshot;
use tidegate_proto::convert::{self, BadMessage, CutBackend, TicketKeys, Version};
use tidegate_proto::v1::agent_link_client::AgentLinkClient;
use tidegate_proto::v1::agent_message::Message as Said;
use tidegate_proto::v1::command::Command;
use tidegate_proto::v1::control_message::Message as Told;
use tidegate_proto::v1::snapshot_status::State;
use tidegate_proto::v1::{
    self, AgentMessage, CommandResult, ControlMessage, Hello, LaneAck, SecretsAck, SnapshotStatus,
    Welcome,
};
use tidegate_proto::{MAX_MESSAGE_BYTES, PROTOCOL_VERSION, feature, reason};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use zeroize::Zeroize;

use super::cache::Generation;
use super::fleet::{Link, Order};
use super::reason_of;
use super::renew::keep_renewed;
use super::report::deliver;
use crate::tls::Keys;

/// For the first answer: a control plane that has just started lets its agents
/// in one after the other.
const PATIENCE: Duration = Duration::from_secs(60);
/// Answers that wait to be sent.
const ANSWERS: usize = 8;
/// Private keys held at once, whatever is sent.
const MOST_KEYS: usize = 10_000;
/// Reasons sent for one snapshot.
const MOST_MISTAKES: usize = 1000;

/// What the agent has of each lane, over all sessions since it started.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) snapshot: Option<Version>,
    /// Those that the running snapshot names.
    pub(crate) running: Keys,
    /// These, and what came since the session began.
    keys: Keys,
    ticket_keys: u64,
    bans: u64,
    challenges: u64,
}

/// How a session ended.
pub(super) enum Ended {
    /// For good: the agent is out of the fleet.
    Revoked(String),
    /// The control plane has no such agent.
    UnknownAgent(String),
    /// The certificate has to be renewed first.
    Expired,
    /// The control plane is about to stop.
    Reconnect(Duration),
    /// Anything else.
    Broken(SessionError),
}

/// Why a session ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// The control plane, or the way there, ended it.
    #[error("{:?}: {}", .0.code(), .0.message())]
    Status(Box<Status>),
    /// The stream ended without a word.
    #[error("the control plane ended the session")]
    Closed,
    /// Nothing came.
    #[error("the control plane did not answer within {PATIENCE:?}")]
    TooLate,
    /// Something came that this version cannot read.
    #[error("a message that cannot be: {0}")]
    BadMessage(#[from] BadMessage),
    /// Something came when something else was to come.
    #[error("a message out of order: {0}")]
    OutOfOrder(&'static str),
    /// Another protocol.
    #[error(
        "the control plane speaks version {0} of the link, this agent {PROTOCOL_VERSION}: run \
         versions that fit together"
    )]
    Version(u32),
    /// More than an agent takes.
    #[error("more than {MOST_KEYS} private keys")]
    TooManyKeys,
    /// The agent is on its way out.
    #[error("the agent stops")]
    Stopping,
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match reason_of(&status) {
            Some(reason::REVOKED) => Self::Revoked(message),
            Some(reason::UNKNOWN_AGENT) => Self::UnknownAgent(message),
            Some(reason::EXPIRED) => Self::Expired,
            _ => Self::Broken(SessionError::Status(Box::new(status))),
        }
    }
}

impl From<SessionError> for Ended {
    fn from(error: SessionError) -> Self {
        Self::Broken(error)
    }
}

impl From<BadMessage> for Ended {
    fn from(error: BadMessage) -> Self {
        Self::Broken(error.into())
    }
}

/// Follows the control plane at the other end until the session ends.
pub(super) async fn follow(link: &mut Link, channel: Channel) -> Ended {
    // The control plane counts on every key that it was told of to stay for the
    // session, so what is no longer named goes between two.
    link.held.keys = link.held.running.clone();
    let (answers, waiting) = mpsc::channel(ANSWERS);
    let session = Session { link, answers };
    match session.run(channel, waiting).await {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

struct Session<'a> {
    link: &'a mut Link,
    answers: mpsc::Sender<AgentMessage>,
}

impl Session<'_> {
    async fn run(
        mut self,
        channel: Channel,
        waiting: mpsc::Receiver<AgentMessage>,
    ) -> Result<std::convert::Infallible, Ended> {
        self.say(Said::Hello(self.hello())).await?;
        let mut client = AgentLinkClient::new(channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let opening = async {
            let mut told = client
                .session(ReceiverStream::new(waiting))
                .await?
                .into_inner();
            let first = next(&mut told).await?;
            Ok::<_, Ended>((told, first))
        };
        let opened = timeout(PATIENCE, opening).await;
        let (mut told, first) = opened.map_err(|_| SessionError::TooLate)??;
        let welcome = match first {
            Told::Welcome(welcome) => welcome,
            Told::Revoked(revoked) => return Err(Ended::Revoked(revoked.reason)),
            _ => return Err(SessionError::OutOfOrder("Welcome has to be the first").into()),
        };
        if welcome.protocol_version != PROTOCOL_VERSION {
            return Err(SessionError::Version(welcome.protocol_version).into());
        }
        let _beside = self.beside(&welcome, channel);
        loop {
            let message = next(&mut told).await?;
            self.take(message).await?;
        }
    }

    /// What goes on for as long as the session does.
    fn beside(&self, welcome: &Welcome, channel: Channel) -> [AbortOnDropHandle<()>; 2] {
        tracing::info!(agent = %self.link.member.agent(), "following the control plane");
        let Link { outbox, member, .. } = &*self.link;
        outbox.set_interval(welcome.report_interval_ms);
        let reporting = deliver(channel.clone(), Arc::clone(outbox));
        let renewing = keep_renewed(channel, Arc::clone(member));
        [
            AbortOnDropHandle::new(tokio::spawn(reporting)),
            AbortOnDropHandle::new(tokio::spawn(renewing)),
        ]
    }

    fn hello(&self) -> Hello {
        let Held {
            snapshot,
            keys,
            ticket_keys,
            bans,
            challenges,
            ..
        } = &self.link.held;
        let bytes = |f: &tidegate_core::snapshot::Fingerprint| f.as_bytes().to_vec();
        Hello {
            protocol_version: PROTOCOL_VERSION,
            features: [feature::CUT_CLIENTS, feature::CUT_BACKEND]
                .map(str::to_owned)
                .into(),
            boot_id: self.link.boot.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: self.link.address.to_string(),
            health_port: self.link.health_port.into(),
            snapshot: snapshot.map(v1::Version::from),
            secrets: keys.fingerprints().iter().map(bytes).collect(),
            ticket_keys: *ticket_keys,
            bans: *bans,
            challenges: *challenges,
        }
    }

    async fn take(&mut self, told: Told) -> Result<(), Ended> {
        match told {
            Told::Welcome(_) => Err(SessionError::OutOfOrder("a second Welcome").into()),
            Told::Snapshot(snapshot) => self.snapshot(snapshot).await,
            Told::UpToDate(up_to_date) => self.up_to_date(up_to_date),
            Told::Secrets(secrets) => self.secrets(secrets).await,
            Told::TicketKeys(keys) => self.ticket_keys(keys).await,
            Told::BanFull(bans) => self.bans(bans.number).await,
            Told::BanDelta(bans) if bans.from != self.link.held.bans => {
                Err(SessionError::OutOfOrder("bans after others than are held").into())
            }
            Told::BanDelta(bans) => self.bans(bans.to).await,
            Told::Challenges(challenges) => {
                let number = challenges.number;
                let answers = challenges.challenges.into_iter();
                let answers = answers.map(|c| (c.token, c.key_authorization.into()));
                self.order(Order::Challenges(answers.collect())).await?;
                self.link.held.challenges = number;
                self.say(Said::ChallengesAck(LaneAck { number })).await
            }
            Told::Command(command) => self.command(command).await,
            Told::Reconnect(reconnect) => Err(Ended::Reconnect(Duration::from_millis(
                reconnect.within_ms.into(),
            ))),
            Told::Revoked(revoked) => Err(Ended::Revoked(revoked.reason)),
        }
    }

    async fn snapshot(&mut self, wire: v1::Snapshot) -> Result<(), Ended> {
        let version = wire.version.clone().ok_or(BadMessage::Missing("version"))?;
        let version = Version::try_from(version)?;
        self.state(version, State::Applying, Vec::new()).await?;
        // Large ones take a while, and checks go on on this thread.
        let decoded = tokio::task::spawn_blocking(move || decode(wire)).await;
        let applied = match decoded.unwrap_or_else(|_| Err(unreadable(&"it cannot be read"))) {
            Ok(snapshot) => self.apply(version, snapshot).await?,
            Err(mistake) => Err(vec![mistake]),
        };
        match applied {
            Ok(_) => {
                self.link.held.snapshot = Some(version);
                self.state(version, State::Applied, Vec::new()).await
            }
            Err(mut mistakes) => {
                mistakes.truncate(MOST_MISTAKES);
                self.state(version, State::Failed, mistakes).await
            }
        }
    }

    /// Applies it and keeps it: what is told to be applied is also there after a
    /// restart.
    async fn apply(
        &mut self,
        version: Version,
        snapshot: Snapshot,
    ) -> Result<Result<Option<Diff>, Vec<Mistake>>, Ended> {
        let keys = self.link.held.keys.named_by(&snapshot);
        let (done, answer) = oneshot::channel();
        let order = Order::Apply {
            version,
            snapshot: snapshot.clone(),
            keys: keys.clone(),
            done,
        };
        self.order(order).await?;
        let applied = answer.await.map_err(|_| SessionError::Stopping)?;
        if let Ok(changed) = &applied {
            let kept = self.link.held.snapshot.map(|held| held.hash) == Some(version.hash);
            self.link.held.running = keys.clone();
            if changed.is_some() || !kept {
                let generation = Generation {
                    version,
                    snapshot,
                    keys,
                };
                self.link.keep(generation).await;
            }
        }
        Ok(applied)
    }

    fn up_to_date(&mut self, up_to_date: v1::UpToDate) -> Result<(), Ended> {
        let version = up_to_date.version.ok_or(BadMessage::Missing("version"))?;
        let version = Version::try_from(version)?;
        if self.link.held.snapshot.map(|held| held.hash) != Some(version.hash) {
            return Err(SessionError::OutOfOrder("UpToDate with what is not held").into());
        }
        self.link.held.snapshot = Some(version);
        Ok(())
    }

    /// A key that cannot be read is not held: the snapshot that names it fails
    /// and says so.
    async fn secrets(&mut self, secrets: v1::Secrets) -> Result<(), Ended> {
        let keys = &mut self.link.held.keys;
        for mut key in secrets.keys {
            let chain = convert::fingerprint(&key.fingerprint)?;
            if let Err(error) = keys.insert_for(chain, &key.private_key_pem) {
                tracing::warn!(%chain, error, "a private key cannot be used");
            }
            key.private_key_pem.zeroize();
        }
        let held = keys.fingerprints();
        if held.len() > MOST_KEYS {
            return Err(SessionError::TooManyKeys.into());
        }
        let fingerprints = held.iter().map(|f| f.as_bytes().to_vec()).collect();
        let number = secrets.number;
        self.say(Said::SecretsAck(SecretsAck {
            number,
            fingerprints,
        }))
        .await
    }

    /// Acknowledged when tickets of other terminators are opened with them: only then
    /// may those be made.
    async fn ticket_keys(&mut self, keys: v1::TicketKeys) -> Result<(), Ended> {
        let keys = TicketKeys::try_from(keys)?;
        let number = keys.number;
        let (done, answer) = oneshot::channel();
        self.order(Order::TicketKeys { keys, done }).await?;
        answer.await.map_err(|_| SessionError::Stopping)?;
        self.link.held.ticket_keys = number;
        self.say(Said::TicketKeysAck(LaneAck { number })).await
    }

    async fn bans(&mut self, number: u64) -> Result<(), Ended> {
        self.link.held.bans = number;
        self.say(Said::BansAck(LaneAck { number })).await
    }

    async fn command(&mut self, command: v1::Command) -> Result<(), Ended> {
        let number = command.number;
        let (done, answer) = oneshot::channel();
        let (error, connections) = match ordered(command, done) {
            Ok(order) => {
                self.order(order).await?;
                let cut = answer.await.map_err(|_| SessionError::Stopping)?;
                (String::new(), u64::try_from(cut).unwrap_or(u64::MAX))
            }
            Err(error) => (error, 0),
        };
        self.say(Said::CommandResult(CommandResult {
            number,
            error,
            connections,
        }))
        .await
    }

    async fn state(
        &self,
        version: Version,
        state: State,
        mistakes: Vec<Mistake>,
    ) -> Result<(), Ended> {
        self.say(Said::SnapshotStatus(SnapshotStatus {
            version: Some(version.into()),
            state: state.into(),
            mistakes: mistakes.into_iter().map(v1::Mistake::from).collect(),
        }))
        .await
    }

    async fn order(&self, order: Order) -> Result<(), Ended> {
        let sent = self.link.orders.send(order).await;
        sent.map_err(|_| SessionError::Stopping.into())
    }

    async fn say(&self, said: Said) -> Result<(), Ended> {
        let message = AgentMessage {
            message: Some(said),
        };
        let sent = self.answers.send(message).await;
        sent.map_err(|_| SessionError::Closed.into())
    }
}

/// What a command comes to; in words why to nothing.
fn ordered(command: v1::Command, done: oneshot::Sender<usize>) -> Result<Order, String> {
    match command.command {
        Some(Command::CutClients(net)) => {
            let net = net.parse::<Cidr>().map_err(|error| error.to_string())?;
            let net = net.net();
            Ok(Order::CutClients { net, done })
        }
        Some(Command::CutBackend(whose)) => {
            let whose = CutBackend::try_from(whose).map_err(|error| error.to_string())?;
            Ok(Order::CutBackend { whose, done })
        }
        None => Err("this version of the agent does not know the command".into()),
    }
}

/// The next message; one that this version does not know is passed over.
async fn next(told: &mut Streaming<ControlMessage>) -> Result<Told, Ended> {
    loop {
        let message = told.message().await?.ok_or(SessionError::Closed)?;
        if let Some(told) = message.message {
            return Ok(told);
        }
    }
}

fn decode(wire: v1::Snapshot) -> Result<Snapshot, Mistake> {
    let (_, bytes) = convert::snapshot(wire).map_err(|error| unreadable(&error))?;
    Snapshot::decode(&bytes).map_err(|error| unreadable(&error))
}

fn unreadable(error: &dyn std::fmt::Display) -> Mistake {
    Mistake::new("", format!("the snapshot cannot be read: {error}"))
}
