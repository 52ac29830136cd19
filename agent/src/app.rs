//! The composition root: joins a data plane with whoever says what it serves,
//! a file or the control plane, and runs both until a signal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tidegate_core::document::Mistake;
use tidegate_core::tickets::Timing;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::control::apply::Applier;
use crate::control::fleet::{Ending, Fleet};
use crate::control::standalone;
use crate::plane::Plane;
use crate::settings::{AdminAddr, Common, Run, Standalone};
use crate::shutdown::Signals;
use crate::tickets::own::Own;

/// How often the agent's own ticket keys are looked at.
const TICKET_KEYS: Duration = Duration::from_secs(1);

/// An agent, ready to run.
pub(crate) struct App {
    /// Health checks, pages, signals and the link live on this thread's runtime.
    control: Runtime,
    plane: Plane,
    source: Source,
}

/// Who says what is served.
enum Source {
    File(Box<(standalone::Source, Own)>),
    Fleet(Box<Fleet>),
}

impl App {
    /// An agent that runs one document: read and applied, every address bound.
    ///
    /// # Errors
    /// Every mistake in the document, every address that cannot be bound.
    pub(crate) fn standalone(settings: &Standalone) -> anyhow::Result<Self> {
        let address = settings.address.unwrap_or_else(every_address);
        let timing = ticket_timing(settings)?;
        let source = standalone::Source::new(settings, address)?;
        let loaded = source.load().map_err(|m| refused(&settings.config, &m))?;
        let admin = admin_address(&settings.common, settings.state_dir.as_deref())?;
        let control = control_runtime()?;
        let mut plane = control.block_on(Plane::build(&settings.common, address, &admin))?;
        control
            .block_on(plane.applier.apply(loaded.snapshot, &loaded.keys))
            .map_err(|mistakes| refused(&settings.config, &loaded.document.locate(mistakes)))?;
        let mut own = Own::new(timing);
        own.set_secrets(loaded.ticket_secrets);
        keep_ticket_keys(&mut own, &plane.applier, true);
        Ok(Self {
            control,
            plane,
            source: Source::File(Box::new((source, own))),
        })
    }

    /// An agent of a fleet: joined, and what it ran last runs again.
    ///
    /// # Errors
    /// What keeps it from joining, every address that cannot be bound.
    pub(crate) fn of_fleet(settings: &Run) -> anyhow::Result<Self> {
        let control = control_runtime()?;
        let mut fleet = control.block_on(Fleet::join(settings))?;
        let address = fleet.address();
        let admin = admin_address(&settings.common, Some(&settings.state_dir))?;
        let mut plane = control.block_on(Plane::build(&settings.common, address, &admin))?;
        control.block_on(fleet.restore(&mut plane));
        Ok(Self {
            control,
            plane,
            source: Source::Fleet(Box::new(fleet)),
        })
    }

    /// Runs until a signal and to the end of the drain.
    ///
    /// # Errors
    /// When the host refuses to deliver signals.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self {
            control,
            mut plane,
            mut source,
        } = self;
        control.block_on(async {
            let mut signals = Signals::new()?;
            match &mut source {
                Source::File(file) => {
                    let (file, own) = file.as_mut();
                    follow_file(file, own, &mut plane, &mut signals).await?;
                    plane.shutdown(&mut signals).await;
                }
                Source::Fleet(fleet) => follow_fleet(fleet, &mut plane, &mut signals).await,
            }
            anyhow::Ok(())
        })
    }
}

/// Follows the control plane to the end of the drain. What an agent that drains
/// may still do, it does.
pub(crate) async fn follow_fleet(fleet: &mut Fleet, plane: &mut Plane, signals: &mut Signals) {
    let ending = fleet.steer(plane, signals).await;
    let workers = Arc::clone(&plane.applier.workers);
    tokio::select! {
        () = plane.shutdown(signals) => {}
        never = fleet.drain(&workers) => match never {},
    }
    if ending == Ending::Revoked {
        plane.stay_down(signals).await;
    }
}

