//! Where connections come in: [`ListenerSet`] owns the sockets by address, apart
//! from the configuration, and each data thread accepts from its own. How a
//! socket is made is `sockets`'s.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidegate_core::addr::PeerAddr;
use tidegate_core::backoff::Backoff;
use tidegate_core::document::Mistake;
use tidegate_core::snapshot::{self, Work};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::bounds::Seat;
use crate::connection::{Connection, Place};
use crate::engine::{self, Accepted, TcpListener, TcpStream};
use crate::facts::uptime;
use crate::sockets::{self, Options};
use crate::state::{Active, Listener};
use crate::worker::{Worker, Workers};
use crate::{balancer, redirect, terminator};

/// Connections accepted before others get their turn, at most.
const LARGEST_BURST: u32 = 64;

/// Bytes of the task of a balanced connection, at most: most of what an idle
/// one costs. Debug builds, and so all tests, assert it.
const LARGEST_TASK: usize = 512;

/// The bound addresses of an agent.
pub(crate) struct ListenerSet {
    bound: HashMap<SocketAddr, Bound>,
    permits: Arc<Semaphore>,
    accept_errors: Arc<AtomicU64>,
}

struct Bound {
    /// Held as long as the sockets are.
    _claim: UnixListener,
    /// One for each worker.
    sockets: Vec<Arc<std::net::TcpListener>>,
    options: Options,
    stop: CancellationToken,
    accepting: Vec<oneshot::Receiver<()>>,
    last: Arc<OnceLock<Arc<Listener>>>,
}

impl New {
    fn bind(
        address: SocketAddr,
        options: Options,
        workers: usize,
        ours: bool,
    ) -> Result<Self, String> {
        let claim = sockets::claim(address)?;
        let sockets = sockets::bind(address, &options, workers, ours)?;
        Ok(Self {
            address,
            options,
            claim,
            sockets,
        })
    }
}

impl Bound {
    /// Takes over changed options; new connections have them.
    fn follow(&mut self, options: Options) {
        if self.options == options {
            return;
        }
        for socket in &self.sockets {
            if let Err(error) = options.set_on(socket) {
                // The next change tries again.
                tracing::error!(%error, ?options, "a listening socket keeps its old options");
                return;
            }
        }
        self.options = options;
    }

    /// Closes the sockets: when this is over nobody can connect any more. Those who
    /// have are served by `last`, where nothing that runs is for them.
    async fn close(self, last: Option<&Arc<Listener>>) {
        if let Some(last) = last {
            self.last.get_or_init(|| Arc::clone(last));
        }
        self.stop.cancel();
        for task in self.accepting {
            // One that panicked serves nobody any more either.
            let _ = task.await;
        }
        // Dropped here, and nowhere before: the tasks had them too.
        drop(self.sockets);
    }
}

/// Sockets bound for a snapshot that does not run yet. Dropped, they are given
/// back.
#[derive(Default)]
pub(crate) struct Prepared {
    new: Vec<New>,
}

struct New {
    address: SocketAddr,
    options: Options,
    claim: UnixListener,
    sockets: Vec<std::net::TcpListener>,
}

impl ListenerSet {
    /// No address yet; `permits` is the bound of live connections.
    pub(crate) fn new(permits: Arc<Semaphore>, accept_errors: Arc<AtomicU64>) -> Self {
        Self {
            bound: HashMap::new(),
            permits,
            accept_errors,
        }
    }

    /// Binds what `listeners` add, one socket per worker.
    ///
    /// # Errors
    /// Every address that cannot be bound; nothing stays bound then.
    pub(crate) fn prepare(
        &self,
        listeners: &[snapshot::Listener],
        workers: usize,
    ) -> Result<Prepared, Vec<Mistake>> {
        let mut prepared = Prepared::default();
        let mut mistakes = Vec::new();
        let mut seen = HashSet::new();
        for listener in listeners {
            let address = &listener.bind;
            // One that is there twice is `State::prepare`'s to refuse.
            if self.bound.contains_key(address) || !seen.insert(address) {
                continue;
            }
            // Between a wildcard and one address of it our own socket is in the way,
            // and is closed as soon as the new one serves.
            let ours = self.bound.keys().any(|bound| {
                bound.port() == address.port()
                    && (bound.ip().is_unspecified() || address.ip().is_unspecified())
            });
            match New::bind(*address, Options::of(listener), workers, ours) {
                Ok(new) => prepared.new.push(new),
                Err(why) => mistakes.push(Mistake::new(
                    format!("/listeners/{}/bind", listener.name),
                    format!("{address} of listener {} {why}", listener.name),
                )),
            }
        }
        if mistakes.is_empty() {
            Ok(prepared)
        } else {
            Err(mistakes)
        }
    }

