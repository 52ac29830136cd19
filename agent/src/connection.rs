//! One accepted connection: what the debug page shows of it ([`Live`]), and the
//! guard that holds all it has taken ([`Connection`]). Everything is given back
//! in `Drop`, and only there, also when the task is cut or panics: the permit,
//! the client's count, the registry entry, the gauges; and there the access
//! event is written.
//!
//! Cutting: whoever wants a connection gone sets its cause and aborts its task.

mod row;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tidegate_core::addr::{ClientAddr, PeerAddr};
use tidegate_core::admit::Refusal;
use tidegate_core::document::{BackendName, Name};
use tidegate_core::snapshot;
use tokio::sync::OwnedSemaphorePermit;

use self::row::access_event;
use crate::bounds::Seat;
use crate::cause::{Cause, Phase};
use crate::control::draw_bits;
use crate::engine::{self, TaskHandle};
use crate::facts::{BackendFacts, ListenerFacts, uptime};
use crate::limits::Entered;
use crate::state::{Listener, Target};
use crate::tallies::{Measure, Tallies};
use crate::tls::Agreed;
use crate::worker::Worker;

/// Connections so far.
static NUMBERS: AtomicU64 = AtomicU64::new(0);
/// No cause yet.
const RUNNING: u8 = u8::MAX;

/// What others may see of a connection, and the handle to cut it.
pub(crate) struct Live {
    pub(crate) listener: Arc<ListenerFacts>,
    pub(crate) peer: PeerAddr,
    number: u64,
    /// Whether clients come in here, and nobody forwards for them.
    edge: bool,
    started: Instant,
    client: OnceLock<ClientAddr>,
    phase: AtomicU8,
    /// When that began, in microseconds after the start.
    phase_since: AtomicU64,
    queued: Spent,
    connecting: Spent,
    shaking: Spent,
    tls: OnceLock<Box<Agreed>>,
    cause: AtomicU8,
    requests: AtomicU32,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// How much of the two is in the listener's counters and tallies already.
    settled_in: AtomicU64,
    settled_out: AtomicU64,
    backend: Mutex<Option<Arc<BackendFacts>>>,
    task: OnceLock<TaskHandle>,
}

impl Live {
    fn new(listener: &Listener, peer: PeerAddr) -> Self {
        Self {
            listener: Arc::clone(&listener.facts),
            peer,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            edge: listener.spec.accept_proxy.is_none(),
            started: engine::now(),
            client: OnceLock::new(),
            phase: AtomicU8::new(Phase::Accept as u8),
            phase_since: AtomicU64::default(),
            queued: Spent::default(),
            connecting: Spent::default(),
            shaking: Spent::default(),
            tls: OnceLock::new(),
            cause: AtomicU8::new(RUNNING),
            requests: AtomicU32::default(),
            bytes_in: AtomicU64::default(),
            bytes_out: AtomicU64::default(),
            settled_in: AtomicU64::default(),
            settled_out: AtomicU64::default(),
            backend: Mutex::default(),
            task: OnceLock::new(),
        }
    }

    /// What it is called, here and where it is announced: unique over all agents and
    /// all of their starts.
    pub(crate) fn id(&self) -> String {
        static BOOT: LazyLock<u64> = LazyLock::new(draw_bits);
        format!("{:016x}{:08x}", *BOOT, self.number)
    }

    /// The client, once it is known: until a PROXY header has come it is not.
    pub(crate) fn client(&self) -> Option<ClientAddr> {
        self.client.get().copied()
    }

    /// Counts payload from the client.
    pub(crate) fn add_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts payload to the client.
    pub(crate) fn add_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts a request; answers how many there were before.
    pub(crate) fn add_request(&self) -> u32 {
        self.listener.requests.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Says which backend carries it.
    pub(crate) fn set_backend(&self, backend: &Arc<BackendFacts>) {
        let mut current = self.backend.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::clone(backend));
    }