/// Serves the document until SIGTERM; SIGHUP reads it again.
async fn follow_file(
    source: &standalone::Source,
    own: &mut Own,
    plane: &mut Plane,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let mut reload = signal(SignalKind::hangup())?;
    if !plane.listens() {
        tracing::warn!("no listener of the document is for this agent: see --role, --label");
    }
    plane.announce();
    let mut ticks = tokio::time::interval(TICKET_KEYS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = signals.first() => return Ok(()),
            _ = reload.recv() => read_again(source, own, &mut plane.applier).await,
            _ = ticks.tick() => keep_ticket_keys(own, &plane.applier, false),
        }
    }
}

/// SIGHUP: the file is applied like a pushed snapshot, or refused whole.
async fn read_again(source: &standalone::Source, own: &mut Own, applier: &mut Applier) {
    let result = match source.load() {
        Ok(loaded) => {
            let applied = applier.apply(loaded.snapshot, &loaded.keys).await;
            if applied.is_ok() {
                own.set_secrets(loaded.ticket_secrets);
                keep_ticket_keys(own, applier, true);
            }
            applied.map_err(|mistakes| loaded.document.locate(mistakes))
        }
        Err(mistakes) => Err(mistakes),
    };
    let hash = applier.state.active().hash.map(|h| h.to_string());
    match result {
        Ok(None) => tracing::info!(hash, "unchanged"),
        Ok(Some(diff)) => {
            // Summaries of listeners that are no more would take room from new ones.
            applier.workers.take_counted();
            let took_ms = applier.counts.took_ms.load(Ordering::Relaxed);
            tracing::info!(hash, took_ms, changes = %diff, "applied");
        }
        Err(mistakes) => {
            applier.count_refused();
            let mistakes: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
            tracing::error!(hash, ?mistakes, "refused");
        }
    }
}

/// None where there are to be no tickets.
fn ticket_timing(settings: &Standalone) -> anyhow::Result<Option<Timing>> {
    let (rotation, lifetime) = (settings.ticket_key_rotation, settings.ticket_lifetime);
    if lifetime.is_zero() {
        return Ok(None);
    }
    let timing = Timing::new(rotation, lifetime);
    timing
        .context("--ticket-key-rotation and --ticket-lifetime")
        .map(Some)
}

/// Gives listeners the ticket keys of an agent without a control plane, as far as
/// they are others than before.
fn keep_ticket_keys(own: &mut Own, applier: &Applier, anew: bool) {
    let active = applier.state.active();
    match own.follow(&active.snapshot, SystemTime::now(), anew) {
        Ok(Some(keys)) => applier.state.tickets().replace(keys),
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "no new ticket keys"),
    }
}

fn control_runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn admin_address(settings: &Common, state_dir: Option<&Path>) -> anyhow::Result<AdminAddr> {
    if let Some(address) = &settings.admin {
        return Ok(address.clone());
    }
    let home = || {
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let under_home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state"));
        Some(state.or_else(under_home)?.join("tidegate-agent"))
    };
    let folder = state_dir.map(Path::to_owned).or_else(home);
    let folder =
        folder.context("there is no HOME to keep the admin socket in: give --state-dir")?;
    Ok(AdminAddr::Unix(folder.join("admin.sock")))
}

/// All mistakes, one a line, for whoever starts the agent.
fn refused(config: &Path, mistakes: &[Mistake]) -> anyhow::Error {
    let lines: Vec<String> = mistakes.iter().map(|m| format!("\n  {m}")).collect();
    anyhow::anyhow!("{} is refused:{}", config.display(), lines.concat())
}

/// `[::]`, which serves IPv4 as well, unless this host has no IPv6.
fn every_address() -> IpAddr {
    let v6 = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    match std::net::TcpListener::bind(SocketAddr::new(v6, 0)) {
        Ok(_) => v6,
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}
