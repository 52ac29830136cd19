//! The way out: health checks fail first, so that whoever balances to this
//! agent turns away; new connections are still served meanwhile; then none is
//! accepted, and live ones may end by themselves until the drain timeout. A
//! second signal ends it all at once, whether the first one began the drain or
//! came to an agent that drains because it was revoked.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cause::Cause;
use crate::listener::ListenerSet;
use crate::state::State;
use crate::worker::Workers;

/// SIGTERM and SIGINT, counted: each is heard once, whoever waits for it.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    heard: u32,
}

impl Signals {
    /// Takes both signals over.
    ///
    /// # Errors
    /// When the host refuses.
    pub(crate) fn new() -> std::io::Result<Self> {
        Self::of(SignalKind::terminate(), SignalKind::interrupt())
    }

    /// Takes over two others: tests share their process.
    pub(crate) fn of(terminate: SignalKind, interrupt: SignalKind) -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(terminate)?,
            interrupt: signal(interrupt)?,
            heard: 0,
        })
    }

    /// Until one has come; at once when one has come before.
    pub(crate) async fn first(&mut self) {
        self.hear(1).await;
    }

    /// Until two have come, the first one counted.
    pub(crate) async fn second(&mut self) {
        self.hear(2).await;
    }

    async fn hear(&mut self, wanted: u32) {
        while self.heard < wanted {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            self.heard += 1;
            if self.heard < wanted {
                tracing::info!("signal: the agent exits when it has drained");
            }
        }
    }
}

/// What takes part in shutting down.
pub(crate) struct Shutdown<'a> {
    pub(crate) state: &'a State,
    pub(crate) workers: &'a Workers,
    pub(crate) listeners: &'a mut ListenerSet,
    pub(crate) permits: &'a Arc<Semaphore>,
    pub(crate) all_permits: u32,
    pub(crate) draining: &'a CancellationToken,
    pub(crate) delay: Duration,
    pub(crate) timeout: Duration,
}

impl Shutdown<'_> {
    /// From the beginning of the drain to no live connection.
    pub(crate) async fn run(mut self, signals: &mut Signals) {
        let hurried = tokio::select! {
            () = self.gently() => false,
            () = signals.second() => true,
        };
        if hurried {
            tracing::warn!("second signal: stopping at once");
            self.listeners.stop().await;
        }
        for live in self.workers.live() {
            live.cut(Cause::Shutdown);
        }
        // The tasks are gone within one turn of their threads.
        let gone = self.permits.acquire_many(self.all_permits);
        if timeout(Duration::from_secs(1), gone).await.is_err() {
            tracing::error!("connections are left that could not be cut");
        }
        tracing::info!("stopped");
    }

    async fn gently(&mut self) {
        tracing::info!(delay = ?self.delay, "draining: health checks fail from now on");
        self.state.start_draining();
        tokio::time::sleep(self.delay).await;
        let live = crate::worker::live_total(self.state);
        tracing::info!(live, timeout = ?self.timeout, "no longer accepting");
        self.listeners.stop().await;
        self.draining.cancel();
        // Every live connection holds a permit: when all are back, none is left.
        let gone = self.permits.acquire_many(self.all_permits);
        if timeout(self.timeout, gone).await.is_err() {
            let live = crate::worker::live_total(self.state);
            tracing::warn!(live, "drain timeout: cutting the rest");
        }
    }
}
