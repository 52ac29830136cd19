//! Keeps a system busy: a thread whose connections each ask again as soon as they have
//! their answer, and counts what they got.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::http::{After, Client};
use super::spawn_runtime;
use super::tls::{Checker, Pins};
use super::wire::Wire;
use crate::systems::{Tickets, Trouble};

/// What its connections do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One small answer each; a unit is a connection.
    Short,
    /// Small answers one after another; a unit is an answer.
    Messages,
    /// Large answers; a unit is a byte.
    Bulk,
}

impl Kind {
    /// How many connections there are at once.
    pub fn connections(self) -> usize {
        match self {
            Self::Short => 32,
            Self::Messages => 64,
            Self::Bulk => 4,
        }
    }

    /// The body of one answer, in bytes.
    fn size(self) -> usize {
        match self {
            Self::Short | Self::Messages => 64,
            Self::Bulk => 16 << 20,
        }
    }
}

/// What is asked of which system.
#[derive(Clone)]
pub struct Work {
    /// Where it listens.
    pub address: SocketAddr,
    /// What is done.
    pub kind: Kind,
    /// With TLS, and which.
    pub tls: Option<(Pins, Tickets, CertificateDer<'static>)>,
    /// What bodies are made of.
    pub block: &'static [u8],
}

/// A running load; stopped when dropped.
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    units: AtomicU64,
    bytes: AtomicU64,
    stop: AtomicBool,
    stopped: Notify,
    trouble: Mutex<Option<Trouble>>,
}

impl Load {
    /// Begins, on that processor.
    ///
    /// # Errors
    /// When there can be no thread for it.
    pub fn start(work: Work, processor: Option<usize>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = spawn_runtime("load", processor, move || async move {
            let work = Rc::new(work);
            let tasks = LocalSet::new();
            for _ in 0..work.kind.connections() {
                let (work, shared) = (Rc::clone(&work), Arc::clone(&theirs));
                tasks.spawn_local(async move {
                    if let Err(trouble) = keep_busy(&work, &shared).await {
                        shared.tell(trouble);
                    }
                });
            }
            // What waits for an answer is dropped: a system that hangs holds up nobody.
            tokio::select! {
                () = tasks => {}
                () = theirs.stopped.notified() => {}
            }
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// How many units are done.
    pub fn units(&self) -> u64 {
        self.shared.units.load(Ordering::Relaxed)
    }

    /// Whether it has run into trouble.
    pub fn has_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Stops, and says whether all went well.
    ///
    /// # Errors
    /// The first trouble that there was.
    pub fn stop(mut self) -> Result<(), Trouble> {
        self.end();
        let mut trouble = self
            .shared
            .trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        trouble.take().map_or(Ok(()), Err)
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.stopped.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Keeps the first trouble: the others follow from it.
    fn tell(&self, trouble: Trouble) {
        let mut first = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() && self.goes_on() {
            *first = Some(trouble);
        }
        self.stop.store(true, Ordering::Relaxed);
    }
}

async fn keep_busy(work: &Work, shared: &Shared) -> Result<(), Trouble> {
    let mut tls = match &work.tls {
        None => None,
        Some((pins, tickets, leaf)) => {
            Some((pins.client(leaf)?, Checker::new(*pins, tickets.count())))
        }
    };
    match work.kind {
        Kind::Short => {
            while shared.goes_on() {
                one(work, &mut tls, After::Close, shared).await?;
                shared.units.fetch_add(1, Ordering::Relaxed);
            }
        }
        Kind::Messages | Kind::Bulk => {
            let count = if work.kind == Kind::Bulk {
                &shared.units
            } else {
                &shared.bytes
            };
            let mut client = one(work, &mut tls, After::Keep, shared).await?;
            while shared.goes_on() {
                client.get(work.kind.size(), After::Keep, count).await?;
                if work.kind == Kind::Messages {
                    shared.units.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
    Ok(())
}

/// One connection, and one small answer on it.
async fn one(
    work: &Work,
    tls: &mut Option<(Arc<ClientConfig>, Checker)>,
    after: After,
    shared: &Shared,
) -> Result<Client, Trouble> {
    let wire = Wire::connect(work.address, tls.as_ref().map(|(config, _)| config)).await;
    let wire = wire.map_err(|error| hybrid_or_broken(error, work))?;
    let buffer = if work.kind == Kind::Bulk {
        256 * 1024
    } else {
        4 * 1024
    };
    let mut client = Client::new(wire, work.block, buffer);
    client.get(Kind::Short.size(), after, &shared.bytes).await?;
    if let Some((_, checker)) = tls {
        checker.check(client.wire())?;
    }
    Ok(client)
}

/// A handshake that a server refuses because it has no group in common is no failure
/// of that server.
fn hybrid_or_broken(error: std::io::Error, work: &Work) -> Trouble {
    let refused = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(|error| {
            matches!(
                error,
                rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure)
            )
        });
    let hybrid = matches!(&work.tls, Some((pins, ..)) if pins.group == super::tls::Group::Hybrid);
    if refused && hybrid {
        Trouble::Absent("has no X25519MLKEM768, which OpenSSL has from 3.5 on".to_owned())
    } else {
        Trouble::Broken(error.to_string())
    }
}