    /// Accepts on what was prepared, and no longer on what `active` has not; who waits
    /// there is served as `before` says.
    pub(crate) async fn commit(
        &mut self,
        prepared: Prepared,
        before: &Active,
        active: &Active,
        workers: &Workers,
    ) {
        for (address, bound) in &mut self.bound {
            if let Some(listener) = active.listeners.get(address) {
                bound.follow(Options::of(&listener.spec));
            }
        }
        for new in prepared.new {
            let stop = CancellationToken::new();
            let last = Arc::new(OnceLock::new());
            let sockets: Vec<_> = new.sockets.into_iter().map(Arc::new).collect();
            let accepting = workers.iter().zip(&sockets).map(|(worker, socket)| {
                let one = Accepting {
                    address: new.address,
                    worker: Arc::clone(worker),
                    permits: Arc::clone(&self.permits),
                    errors: Arc::clone(&self.accept_errors),
                    stop: stop.clone(),
                    last: Arc::clone(&last),
                };
                worker.handle.spawn(one.run(Arc::clone(socket)))
            });
            let bound = Bound {
                _claim: new.claim,
                options: new.options,
                accepting: accepting.collect(),
                sockets,
                stop,
                last,
            };
            self.bound.insert(new.address, bound);
        }
        let removed = self
            .bound
            .extract_if(|address, _| !active.listeners.contains_key(address));
        for (address, bound) in removed.collect::<Vec<_>>() {
            bound.close(before.listeners.get(&address)).await;
        }
    }

    /// Accepts nowhere any more.
    pub(crate) async fn stop(&mut self) {
        for (_, bound) in self.bound.drain() {
            bound.close(None).await;
        }
    }
}

/// One worker's socket of one address.
struct Accepting {
    address: SocketAddr,
    worker: Arc<Worker>,
    permits: Arc<Semaphore>,
    errors: Arc<AtomicU64>,
    stop: CancellationToken,
    /// Set when the listener has gone.
    last: Arc<OnceLock<Arc<Listener>>>,
}

