//! The data plane: data threads, sockets, checks, the health port and the admin
//! socket, and their way out. Whoever says what to serve (a file, the control
//! plane) hands snapshots to its [`Applier`]; `app` puts the two together.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, AdminListener};
use crate::connect::Source;
use crate::control::apply::{Applier, Applies};
use crate::drain::Drains;
use crate::health_port;
use crate::listener::ListenerSet;
use crate::metrics::Metrics;
use crate::probe::Probes;
use crate::settings::{AdminAddr, Common};
use crate::shutdown::{Shutdown, Signals};
use crate::state::{Active, State};
use crate::sys;
use crate::worker::Workers;

/// Descriptors for everything but connections: sockets, checks, files, epoll.
const OWN_DESCRIPTORS: u64 = 512;

/// Everything that serves connections.
pub(crate) struct Plane {
    pub(crate) applier: Applier,
    permits: Arc<Semaphore>,
    all_permits: u32,
    draining: CancellationToken,
    drain_delay: Duration,
    drain_timeout: Duration,
}

impl Plane {
    /// Starts the data threads and answers on health port and admin socket; serves
    /// nothing yet.
    ///
    /// # Errors
    /// What this host refuses: threads, descriptors, the two addresses.
    pub(crate) async fn build(
        settings: &Common,
        address: IpAddr,
        admin_at: &AdminAddr,
    ) -> anyhow::Result<Self> {
        let threads = match settings.threads {
            Some(threads) => threads.get(),
            None => std::thread::available_parallelism()?.get(),
        };
        let all_permits = max_connections(settings.max_connections)?;
        let permits = Arc::new(Semaphore::new(usize::try_from(all_permits)?));
        let draining = CancellationToken::new();
        let state = Arc::new(State::new(threads));
        let from = Source::new(address);
        let workers = Arc::new(Workers::start(threads, &state, from, &draining)?);
        let accept_errors = Arc::new(AtomicU64::default());
        let applier = Applier {
            listeners: ListenerSet::new(Arc::clone(&permits), Arc::clone(&accept_errors)),
            probes: Probes::new(from),
            drains: Drains::default(),
            counts: Arc::new(Applies::default()),
            state: Arc::clone(&state),
            workers: Arc::clone(&workers),
        };
        let metrics = Metrics {
            state: Arc::clone(&state),
            applies: Arc::clone(&applier.counts),
            accept_errors,
        };
        let admin = Admin {
            state: Arc::clone(&state),
            workers,
            metrics: Arc::new(metrics),
        };
        answer(
            SocketAddr::new(address, settings.health_port),
            admin_at,
            admin,
            state,
        )
        .await?;
        Ok(Self {
            applier,
            permits,
            all_permits,
            draining,
            drain_delay: settings.drain_delay,
            drain_timeout: settings.drain_timeout,
        })
    }

    /// Says what it serves.
    pub(crate) fn announce(&self) {
        for (bind, listener) in &self.applier.state.active().listeners {
            tracing::info!(listener = %listener.spec.name, %bind, "listening");
        }
        tracing::info!(max_connections = self.all_permits, "serving");
    }

    /// Whether it has a listener.
    pub(crate) fn listens(&self) -> bool {
        !self.applier.state.active().listeners.is_empty()
    }

    /// Nothing runs and nothing comes back until a signal ends the process, which
    /// may have come during the drain: an agent out of its fleet that ended by
    /// itself would only be started again.
    pub(crate) async fn stay_down(&mut self, signals: &mut Signals) {
        let nothing = Active::default();
        self.applier.probes.follow(&nothing);
        let workers = &self.applier.workers;
        self.applier.drains.follow(&nothing, workers);
        // The private keys go with it.
        drop(self.applier.state.swap(nothing));
        tracing::error!("down: only a new join token brings this agent back");
        signals.first().await;
    }

    /// From now to no live connection.
    pub(crate) async fn shutdown(&mut self, signals: &mut Signals) {
        let Applier {
            state,
            workers,
            listeners,
            ..
        } = &mut self.applier;
        let shutdown = Shutdown {
            state,
            workers,
            listeners,
            permits: &self.permits,
            all_permits: self.all_permits,
            draining: &self.draining,
            delay: self.drain_delay,
            timeout: self.drain_timeout,
        };
        shutdown.run(signals).await;
    }
}

/// Starts answering on the health port and the admin socket.
async fn answer(
    health: SocketAddr,
    admin_at: &AdminAddr,
    admin: Admin,
    state: Arc<State>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(health)
        .await
        .with_context(|| format!("health port {health} (--health-port, --address)"))?;
    tokio::spawn(health_port::serve(listener, state));

    let listener = AdminListener::bind(admin_at)
        .await
        .with_context(|| format!("admin socket {admin_at:?} (--admin, --state-dir)"))?;
    tokio::spawn(admin.serve(listener));
    Ok(())
}

/// A proxied connection takes two descriptors.
fn max_connections(wanted: Option<u32>) -> anyhow::Result<u32> {
    let files = sys::raise_open_files();
    let possible = files.saturating_sub(OWN_DESCRIPTORS) / 2;
    match wanted {
        Some(0) => bail!("--max-connections 0 serves nobody: leave it out, or give a number"),
        Some(wanted) => {
            if u64::from(wanted) > possible {
                tracing::warn!(
                    wanted,
                    possible,
                    "--max-connections is more than open files allow (ulimit -n): clients beyond \
                     that are accepted and find no way to a backend"
                );
            }
            Ok(wanted)
        }
        None if possible < 64 => bail!(
            "only {files} files may be open (ulimit -n): raise that to 2048 at least (LimitNOFILE= \
             in a systemd unit), or set --max-connections"
        ),
        None => Ok(u32::try_from(possible).unwrap_or(u32::MAX).min(1 << 28)),
    }
}
