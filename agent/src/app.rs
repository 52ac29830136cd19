//! The composition root: [`App::build`] makes the parts, binds what the agent
//! answers on and connects them; [`App::run`] runs them until a signal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, bail};
use tidegate_core::document::Mistake;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, AdminListener};
use crate::connect::Source;
use crate::control::apply::{Applier, Applies};
use crate::control::standalone;
use crate::health_port;
use crate::listener::ListenerSet;
use crate::metrics::Metrics;
use crate::probe::Probes;
use crate::settings::{AdminAddr, Standalone};
use crate::shutdown::{Shutdown, Signals};
use crate::state::State;
use crate::sys;
use crate::worker::Workers;

/// Descriptors for everything but connections: sockets, checks, files, epoll.
const OWN_DESCRIPTORS: u64 = 512;

/// An agent, ready to run.
pub(crate) struct App {
    control: Runtime,
    source: standalone::Source,
    applier: Applier,
    permits: Arc<Semaphore>,
    all_permits: u32,
    draining: CancellationToken,
    settings: Standalone,
}

impl App {
    /// Reads and applies the document; every address is bound afterwards.
    ///
    /// # Errors
    /// Every mistake in the document, every address that cannot be bound.
    pub(crate) fn build(settings: Standalone) -> anyhow::Result<Self> {
        let address = settings.address.unwrap_or_else(every_address);
        let source = standalone::Source::new(&settings, address)?;
        let loaded = source.load().map_err(|m| refused(&settings, &m))?;

        // Health checks, admin pages and signals live on this thread's runtime.
        let control = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
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
        let mut applier = Applier {
            listeners: ListenerSet::new(Arc::clone(&permits), Arc::clone(&accept_errors)),
            probes: Probes::new(from),
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
        control.block_on(answer(&settings, address, admin, state))?;
        control
            .block_on(applier.apply(loaded.snapshot, &loaded.keys))
            .map_err(|mistakes| refused(&settings, &loaded.document.locate(mistakes)))?;
        Ok(Self {
            control,
            source,
            applier,
            permits,
            all_permits,
            draining,
            settings,
        })
    }

    /// Runs until a signal and to the end of the drain.
    ///
    /// # Errors
    /// When the host refuses to deliver signals.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self {
            control,
            source,
            mut applier,
            permits,
            all_permits,
            draining,
            settings,
        } = self;
        control.block_on(async {
            let mut signals = Signals::new()?;
            let mut reload = signal(SignalKind::hangup())?;
            let active = applier.state.active();
            for (bind, listener) in &active.listeners {
                tracing::info!(listener = %listener.spec.name, %bind, "listening");
            }
            if active.listeners.is_empty() {
                tracing::warn!(
                    "no listener of the document is for this agent: see --role, --label"
                );
            }
            drop(active);
            tracing::info!(max_connections = all_permits, "serving");
            loop {
                tokio::select! {
                    () = signals.next() => break,
                    _ = reload.recv() => read_again(&source, &mut applier).await,
                }
            }
            let Applier {
                state,
                workers,
                listeners,
                ..
            } = &mut applier;
            let shutdown = Shutdown {
                state,
                workers,
                listeners,
                permits: &permits,
                all_permits,
                draining: &draining,
                delay: settings.drain_delay,
                timeout: settings.drain_timeout,
            };
            shutdown.run(&mut signals).await;
            anyhow::Ok(())
        })
    }
}

/// SIGHUP: the file is applied like a pushed snapshot, or refused whole.
async fn read_again(source: &standalone::Source, applier: &mut Applier) {
    let result = match source.load() {
        Ok(loaded) => {
            let applied = applier.apply(loaded.snapshot, &loaded.keys).await;
            applied.map_err(|mistakes| loaded.document.locate(mistakes))
        }
        Err(mistakes) => Err(mistakes),
    };
    let hash = applier.state.active().hash.map(|h| h.to_string());
    match result {
        Ok(None) => tracing::info!(hash, "unchanged"),
        Ok(Some(diff)) => tracing::info!(hash, changes = %diff, "applied"),
        Err(mistakes) => {
            applier.count_refused();
            let mistakes: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
            tracing::error!(hash, ?mistakes, "refused");
        }
    }
}

/// Starts answering on the health port and the admin socket.
async fn answer(
    settings: &Standalone,
    address: IpAddr,
    admin: Admin,
    state: Arc<State>,
) -> anyhow::Result<()> {
    let health = SocketAddr::new(address, settings.health_port);
    let listener = TcpListener::bind(health)
        .await
        .with_context(|| format!("health port {health} (--health-port, --address)"))?;
    tokio::spawn(health_port::serve(listener, state));

    let address = admin_address(settings)?;
    let listener = AdminListener::bind(&address)
        .await
        .with_context(|| format!("admin socket {address:?} (--admin, --state-dir)"))?;
    tokio::spawn(admin.serve(listener));
    Ok(())
}

fn admin_address(settings: &Standalone) -> anyhow::Result<AdminAddr> {
    if let Some(address) = &settings.admin {
        return Ok(address.clone());
    }
    let home = || {
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let under_home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state"));
        Some(state.or_else(under_home)?.join("tidegate-agent"))
    };
    let folder = settings.state_dir.clone().or_else(home);
    let folder =
        folder.context("there is no HOME to keep the admin socket in: give --state-dir")?;
    Ok(AdminAddr::Unix(folder.join("admin.sock")))
}

/// All mistakes, one a line, for whoever starts the agent.
fn refused(settings: &Standalone, mistakes: &[Mistake]) -> anyhow::Error {
    let lines: Vec<String> = mistakes.iter().map(|m| format!("\n  {m}")).collect();
    anyhow::anyhow!(
        "{} is refused:{}",
        settings.config.display(),
        lines.concat()
    )
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

/// `[::]`, which serves IPv4 as well, unless this host has no IPv6.
fn every_address() -> IpAddr {
    let v6 = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    match std::net::TcpListener::bind(SocketAddr::new(v6, 0)) {
        Ok(_) => v6,
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}