impl Accepting {
    async fn run(self, socket: Arc<std::net::TcpListener>) {
        let listener = match TcpListener::new(socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(address = %self.address, %error, "cannot accept");
                return;
            }
        };
        let stopped = self.stop.cancelled();
        tokio::pin!(stopped);
        tokio::select! {
            biased;
            () = &mut stopped => {}
            () = self.accept_on(&listener) => {}
        }
        self.empty_queue(&listener);
    }

    /// Somebody waits, then a permit, then accept: what cannot be served waits
    /// in the kernel's queue, and a socket where nobody waits holds no permit.
    /// No error ends the loop: descriptors come back.
    async fn accept_on(&self, listener: &TcpListener) {
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        let mut failures = 0;
        let mut burst = 1;
        loop {
            match self.accept_some(listener, burst).await {
                Ok(accepted) => {
                    failures = 0;
                    // Where many come at once, more are taken at once; one call more
                    // would only say that nobody else has come.
                    burst = if accepted < burst {
                        1
                    } else {
                        (2 * burst).min(LARGEST_BURST)
                    };
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(address = %self.address, %error, "accept failed");
                    }
                    let pause = backoff.delay(failures, crate::control::draw());
                    failures = failures.saturating_add(1);
                    // Those who wait are reported until they are accepted.
                    let _ = listener.ignore();
                    engine::sleep_until(engine::now() + pause).await;
                }
            }
        }
    }

    /// Waits for somebody, and accepts up to `most`; answers how many there were.
    async fn accept_some(&self, socket: &TcpListener, most: u32) -> io::Result<u32> {
        socket.readable().await?;
        let mut accepted = 0;
        while accepted < most {
            let Some((listener, place)) = self.place(socket).await? else {
                // No listener has this address any more: its sockets are about to go.
                socket.ignore()?;
                return Ok(accepted);
            };
            // A rate is used up by looking for somebody who has to be there.
            let paced = listener.spec.policy.limits.new_connections.is_some();
            match socket.accept() {
                Ok(Accepted { stream, peer }) => {
                    self.serve(listener, stream, PeerAddr::new(peer), place);
                    if paced {
                        return Ok(1);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.errors.fetch_add(1, Ordering::Relaxed);
                    if !is_of_one_connection(&error) {
                        return Err(error);
                    }
                }
            }
            accepted += 1;
        }
        Ok(accepted)
    }

    /// Room for one more connection; whoever has to wait for it waits in the kernel's
    /// queue.
    async fn place(&self, socket: &TcpListener) -> io::Result<Option<(Arc<Listener>, Place)>> {
        let permit = self.permit(socket).await?;
        loop {
            let Some(listener) = self.worker.state.listener(self.address) else {
                return Ok(None);
            };
            let limits = listener.spec.policy.limits;
            let seat = match Seat::take(&listener.facts, limits.connections) {
                Some(seat) => Some(seat),
                None => {
                    socket.ignore()?;
                    Seat::wait(&listener.facts, limits.connections).await
                }
            };
            let Some(seat) = seat else { continue };
            if let Some(rate) = limits.new_connections
                && let Err(wait) = listener.facts.bounds.admit(rate, uptime())
            {
                drop(seat);
                socket.ignore()?;
                engine::sleep_until(engine::now() + wait).await;
                continue;
            }
            return Ok(Some((listener, Place::new(seat, permit))));
        }
    }

    async fn permit(&self, listener: &TcpListener) -> io::Result<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        listener.ignore()?;
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        permit.map_err(io::Error::other)
    }

    /// Serves what had connected before the end: closing the socket would
    /// reset it.
    fn empty_queue(&self, socket: &TcpListener) {
        // Without room there is no one to serve it, and the end must not wait for room.
        while let running = self.worker.state.listener(self.address)
            && let Some(listener) = running.or_else(|| self.last.get().cloned())
            && let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned()
            && let limit = listener.spec.policy.limits.connections
            && let Some(seat) = Seat::take(&listener.facts, limit)
            && let Ok(Accepted { stream, peer }) = socket.accept()
        {
            let place = Place::new(seat, permit);
            self.serve(listener, stream, PeerAddr::new(peer), place);
        }
    }

    fn serve(&self, listener: Arc<Listener>, stream: TcpStream, peer: PeerAddr, place: Place) {
        let mut connection = Connection::open(&self.worker, &listener, peer, place);
        let live = Arc::clone(&connection.live);
        let serving = async move {
            let served = serve(stream, &mut connection, listener).await;
            connection.end(served.unwrap_or_else(std::convert::identity));
        };
        debug_assert!(
            size_of_val(&serving) <= LARGEST_TASK,
            "{} bytes for each connection",
            size_of_val(&serving)
        );
        if let Ok(task) = engine::spawn(serving) {
            live.set_task(task);
        }
    }
}

async fn serve(
    stream: TcpStream,
    connection: &mut Connection,
    listener: Arc<Listener>,
) -> crate::cause::Served {
    // What is larger is apart, since a task is as large as the largest thing it may do.
    match (&listener.spec.work, listener.tls.clone()) {
        (Work::Redirect(redirect), _) => {
            let redirect = *redirect;
            Box::pin(redirect::serve(stream, connection, listener, redirect)).await
        }
        (Work::Terminate(_), Some(tls)) => {
            Box::pin(terminator::serve(stream, connection, listener, tls)).await
        }
        (Work::Balance | Work::Terminate(_), _) => {
            balancer::serve(stream, connection, listener).await
        }
    }
}

/// accept(2): these are about the connection that was to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
