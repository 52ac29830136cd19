//! An agent of a fleet: its identity, what it ran last, and the link that tells
//! it what to run. [`Fleet::join`] comes before anything is served,
//! [`Fleet::restore`] serves what is kept, [`Fleet::steer`] follows the control
//! plane from then on, [`Fleet::drain`] on the way out. The link dials on a task of its own and hands over
//! [`Order`]s, which are carried out here, one after the other.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tidegate_core::backoff::Backoff;
use tidegate_core::diff::Diff;
use tidegate_core::document::Mistake;
use tidegate_core::snapshot::Snapshot;
use tidegate_proto::convert::{CutBackend, TicketKeys, Version};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::cache::{Cache, Generation};
use super::dial::{ControlPlanes, Dialled, dial};
use super::enroll::{self, Joining};
use super::identity::{Identity, Member};
use super::renew::{RenewError, renew};
use super::report::{Outbox, Seen, collect};
use super::session::{Ended, Held, follow};
use super::state_dir::StateDir;
use super::{Failures, draw, link_tls, reason_of};
use crate::plane::Plane;
use crate::settings::Run;
use crate::shutdown::Signals;
use crate::state::Challenges;
use crate::tls::Keys;
use crate::worker::Workers;

/// Between sessions. The first retry after a long one is soon: the ceiling of
/// the first wait is the base.
const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
/// Where the control plane does not know the agent, people have to act first.
const UNKNOWN_RETRY: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(300));
/// A session that lived as long has worked.
const WORKED: Duration = Duration::from_secs(30);
/// What is left of a revoked agent.
const REVOKED_FILE: &str = "revoked.json";
const LARGEST_NOTE: u64 = 64 << 10;

/// What the control plane wants done.
pub(super) enum Order {
    /// This is to run.
    Apply {
        version: Version,
        snapshot: Snapshot,
        keys: Keys,
        done: oneshot::Sender<Result<Option<Diff>, Vec<Mistake>>>,
    },
    /// These clients are to go.
    CutClients {
        net: IpNet,
        /// How many connections that were.
        done: oneshot::Sender<usize>,
    },
    /// The connections to this backend are to go.
    CutBackend {
        whose: CutBackend,
        /// How many connections that were.
        done: oneshot::Sender<usize>,
    },
    /// Session tickets are made and opened with these.
    TicketKeys {
        keys: TicketKeys,
        /// When they are.
        done: oneshot::Sender<()>,
    },
    /// ACME may ask for these, and no others.
    Challenges(Challenges),
    /// The agent is out of the fleet.
    Revoked,
}

/// Why an agent no longer follows its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was told to stop.
    Signal,
    /// The control plane has put it out of the fleet.
    Revoked,
}

/// An agent of a fleet.
pub(crate) struct Fleet {
    address: IpAddr,
    link: Option<Link>,
    orders: mpsc::Receiver<Order>,
    /// The link, and the reports it delivers.
    tasks: Vec<AbortOnDropHandle<()>>,
}

/// What the task that dials has.
pub(super) struct Link {
    control_planes: ControlPlanes,
    pub(super) member: Arc<Member>,
    cache: Arc<Cache>,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) boot: Uuid,
    pub(super) address: IpAddr,
    pub(super) health_port: u16,
    pub(super) held: Held,
    /// Whether the certificate was renewed and not tried yet.
    fresh: bool,
    pub(super) outbox: Arc<Outbox>,
}

impl Fleet {
    /// The identity kept in the state directory, or a new one by the join token.
    ///
    /// # Errors
    /// What keeps the agent from having one, with the mend.
    pub(crate) async fn join(settings: &Run) -> anyhow::Result<Self> {
        let dir = StateDir::open(&settings.state_dir)?;
        let cache = Cache::open(&dir, settings.cache_key_file.as_deref())?;
        let control_planes = ControlPlanes(settings.control_planes.clone());
        let identity = match Identity::load(&dir)? {
            Some(identity) => {
                tracing::debug!("there is an identity: a join token is not looked at");
                known(identity, settings)?
            }
            None => enrolled(settings, &control_planes, &dir).await?,
        };
        let (sender, orders) = mpsc::channel(1);
        let boot = Uuid::new_v4();
        let link = Link {
            address: settings.address.unwrap_or(identity.address),
            control_planes,
            member: Arc::new(Member::new(dir, identity)),
            cache: Arc::new(cache),
            orders: sender,
            boot,
            outbox: Arc::new(Outbox::new(boot)),
            health_port: settings.common.health_port,
            held: Held::default(),
            fresh: false,
        };
        Ok(Self {
            address: link.address,
            link: Some(link),
            orders,
            tasks: Vec::new(),
        })
    }

