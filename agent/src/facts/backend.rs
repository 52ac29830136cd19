//! What is known of pools and their backends, as this agent sees them: health,
//! ejection, what agents say of their own weight, and the connections each has.

use std::num::{NonZeroU8, NonZeroU32};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use tidegate_core::document::{BackendName, Ejecting, Name, Passive, Timeout};
use tidegate_core::ejection::{self, Ejection};
use tidegate_core::health::{Health, Outcome, Pace, Start, Transition};
use tidegate_core::pick::Tier;
use tidegate_core::snapshot::{self, Check};

use super::lock;
use crate::engine;
use crate::queue::Queue;
use crate::source::Port;

/// Never, in milliseconds of [`uptime`].
const NEVER: u64 = u64::MAX;
/// No agent has said how much it can carry.
const UNSAID: u32 = u32::MAX;

/// The time since this agent's first look at it: what pure machines count by.
pub(crate) fn uptime() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    engine::now().saturating_duration_since(*START)
}

/// What is known of a pool.
pub(crate) struct PoolFacts {
    pub(crate) name: Name,
    /// Connections that wait for a backend with room.
    pub(crate) queue: Queue,
    serving: AtomicU8,
    /// Held while it is decided whether one more backend is ejected.
    ejecting: Mutex<()>,
}

/// Who serves a pool at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Serving {
    Primary,
    Backup,
    FailOpen,
    Nobody,
}

impl Serving {
    /// All of them, in order.
    pub(crate) const ALL: [Self; 4] = [Self::Primary, Self::Backup, Self::FailOpen, Self::Nobody];

    /// The label in events and metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
            Self::FailOpen => "fail_open",
            Self::Nobody => "nobody",
        }
    }
}

impl From<Tier> for Serving {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::Primary => Self::Primary,
            Tier::Backup => Self::Backup,
            Tier::FailOpen => Self::FailOpen,
        }
    }
}

impl PoolFacts {
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            queue: Queue::default(),
            serving: AtomicU8::new(Serving::Primary as u8),
            ejecting: Mutex::default(),
        }
    }

    /// Who serves, as far as anybody has looked.
    pub(crate) fn serving(&self) -> Serving {
        let now = usize::from(self.serving.load(Ordering::Relaxed));
        Serving::ALL.get(now).copied().unwrap_or(Serving::Nobody)
    }

    /// Takes note of who serves; a change is an event.
    pub(crate) fn serve_by(&self, serving: Serving) {
        if self.serving.load(Ordering::Relaxed) == serving as u8 {
            return;
        }
        if self.serving.swap(serving as u8, Ordering::Relaxed) == serving as u8 {
            return;
        }
        let (pool, by) = (&self.name, serving.label());
        match serving {
            Serving::Primary => tracing::info!(%pool, by, "pool served again"),
            Serving::Backup => {
                tracing::warn!(%pool, by, "pool served by backups: all others are down");
            }
            Serving::FailOpen => {
                tracing::warn!(%pool, by, "pool served by backends that are down: all are");
            }
            Serving::Nobody => tracing::error!(%pool, by, "pool served by nobody: all are down"),
        }
    }
}

/// What is known of a backend.
pub(crate) struct BackendFacts {
    pub(crate) pool: Arc<PoolFacts>,
    pub(crate) name: BackendName,
    pub(crate) in_flight: AtomicU32,
    pub(crate) connects: AtomicU64,
    pub(crate) connects_failed: AtomicU64,
    pub(crate) ejections: AtomicU64,
    pub(crate) checks_passed: AtomicU64,
    pub(crate) checks_failed: AtomicU64,
    /// Whether a document that ran had it.
    pub(crate) known: AtomicBool,
    /// Mirrors `health`, for the data threads.
    up: AtomicBool,
    health: Mutex<Health>,
    /// When its checks made it up, in milliseconds of [`uptime`].
    recovered: AtomicU64,
    ejection: Mutex<Ejection>,
    /// Whether the last connect failed: what a success has to mend.
    failing: AtomicBool,
    /// Mirrors `ejection`, for the data threads; in milliseconds of [`uptime`].
    ejected_until: AtomicU64,
    /// How many processes its agent says it has.
    processes: AtomicU32,
    last_check: Mutex<Option<LastCheck>>,
}

/// The last check of a backend, in words.
#[derive(Clone)]
pub(crate) struct LastCheck {
    pub(crate) passed: bool,
    pub(crate) words: String,
    pub(crate) at: Instant,
}

/// What a check that passed has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// In words, for people.
    pub(crate) words: String,
    /// How many processes an agent says it has behind it.
    pub(crate) processes: Option<u32>,
}

impl<S: Into<String>> From<S> for Passed {
    fn from(words: S) -> Self {
        Self {
            words: words.into(),
            processes: None,
        }
    }
}

impl BackendFacts {
    pub(super) fn new(
        pool: Arc<PoolFacts>,
        name: BackendName,
        health: Health,
        passive: Passive,
    ) -> Self {
        Self {
            pool,
            name,
            in_flight: AtomicU32::default(),
            connects: AtomicU64::default(),
            connects_failed: AtomicU64::default(),
            ejections: AtomicU64::default(),
            checks_passed: AtomicU64::default(),
            checks_failed: AtomicU64::default(),
            known: AtomicBool::new(false),
            up: AtomicBool::new(health.is_up()),
            health: Mutex::new(health),
            recovered: AtomicU64::new(NEVER),
            ejection: Mutex::new(Ejection::new(ejecting(passive))),
            failing: AtomicBool::new(false),
            ejected_until: AtomicU64::default(),
            processes: AtomicU32::new(UNSAID),
            last_check: Mutex::default(),
        }
    }