    /// Which backend carries it.
    pub(crate) fn backend(&self) -> Option<Arc<BackendFacts>> {
        let current = self.backend.lock();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What its client and this agent have agreed on in TLS.
    pub(crate) fn tls(&self) -> Option<&Agreed> {
        self.tls.get().map(Box::as_ref)
    }

    /// Whether this backend carries it.
    pub(crate) fn is_on(&self, pool: &Name, backend: &BackendName) -> bool {
        let current = self.backend();
        current.is_some_and(|b| b.pool.name == *pool && b.name == *backend)
    }

    /// How far it has come. The time goes to what it leaves.
    pub(crate) fn enter(&self, phase: Phase) {
        self.account();
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn account(&self) {
        let now = micros(engine::now().saturating_duration_since(self.started));
        let since = self.phase_since.swap(now, Ordering::Relaxed);
        match self.phase() {
            Phase::Queue => self.queued.add(now.saturating_sub(since)),
            Phase::Connect => self.connecting.add(now.saturating_sub(since)),
            Phase::Handshake => self.shaking.add(now.saturating_sub(since)),
            _ => {}
        }
    }

    /// When it was accepted.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Payload both ways so far.
    pub(crate) fn bytes(&self) -> u64 {
        let both = [&self.bytes_in, &self.bytes_out];
        both.map(|bytes| bytes.load(Ordering::Relaxed)).iter().sum()
    }

    /// How far it has come.
    pub(crate) fn phase(&self) -> Phase {
        Phase::from_u8(self.phase.load(Ordering::Relaxed)).unwrap_or(Phase::Accept)
    }

    /// Ends it for `cause`; the first cause stays.
    pub(crate) fn cut(&self, cause: Cause) {
        self.end(cause);
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// Gives the task to abort. A cut that came before is carried out now: each
    /// side writes its own word first and then reads the other's.
    pub(crate) fn set_task(&self, task: TaskHandle) {
        let task = self.task.get_or_init(|| task);
        fence(Ordering::SeqCst);
        if self.cause.load(Ordering::SeqCst) != RUNNING {
            task.abort();
        }
    }

    fn end(&self, cause: Cause) {
        let first =
            self.cause
                .compare_exchange(RUNNING, cause as u8, Ordering::SeqCst, Ordering::SeqCst);
        // Whoever was first is the cause; later ones only follow from it.
        let _ = first;
        fence(Ordering::SeqCst);
    }

    /// Moves what has been carried since the last call into the listener's
    /// counters and the tallies.
    pub(crate) fn settle(&self, tallies: &mut Tallies) {
        let moved_in = settle(&self.bytes_in, &self.settled_in);
        let moved_out = settle(&self.bytes_out, &self.settled_out);
        self.listener
            .bytes_in
            .fetch_add(moved_in, Ordering::Relaxed);
        self.listener
            .bytes_out
            .fetch_add(moved_out, Ordering::Relaxed);
        let moved = moved_in.saturating_add(moved_out);
        if let Some(client) = self.client()
            && self.edge
            && moved > 0
        {
            tallies.add(&self.listener, Measure::Bytes, client.key(), moved);
        }
    }
}

fn settle(total: &AtomicU64, settled: &AtomicU64) -> u64 {
    let now = total.load(Ordering::Relaxed);
    now.saturating_sub(settled.swap(now, Ordering::Relaxed))
}

/// Time spent on something, in microseconds.
struct Spent(AtomicU64);

/// Nothing was spent on it.
const NEVER: u64 = u64::MAX;

impl Default for Spent {
    fn default() -> Self {
        Self(AtomicU64::new(NEVER))
    }
}

impl Spent {
    fn add(&self, more: u64) {
        let before = self.0.load(Ordering::Relaxed);
        let sum = if before == NEVER {
            more
        } else {
            before.saturating_add(more)
        };
        self.0.store(sum, Ordering::Relaxed);
    }

    fn micros(&self) -> Option<u64> {
        let micros = self.0.load(Ordering::Relaxed);
        (micros != NEVER).then_some(micros)
    }

    fn millis(&self) -> Option<u64> {
        self.micros().map(|micros| micros / 1000)
    }
}

/// A connection being served.
pub(crate) struct Connection {
    pub(crate) live: Arc<Live>,
    pub(crate) worker: Arc<Worker>,
    /// What it is served by; the policy in it admitted the client. Not the listener
    /// itself, whose pools must not outlive a change for as long as connections do.
    pub(crate) spec: Arc<snapshot::Listener>,
    number: usize,
    entered: Option<Entered>,
    place: Option<Place>,
}

/// What a connection takes before it is accepted: a place in the agent, and one on its
/// listener.
pub(crate) struct Place {
    _seat: Seat,
    permit: OwnedSemaphorePermit,
}

impl Place {
    /// Both together.
    pub(crate) fn new(seat: Seat, permit: OwnedSemaphorePermit) -> Self {
        Self {
            _seat: seat,
            permit,
        }
    }
}

impl Connection {
    /// Registers an accepted connection. That comes before any look at the
    /// policy, so that a change of policy cannot fall between the two.
    pub(crate) fn open(
        worker: &Arc<Worker>,
        listener: &Listener,
        peer: PeerAddr,
        place: Place,
    ) -> Self {
        let facts = &listener.facts;
        facts.accepted.fetch_add(1, Ordering::Relaxed);
        let live = Arc::new(Live::new(listener, peer));
        let number = worker.register(&live);
        Self {
            live,
            worker: Arc::clone(worker),
            spec: Arc::clone(&listener.spec),
            number,
            entered: None,
            place: Some(place),
        }
    }

    /// Decides whether the client may be here, by the policy as it is now; `listener`
    /// is the one that it came by. Answers with what it is served by from now on.
    ///
    /// # Errors
    /// The refusal, as a cause.
    pub(crate) fn admit(
        &mut self,
        client: ClientAddr,
        listener: Arc<Listener>,
    ) -> Result<Arc<Listener>, Cause> {
        // The client first, then the policy; whoever changes the policy swaps
        // first and then looks at clients. One of the two sees the other.
        let client = *self.live.client.get_or_init(|| client);
        fence(Ordering::SeqCst);
        let listener = self.now(&listener).unwrap_or(listener);
        self.spec = Arc::clone(&listener.spec);
        let refused = self.decide(client, &listener);
        let facts = &self.live.listener;
        let mut tallies = self.worker.tallies();
        if self.live.edge {
            tallies.add(facts, Measure::Connections, client.key(), 1);
        }
        match refused {
            Ok(()) => Ok(listener),
            Err(refusal) => {
                tallies.add(facts, Measure::Refused, client.key(), 1);
                drop(tallies);
                facts.refused.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%client, listener = %self.spec.name, %refusal, "refused");
                Err(Cause::from(&refusal))
            }
        }
    }

    fn decide(&mut self, client: ClientAddr, listener: &Listener) -> Result<(), Refusal> {
        listener.admission.admit(client)?;
        if let Some(rate) = listener.spec.policy.limits.new_per_client {
            let hash = self.worker.state.own_key().client(client.key());
            let bounds = &self.live.listener.bounds;
            if !bounds.admits_client(hash, rate, uptime()) {
                return Err(Refusal::TooFast { rate });
            }
        }
        let entered = self.live.listener.clients.enter(client.key());
        let within = listener.admission.within_limit(entered.live);
        self.entered = Some(entered);
        within
    }

    /// Says how far it has come.
    pub(crate) fn enter(&self, phase: Phase) {
        self.live.enter(phase);
    }

    /// The end of a deadline, by what was waited for: a backend that does not
    /// accept or has no room is not the client's doing, a handshake that does not end is.
    pub(crate) fn too_late(&self) -> Cause {
        match self.live.phase() {
            Phase::Connect => return Cause::ConnectTimeout,
            Phase::Queue => return Cause::QueueTimeout,
            Phase::Handshake => self.handshake_failed("timeout"),
            _ => {}
        }
        Cause::FirstByteTimeout
    }

    /// Where it goes as things are now, which may have changed since it came by `own`.
    pub(crate) fn target(&self, own: &Listener) -> Option<Target> {
        match self.now(own) {
            Some(now) => now.target.clone(),
            None => own.target.clone(),
        }
    }

    /// What the listener is now, if it still is.
    fn now(&self, own: &Listener) -> Option<Arc<Listener>> {
        let now = self.worker.state.listener(own.spec.bind)?;
        (now.spec.name == own.spec.name).then_some(now)
    }

    /// Takes note of a handshake and what it came to; `name` is what a certificate calls
    /// the host that the client asked for.
    pub(crate) fn shaken(&self, agreed: Agreed, name: Option<&str>) {
        self.live.account();
        let took = Duration::from_micros(self.live.shaking.micros().unwrap_or(0));
        let agreed = self.live.tls.get_or_init(|| Box::new(agreed));
        self.live.listener.handshakes.shaken(agreed, name, took);
    }

    /// Counts a failed handshake.
    pub(crate) fn handshake_failed(&self, why: &'static str) {
        self.live.listener.handshakes.failed(why);
        if let Some(client) = self.live.client() {
            self.worker.tallies().add(
                &self.live.listener,
                Measure::HandshakeFailures,
                client.key(),
                1,
            );
        }
    }

    /// Says why it ends.
    pub(crate) fn end(&self, cause: Cause) {
        self.live.end(cause);
    }

    /// The end of everything before the first payload byte.
    pub(crate) fn first_byte_deadline(&self) -> Instant {
        let wait = self.spec.policy.timeouts.first_byte.duration();
        self.live.started + wait
    }

    /// The end of its life, where the policy sets one: within the last tenth before
    /// `max_age`, so that connections that came together do not come again together.
    pub(crate) fn end_of_life(&self) -> Option<Instant> {
        let age = self.spec.policy.timeouts.max_age?.duration();
        Some(self.live.started + shortened(age, self.live.number))
    }

    /// Where it was accepted.
    pub(crate) fn bind(&self) -> SocketAddr {
        self.spec.bind
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.unregister(self.number);
        self.live.settle(&mut self.worker.tallies());
        let facts = &self.live.listener;
        let cause = Cause::from_u8(self.live.cause.load(Ordering::SeqCst));
        // Without a cause the task panicked: nothing else drops a connection unended.
        let cause = cause.unwrap_or(Cause::Internal);
        facts.count_closed(self.live.phase(), cause);
        // Before the event: whoever reads it may count on the room it made. The permit
        // goes last, since shutdown waits for it and the event has to be out by then.
        drop(self.entered.take());
        let permit = self.place.take().map(|place| place.permit);
        access_event(self, cause);
        drop(permit);
    }
}

/// Up to a tenth shorter. Successive numbers are as far from each other as can be:
/// multiples of the golden ratio (Knuth, The Art of Computer Programming, 6.4).
fn shortened(age: Duration, number: u64) -> Duration {
    let part = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    let part = u32::try_from(part).unwrap_or(0);
    age - age / 10 * part / (1 << 16)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX - 1)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