    /// The agent's own address.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// Runs what was applied last, as far as it is kept.
    pub(crate) async fn restore(&mut self, plane: &mut Plane) {
        let Some(link) = &mut self.link else { return };
        let Some(kept) = link.cache.load(&link.member.dir) else {
            tracing::info!("no snapshot is kept: waiting for the first one");
            return;
        };
        match plane.applier.restore(kept.snapshot, &kept.keys).await {
            Ok(_) => {
                link.held.snapshot = Some(kept.version);
                link.held.running = kept.keys;
            }
            Err(mistakes) => {
                let mistakes: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
                tracing::error!(?mistakes, "the kept snapshot cannot be applied");
            }
        }
    }

    /// Follows the control plane until a signal or the end of membership.
    pub(crate) async fn steer(&mut self, plane: &mut Plane, signals: &mut Signals) -> Ending {
        let mut serves = self
            .link
            .as_ref()
            .is_some_and(|l| l.held.snapshot.is_some());
        if serves {
            plane.announce();
        }
        let changed = plane.applier.probes.changed();
        let seen = Seen {
            state: Arc::clone(&plane.applier.state),
            workers: Arc::clone(&plane.applier.workers),
            changed: Arc::clone(&changed),
        };
        if let Some(link) = self.link.take() {
            // Goes on through the drain: until its end the agent is in the fleet.
            let reporting = collect(seen, Arc::clone(&link.outbox));
            self.tasks = vec![
                AbortOnDropHandle::new(tokio::spawn(reporting)),
                AbortOnDropHandle::new(tokio::spawn(link.run())),
            ];
        }
        loop {
            let order = tokio::select! {
                () = signals.first() => return Ending::Signal,
                // Without a sender, which only a fault of ours takes away, what runs goes on.
                Some(order) = self.orders.recv() => order,
            };
            match order {
                Order::Apply {
                    version,
                    snapshot,
                    keys,
                    done,
                } => {
                    let applied = apply(plane, version, snapshot, &keys).await;
                    changed.notify_one();
                    if applied.is_ok() && !serves {
                        serves = true;
                        plane.announce();
                    }
                    // Nobody waits when the session has ended meanwhile.
                    let _ = done.send(applied);
                }
                Order::CutClients { net, done } => cut_clients(&plane.applier.workers, net, done),
                Order::CutBackend { whose, done } => {
                    cut_backend(&plane.applier.workers, &whose, done);
                }
                Order::TicketKeys { keys, done } => {
                    plane.applier.state.tickets().replace(keys);
                    let _ = done.send(());
                }
                Order::Challenges(answers) => plane.applier.state.set_challenges(answers),
                Order::Revoked => {
                    // At once, not at the end of the drain.
                    plane.applier.state.tickets().clear();
                    return Ending::Revoked;
                }
            }
        }
    }

    /// Carries out, while the agent drains, what it still can, without an end. A
    /// snapshot ends the session that brought it; the link dials again, and so
    /// still hears that the agent is revoked.
    pub(crate) async fn drain(&mut self, workers: &Workers) -> Infallible {
        while let Some(order) = self.orders.recv().await {
            match order {
                Order::Apply { done, .. } => drop(done),
                Order::CutClients { net, done } => cut_clients(workers, net, done),
                Order::CutBackend { whose, done } => cut_backend(workers, &whose, done),
                // No handshake comes that could use them.
                Order::TicketKeys { done, .. } => drop(done.send(())),
                Order::Challenges(_) => {}
                // Its files are gone already, and it is on its way out.
                Order::Revoked => {}
            }
        }
        std::future::pending().await
    }
}

