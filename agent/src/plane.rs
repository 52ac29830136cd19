//! The data plane: data threads, sockets, checks, the health port and the admin
//! socket, and their way out. Whoever says what to serve (a file, the control
//! plane) hands snapshots to its [`Applier`]; `app` puts the two together.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, AdminListener};
use crate::control::apply::{Applier, Applies};
use crate::descriptors::Descriptors;
use crate::drain::Drains;
use crate::listener::ListenerSet;
use crate::metrics::Metrics;
use crate::probe::Probes;
use crate::settings::{AdminAddr, Common};
use crate::shutdown::{Shutdown, Signals};
use crate::source::Source;
use crate::state::{Active, State};
use crate::worker::Workers;
use crate::{health_port, memory, tickets};

/// Everything that serves connections.
pub(crate) struct Plane {
    pub(crate) applier: Applier,
    descriptors: Arc<Descriptors>,
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
        let descriptors = Arc::new(Descriptors::new(settings.max_connections)?);
        let draining = CancellationToken::new();
        let state = Arc::new(State::new(threads));
        are_ours(&settings.source_addresses)?;
        let from = match settings.source_addresses.as_slice() {
            [] => Source::new([address]),
            several => Source::new(several.iter().copied()),
        };
        let workers = Arc::new(Workers::start(threads, &state, &from, &draining)?);
        let accept_errors = Arc::new(AtomicU64::default());
        let applier = Applier {
            listeners: ListenerSet::new(
                Arc::clone(descriptors.permits()),
                Arc::clone(&accept_errors),
            ),
            descriptors: Arc::clone(&descriptors),
            probes: Probes::new(Arc::clone(&state), from.clone()),
            drains: Drains::default(),
            counts: Arc::new(Applies::default()),
            advised: HashSet::new(),
            state: Arc::clone(&state),
            workers: Arc::clone(&workers),
        };
        let metrics = Metrics {
            state: Arc::clone(&state),
            applies: Arc::clone(&applier.counts),
            source: from,
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
            descriptors,
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
        tracing::info!(max_connections = self.descriptors.bound(), "serving");
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
        self.applier.state.tickets().clear();
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
            permits: self.descriptors.permits(),
            all_permits: self.descriptors.bound(),
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
    tokio::spawn(memory::give_back(Arc::clone(&state)));
    tokio::spawn(tickets::forget(Arc::clone(&state)));
    tokio::spawn(health_port::serve(listener, state));

    let listener = AdminListener::bind(admin_at)
        .await
        .with_context(|| format!("admin socket {admin_at:?} (--admin, --state-dir)"))?;
    tokio::spawn(admin.serve(listener));
    Ok(())
}

/// Connections can come from these addresses.
fn are_ours(addresses: &[IpAddr]) -> anyhow::Result<()> {
    for ip in addresses {
        std::net::TcpListener::bind(SocketAddr::new(*ip, 0)).with_context(|| {
            format!("--source-address {ip}: not an address of this machine; write one that is")
        })?;
    }
    Ok(())
}
