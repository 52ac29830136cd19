//! What has to happen from time to time: this control plane says that it lives
//! and who is connected to it; its own certificate is replaced before it ends; and
//! one control plane at a time, by a lease, ends the sessions of those that died,
//! forgets agents that are gone and drops what is old.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::ca::{Authority, CaError, ServerIdentity};
use crate::clock;
use crate::fleet::Fleet;
use crate::incoming::Replaceable;
use crate::store::{Store, WriteError};

/// How often a control plane says that it lives.
const BEAT: Duration = Duration::from_secs(5);
/// How long one may be silent before its agents count as gone.
const SILENT: Duration = Duration::from_secs(20);
/// Of the lease on what one control plane does for all.
const LEASE: Duration = Duration::from_secs(15);
/// Of what is old: one in so many beats.
const SWEEP_EVERY: u32 = 12;
/// Days of per-client counts that are kept.
const KEEP: time::Duration = time::Duration::days(8);
/// A control plane's own certificate; replaced when half of it is over.
const SERVER_CERTIFICATE: Duration = Duration::from_secs(30 * 86_400);

/// The work, and what it needs.
pub(crate) struct Upkeep {
    pub(crate) store: Store,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) replica: Uuid,
    /// Where this control plane is, for people.
    pub(crate) address: String,
    pub(crate) forget_after: Duration,
    pub(crate) certificate: OwnCertificate,
}

/// This control plane's own certificate.
pub(crate) struct OwnCertificate {
    authority: Arc<Authority>,
    names: Vec<String>,
    shown: Arc<Replaceable>,
    replace_at: OffsetDateTime,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error(transparent)]
    Authority(#[from] CaError),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl OwnCertificate {
    /// Issues the first one, for these names and addresses.
    ///
    /// # Errors
    /// A name that is none.
    pub(crate) fn new(
        authority: Arc<Authority>,
        names: Vec<String>,
        now: OffsetDateTime,
    ) -> Result<Self, CertificateError> {
        let first = issue(&authority, &names, now)?;
        Ok(Self {
            authority,
            names,
            shown: Arc::new(Replaceable::new(first)?),
            replace_at: now + SERVER_CERTIFICATE / 2,
        })
    }

    /// What servers show.
    pub(crate) fn shown(&self) -> Arc<Replaceable> {
        Arc::clone(&self.shown)
    }

    fn replace_if_due(&mut self, now: OffsetDateTime) -> Result<(), CertificateError> {
        if now < self.replace_at {
            return Ok(());
        }
        self.shown
            .replace(issue(&self.authority, &self.names, now)?)?;
        self.replace_at = now + SERVER_CERTIFICATE / 2;
        tracing::info!("the control plane's own certificate was replaced");
        Ok(())
    }
}

fn issue(
    authority: &Authority,
    names: &[String],
    now: OffsetDateTime,
) -> Result<ServerIdentity, CaError> {
    authority.issue_server(names, now, SERVER_CERTIFICATE)
}

impl Upkeep {
    /// Works until told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        // Before that nobody may have been there to see an agent: no control plane,
        // or none that reached the database.
        let mut since = clock::now();
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0_u32;
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = beats.tick() => {}
            }
            if let Err(error) = self.certificate.replace_if_due(clock::now()) {
                tracing::error!(%error, "the control plane's own certificate cannot be replaced");
            }
            let swept = count.is_multiple_of(SWEEP_EVERY);
            count = count.wrapping_add(1);
            if failing {
                since = clock::now();
            }
            match self.beat(since, swept).await {
                Ok(()) => failing = false,
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!(%error, "upkeep waits for the database");
                }
                Err(_) => {}
            }
        }
    }

    async fn beat(&self, since: OffsetDateTime, sweep: bool) -> Result<(), WriteError> {
        let store = &self.store;
        store.replica_lives(self.replica, &self.address).await?;
        store
            .agents_seen(self.replica, &self.fleet.sessions())
            .await?;
        if !store.lease("upkeep", self.replica, LEASE).await? {
            return Ok(());
        }
        store.bury_replicas(SILENT).await?;
        for agent in store.forget_agents(self.forget_after, since).await? {
            tracing::warn!(%agent, "away for too long: no longer a member");
        }
        if sweep {
            store.sweep().await?;
            store.turn_the_day(clock::now().date(), KEEP).await?;
        }
        Ok(())
    }
}