fn cut_clients(workers: &Workers, net: IpNet, done: oneshot::Sender<usize>) {
    let cut = workers.cut_clients(net);
    tracing::info!(%net, connections = cut, "clients cut");
    // Nobody waits when the session has ended meanwhile.
    let _ = done.send(cut);
}

fn cut_backend(workers: &Workers, whose: &CutBackend, done: oneshot::Sender<usize>) {
    let CutBackend { pool, backend } = whose;
    let cut = workers.cut_backend(pool, backend);
    tracing::info!(%pool, %backend, connections = cut, "a backend's connections cut");
    let _ = done.send(cut);
}

async fn apply(
    plane: &mut Plane,
    version: Version,
    snapshot: Snapshot,
    keys: &Keys,
) -> Result<Option<Diff>, Vec<Mistake>> {
    let applied = plane.applier.apply(snapshot, keys).await;
    let Version {
        change,
        revision,
        hash,
        ..
    } = version;
    match &applied {
        Ok(None) => tracing::info!(%hash, change, revision, "unchanged"),
        Ok(Some(diff)) => {
            let took_ms = plane.applier.counts.took_ms.load(Ordering::Relaxed);
            tracing::info!(%hash, change, revision, took_ms, changes = %diff, "applied");
        }
        Err(mistakes) => {
            plane.applier.count_refused();
            let mistakes: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
            tracing::error!(%hash, change, revision, ?mistakes, "refused");
        }
    }
    applied
}

/// An agent that has joined before.
fn known(identity: Identity, settings: &Run) -> anyhow::Result<Identity> {
    let missing = settings.roles().find(|r| !identity.roles.contains(r));
    if let Some(role) = missing {
        bail!(
            "this agent joined without the role {role}, and --role asks for it: leave --role out, \
             or join again with a token that gives it, in another --state-dir"
        );
    }
    Ok(identity)
}

async fn enrolled(
    settings: &Run,
    control_planes: &ControlPlanes,
    dir: &StateDir,
) -> anyhow::Result<Identity> {
    let revoked = Revoked::load(dir).context("revoked.json in the state directory")?;
    let token = match (enroll::token(settings.join_token_file.as_deref()), &revoked) {
        (Ok(token), Some(revoked)) if token.id == revoked.join_token => bail!(revoked.words()),
        (Err(enroll::TokenError::Missing), Some(revoked)) => bail!(revoked.words()),
        (token, _) => token?,
    };
    let roles: Vec<_> = settings.roles().collect();
    let joining = Joining {
        control_planes,
        token: &token,
        address: settings.address,
        health_port: settings.common.health_port,
        roles: &roles,
    };
    let identity = enroll::enroll(&joining, dir).await?;
    dir.remove(REVOKED_FILE)?;
    Ok(identity)
}

/// The note that a revoked agent leaves, so that it does not come back by the
/// token that it has used already.
#[derive(Serialize, Deserialize)]
struct Revoked {
    reason: String,
    join_token: String,
}

impl Revoked {
    fn load(dir: &StateDir) -> io::Result<Option<Self>> {
        let bytes = dir.read(REVOKED_FILE, LARGEST_NOTE)?;
        bytes
            .map(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from))
            .transpose()
    }

    fn store(&self, dir: &StateDir) -> io::Result<()> {
        dir.write(REVOKED_FILE, &serde_json::to_vec(self)?)
    }

    fn words(&self) -> String {
        format!(
            "this agent was revoked ({}): if it is to come back, make a new join token \
             (`tidegate token create`) and give it by --join-token-file",
            self.reason
        )
    }
}