    /// Whether its checks pass.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Whether it is ejected for failed connects.
    pub(crate) fn is_ejected(&self) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        until > 0 && millis(uptime()) < until
    }

    /// The time since its checks made it up; `None` when they never had to.
    pub(crate) fn since_recovery(&self) -> Option<Duration> {
        match self.recovered.load(Ordering::Relaxed) {
            NEVER => None,
            at => Some(uptime().saturating_sub(Duration::from_millis(at))),
        }
    }

    /// How many times its weight it can carry, as its agent says; 1 where none says.
    pub(crate) fn processes(&self) -> u32 {
        match self.processes.load(Ordering::Relaxed) {
            UNSAID => 1,
            processes => processes,
        }
    }

    /// Takes in the result of a check; answers with a change of state.
    pub(crate) fn observe(&self, result: Result<Passed, String>) -> Option<Transition> {
        let (outcome, counter) = match &result {
            Ok(_) => (Outcome::Pass, &self.checks_passed),
            Err(_) => (Outcome::Fail, &self.checks_failed),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let passed = result.is_ok();
        if let Ok(Passed { processes, .. }) = &result {
            let processes = processes.unwrap_or(UNSAID);
            self.processes.store(processes, Ordering::Relaxed);
        }
        *lock(&self.last_check) = Some(LastCheck {
            passed,
            words: result.map_or_else(std::convert::identity, |passed| passed.words),
            at: Instant::now(),
        });
        let mut health = lock(&self.health);
        let transition = health.observe(outcome);
        if transition == Some(Transition::Up) {
            self.recovered.store(millis(uptime()), Ordering::Relaxed);
        }
        self.up.store(health.is_up(), Ordering::Relaxed);
        transition
    }

    /// How long until its next check.
    pub(crate) fn pace(&self, check: &Check) -> Duration {
        lock(&self.health).pace(&Pace {
            interval: check.interval.duration(),
            fast: check.fast_interval.map(Timeout::duration),
            down: check.down_interval.map(Timeout::duration),
        })
    }

    /// Takes in a connect that succeeded.
    pub(crate) fn connected(&self) {
        self.connects.fetch_add(1, Ordering::Relaxed);
        if self.failing.load(Ordering::Relaxed) {
            self.failing.store(false, Ordering::Relaxed);
            lock(&self.ejection).succeeded();
        }
    }

    /// Takes in a connect that failed. `others` counts the pool's backends that are
    /// up and how many of them are ejected. Answers for how long it is ejected, when
    /// that is news.
    pub(crate) fn connect_failed(
        &self,
        passive: Passive,
        others: impl FnOnce() -> (usize, usize),
    ) -> Option<Duration> {
        self.connects_failed.fetch_add(1, Ordering::Relaxed);
        if passive == Passive::Off {
            return None;
        }
        // Two threads must not each eject one when one may go.
        let _one_at_a_time = lock(&self.pool.ejecting);
        self.failing.store(true, Ordering::Relaxed);
        let (up, ejected) = others();
        let now = uptime();
        let may = ejection::may_eject(up, ejected);
        let until = lock(&self.ejection).failed(now, may)?;
        self.ejected_until.store(millis(until), Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed);
        Some(until.saturating_sub(now))
    }

    /// The last check, if there was one.
    pub(crate) fn last_check(&self) -> Option<LastCheck> {
        lock(&self.last_check).clone()
    }

    /// Takes over the thresholds of a new snapshot.
    pub(crate) fn retune(&self, pool: &snapshot::Pool) {
        lock(&self.health).retune(pool.check.thresholds);
        lock(&self.ejection).retune(ejecting(pool.passive));
        if pool.passive == Passive::Off {
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    /// What was known of it holds no longer, its connections apart.
    pub(crate) fn forget(&self, pool: &snapshot::Pool, start: Start) {
        let mut health = lock(&self.health);
        *health = Health::new(pool.check.thresholds, start);
        self.up.store(health.is_up(), Ordering::Relaxed);
        self.recovered.store(NEVER, Ordering::Relaxed);
        *lock(&self.ejection) = Ejection::new(ejecting(pool.passive));
        self.ejected_until.store(0, Ordering::Relaxed);
        self.processes.store(UNSAID, Ordering::Relaxed);
        *lock(&self.last_check) = None;
    }
}

fn ejecting(passive: Passive) -> ejection::Rules {
    let rules = match passive {
        Passive::Eject(rules) => rules,
        // Never asked.
        Passive::Off => Ejecting::default(),
    };
    let failures = u8::try_from(rules.failures.get()).unwrap_or(u8::MAX);
    ejection::Rules {
        failures: NonZeroU8::new(failures).unwrap_or(NonZeroU8::MIN),
        base: rules.eject.duration(),
        longest: rules.longest.duration(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER - 1)
}

/// One connection in a backend's count.
pub(crate) struct InFlight {
    pub(crate) backend: Arc<BackendFacts>,
    port: Option<Port>,
}

impl InFlight {
    /// One more, unless the backend has as many as it may.
    pub(crate) fn enter(backend: &Arc<BackendFacts>, limit: Option<NonZeroU32>) -> Option<Self> {
        let limit = limit.map_or(u32::MAX, NonZeroU32::get);
        let more = |count: u32| (count < limit).then(|| count + 1);
        let entered = backend
            .in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        entered.ok().map(|_| Self {
            backend: Arc::clone(backend),
            port: None,
        })
    }

    /// With the source port that it takes of the agent's, if it does.
    pub(crate) fn with_port(mut self, port: Option<Port>) -> Self {
        self.port = port;
        self
    }

    /// The source port, for a connection that outlives what it was opened for.
    pub(crate) fn take_port(&mut self) -> Option<Port> {
        self.port.take()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        drop(self.port.take());
        self.backend.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.backend.pool.queue.wake_one();
    }
}