impl Link {
    /// Dials, follows, and dials again, until the agent is revoked.
    async fn run(mut self) {
        let (mut attempt, mut failures) = (0, Failures::default());
        loop {
            let (at, ended, lived) = self.once(&mut failures).await;
            if lived >= WORKED {
                attempt = 0;
                failures.clear();
            }
            let pause = match ended {
                Some(Ended::Revoked(reason)) => return self.revoked(reason).await,
                Some(Ended::UnknownAgent(message)) => {
                    let what = "the control plane does not know this agent: what runs goes on; to \
                                join again, stop it, remove identity.json in the state directory, \
                                and start it with a new join token";
                    failures.note(&at, &message, what);
                    UNKNOWN_RETRY.delay(attempt, draw())
                }
                Some(Ended::Reconnect(within)) => {
                    tracing::info!(control_plane = at, "asked to dial again");
                    within.mul_f64(draw())
                }
                // Renewed; at once, unless that did not help the last time.
                Some(Ended::Expired) if attempt == 0 => Duration::ZERO,
                Some(Ended::Broken(error)) => {
                    failures.note(&at, &error, "session ended");
                    RETRY.delay(attempt, draw())
                }
                Some(Ended::Expired) | None => RETRY.delay(attempt, draw()),
            };
            attempt = attempt.saturating_add(1);
            tokio::time::sleep(pause).await;
        }
    }

    /// One session with the first control plane that can be reached; `None` when
    /// there is none. With whom, how it ended, and how long it lived.
    async fn once(&mut self, failures: &mut Failures) -> (String, Option<Ended>, Duration) {
        for at in self.control_planes.clone().shuffled() {
            let credentials = self.member.credentials();
            let tls = match link_tls::mutual(&credentials) {
                Ok(tls) => tls,
                Err(error) => {
                    failures.note(at, &error, "the agent's own identity cannot be used");
                    continue;
                }
            };
            let Dialled { channel, .. } = match dial(at, tls).await {
                Ok(dialled) => dialled,
                Err(error) => {
                    failures.note(at, &error, "no control plane here");
                    continue;
                }
            };
            let begun = Instant::now();
            // A fresh one is for the control plane to judge: the clock that is wrong
            // may be ours.
            let fresh = std::mem::take(&mut self.fresh);
            let ended = if !fresh && credentials.is_expired(SystemTime::now()) {
                self.renew_expired(at, channel, failures).await
            } else {
                match follow(self, channel.clone()).await {
                    // By the control plane's clock.
                    Ended::Expired => self.renew_expired(at, channel, failures).await,
                    ended => ended,
                }
            };
            return (at.to_owned(), Some(ended), begun.elapsed());
        }
        (String::new(), None, Duration::ZERO)
    }

    async fn renew_expired(
        &mut self,
        at: &str,
        channel: tonic::transport::Channel,
        failures: &mut Failures,
    ) -> Ended {
        match renew(channel, &self.member).await {
            Err(RenewError::Status(status)) if reason_of(&status).is_some() => (*status).into(),
            Err(error) => {
                failures.note(at, &error, "the expired certificate is not renewed yet");
                Ended::Expired
            }
            Ok(()) => {
                self.fresh = true;
                Ended::Expired
            }
        }
    }

    /// Keeps what was applied, for the next start.
    pub(super) async fn keep(&self, generation: Generation) {
        let (cache, member) = (Arc::clone(&self.cache), Arc::clone(&self.member));
        let kept = move || cache.store(&member.dir, &generation);
        let kept = tokio::task::spawn_blocking(kept).await;
        let kept = kept.unwrap_or_else(|panicked| Err(io::Error::from(panicked).into()));
        if let Err(error) = kept {
            tracing::error!(%error, "the snapshot runs and is not kept for a restart");
        }
    }

    /// Nothing secret stays on disk, and what is in memory goes with the
    /// connections that need it.
    async fn revoked(self, reason: String) {
        tracing::error!(reason, "revoked: this agent drains and stays down");
        let dir = &self.member.dir;
        let note = Revoked {
            join_token: self.member.join_token(),
            reason,
        };
        let removed = [note.store(dir), Identity::forget(dir), Cache::forget(dir)];
        for error in removed.into_iter().filter_map(Result::err) {
            tracing::error!(%error, "remove identity.json, joining.key, cache/ and cache.key by hand");
        }
        // Fails when the program ends.
        let _ = self.orders.send(Order::Revoked).await;
    }
}
