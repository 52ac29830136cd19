//! Which questions are put to which systems. An [`Experiment`] is one or more cases
//! that a started system answers together; a scenario is a list of experiments.
//!
//! To add a system, name its stack among the entrants of an experiment; to add a
//! question, make an experiment. Both then appear in the report by themselves.

mod cores;
mod files;
mod generators;
mod latency;
mod lineup;
mod memory;
mod websockets;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt;
use rustix::process::{Resource, getrlimit};
use tokio::time::{Instant, sleep};

use crate::load::http::{After, Client};
use crate::load::tls::Pins;
use crate::load::wire::Wire;
use crate::results::{Case, Scenario, Side, System};
use crate::stage::{CertificateKind, Stage};
use crate::systems::{Conditions, Layer, Running, Stack, Tickets, Trouble};

/// Case id -> metric -> value of one round.
pub type Figures = BTreeMap<String, BTreeMap<String, f64>>;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Requests per file of a run of `ab`.
    pub requests: usize,
    /// WebSockets at once.
    pub websockets: &'static [usize],
    /// Messages exchanged over all open WebSockets.
    pub messages: usize,
    /// How long a busy system is watched.
    pub window: Duration,
    /// How long one is timed that is asked at a fixed rate: long enough for a p99.9.
    pub paced: Duration,
    /// How long it is kept busy before.
    pub warm_up: Duration,
    /// Idle connections at the two readings of memory.
    pub idle: (usize, usize),
    /// How long nothing happens before such a reading.
    pub settle: Duration,
}

impl Scale {
    /// For figures.
    pub const FULL: Self = Self {
        requests: 5_000,
        websockets: &[2_000, 5_000, 9_000],
        messages: 30_000,
        window: Duration::from_millis(900),
        paced: Duration::from_secs(2),
        warm_up: Duration::from_millis(250),
        idle: (1_000, 5_000),
        settle: Duration::from_millis(400),
    };

    /// To see that everything works: the figures say nothing.
    pub const SMOKE: Self = Self {
        requests: 20,
        websockets: &[20],
        messages: 40,
        window: Duration::from_millis(40),
        paced: Duration::from_millis(40),
        warm_up: Duration::from_millis(20),
        idle: (5, 10),
        settle: Duration::from_millis(20),
    };
}

/// The processors that a run has.
#[derive(Clone, Debug)]
pub struct Processors(pub Vec<usize>);

impl Processors {
    /// One for the system, another one for who asks it.
    pub fn pair(&self) -> Option<(usize, usize)> {
        match self.0.as_slice() {
            [system, load, ..] => Some((*system, *load)),
            _ => None,
        }
    }
}

/// Who answers.
pub struct Entrant {
    /// As the report names it.
    pub system: System,
    /// Whom it is compared with: those that do the same work.
    pub group: &'static str,
    /// What is started, or why it is not.
    pub stack: Result<Stack, String>,
}

impl Entrant {
    fn new(id: &str, title: &str, side: Side, group: &'static str, stack: Stack) -> Self {
        let system = System {
            id: id.to_owned(),
            title: title.to_owned(),
            side,
        };
        Self {
            system,
            group,
            stack: Ok(stack),
        }
    }

    fn absent(id: &str, title: &str, side: Side, group: &'static str, reason: &str) -> Self {
        let system = System {
            id: id.to_owned(),
            title: title.to_owned(),
            side,
        };
        Self {
            system,
            group,
            stack: Err(reason.to_owned()),
        }
    }
}

/// Cases that are answered together, and who answers them.
pub struct Experiment {
    /// The questions.
    pub cases: Vec<Case>,
    /// Who answers.
    pub entrants: Vec<Entrant>,
    /// How the programs are run.
    pub conditions: Conditions,
    /// How often each entrant is measured.
    pub rounds: u32,
    /// About how long one answer takes, for the time left.
    pub estimate: Duration,
    /// What is done with a started system.
    pub task: Task,
}

/// What is done with a started system: one per scenario.
pub enum Task {
    /// Asked for files.
    Files(files::Table),
    /// Fought over with WebSockets.
    Websockets(websockets::Fight),
    /// Kept busy on a core.
    Cores(cores::Cost),
    /// Asked at a fixed rate.
    Latency(latency::Latency),
    /// Left idle with connections.
    Memory(memory::Slope),
    /// Asked by others.
    Generators(generators::Asked),
}

impl Task {
    async fn measure(
        &self,
        stage: &Stage,
        running: &Running,
        conditions: Conditions,
        slowest: Option<f64>,
    ) -> Result<Figures, Trouble> {
        match self {
            Self::Files(table) => table.fill(stage, running, conditions).await,
            Self::Websockets(fight) => fight.fight(stage, running, conditions).await,
            Self::Cores(cost) => cost.watch(stage, running, conditions).await,
            Self::Latency(latency) => {
                let slowest = slowest.ok_or_else(|| Trouble::broken("nobody was rehearsed"))?;
                latency.time(stage, running, conditions, slowest).await
            }
            Self::Memory(slope) => slope.climb(stage, running, conditions).await,
            Self::Generators(asked) => asked.ask(stage, running, conditions).await,
        }
    }
}

impl Experiment {
    /// Whether each entrant is asked before the rounds what it can do at most.
    pub fn rehearses(&self) -> bool {
        matches!(self.task, Task::Latency(_))
    }

    /// Starts an entrant, finds what it can do at most, in units per second, stops it.
    ///
    /// # Errors
    /// As of [`trial`](Self::trial).
    pub async fn rehearse(&self, stage: &Stage, stack: &Stack) -> Result<f64, Trouble> {
        let Task::Latency(latency) = &self.task else {
            return Err(Trouble::broken("nothing that is rehearsed"));
        };
        let running = stack.start(stage, self.conditions).await?;
        let found = latency.rehearse(stage, &running, self.conditions).await;
        found.map_err(|trouble| with_last_words(trouble, &running))
    }

    /// Starts an entrant, measures it, stops it. `slowest` is the lowest rate of those
    /// that were rehearsed.
    ///
    /// # Errors
    /// When it has no figure; what its programs said last is in the words of a failure.
    pub async fn trial(
        &self,
        stage: &Stage,
        stack: &Stack,
        slowest: Option<f64>,
    ) -> Result<Figures, Trouble> {
        let running = stack.start(stage, self.conditions).await?;
        let conditions = self.conditions;
        let measured = self.task.measure(stage, &running, conditions, slowest);
        let measured = measured.await;
        measured.map_err(|trouble| with_last_words(trouble, &running))
    }
}

fn with_last_words(trouble: Trouble, running: &Running) -> Trouble {
    let said = |why: String| format!("{why} ({})", running.last_words());
    match trouble {
        Trouble::Absent(_) => trouble,
        Trouble::Wrong(why) => Trouble::Wrong(said(why)),
        Trouble::Broken(why) => Trouble::Broken(said(why)),
    }
}

/// All experiments of a scenario.
pub fn experiments(scenario: Scenario, scale: Scale, processors: &Processors) -> Vec<Experiment> {
    match scenario {
        Scenario::Files => files::experiments(scale, processors),
        Scenario::Websockets => websockets::experiments(scale, processors),
        Scenario::Cores => cores::experiments(scale, processors),
        Scenario::Latency => latency::experiments(scale, processors),
        Scenario::Memory => memory::experiments(scale),
        Scenario::Generators => generators::experiments(scale, processors),
    }
}

/// Rounds of what takes long, and of what is short and noisy: two systems that are alike
/// lie apart in all of five rounds once in a hundred times.
const FEW_ROUNDS: u32 = 3;
const MANY_ROUNDS: u32 = 5;

/// As a program finds the machine: a worker per processor, nothing pinned.
fn unpinned(workers: usize) -> Conditions {
    Conditions {
        workers,
        processor: None,
        load_processor: None,
        certificate: CertificateKind::P256,
        tickets: Tickets::Default,
    }
}

/// A worker on a processor of its own, clients and backend on another one; a reason for
/// all entrants where there are no two.
fn pinned(processors: &Processors, entrants: &mut [Entrant]) -> Conditions {
    let pair = processors.pair();
    if pair.is_none() {
        for entrant in entrants {
            entrant.stack = Err("needs two processors".to_owned());
        }
    }
    Conditions {
        processor: pair.map(|(system, _)| system),
        load_processor: pair.map(|(_, load)| load),
        ..unpinned(1)
    }
}

/// The entrants, with a reason where so many connections would be too many: a proxy has
/// two descriptors for each and some of its own, and so has this process, which is
/// clients and app.
fn with_descriptors(connections: usize, mut entrants: Vec<Entrant>) -> Vec<Entrant> {
    let needed = connections as u64 * 2 + 200;
    if getrlimit(Resource::Nofile)
        .current
        .is_some_and(|limit| limit < needed)
    {
        for entrant in &mut entrants {
            entrant.stack = Err(format!("needs {needed} descriptors: ulimit -n"));
        }
    }
    entrants
}

fn layer(layer: impl Layer + 'static) -> std::sync::Arc<dyn Layer> {
    std::sync::Arc::new(layer)
}

/// How long a system may give wrong answers after its start: those of a proxy that
/// does not know yet that its app is there.
const READY_LIMIT: Duration = Duration::from_secs(6);

/// Waits until a system answers as it should.
async fn until_ready<T, F>(running: &Running, mut attempt: impl FnMut() -> F) -> Result<T, Trouble>
where
    F: Future<Output = Result<T, Trouble>>,
{
    let deadline = Instant::now() + READY_LIMIT;
    loop {
        let trouble = match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(trouble) => trouble,
        };
        if let Some(ended) = running.ended() {
            return Err(Trouble::Broken(ended));
        }
        if Instant::now() > deadline {
            return Err(trouble);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a system gives `size` right bytes over a new connection.
async fn until_it_gives(
    size: usize,
    stage: &Stage,
    running: &Running,
    conditions: Conditions,
) -> Result<(), Trouble> {
    let leaf = &stage.certificate(conditions.certificate).leaf;
    let tls = running.tls.then(|| Pins::USUAL.client(leaf)).transpose()?;
    let count = std::sync::atomic::AtomicU64::new(0);
    let attempt = || async {
        let wire = Wire::connect(running.address, tls.as_ref()).await?;
        Client::new(wire, stage.block(), 64 * 1024)
            .get(size, After::Close, &count)
            .await
    };
    until_ready(running, || attempt().boxed_local()).await
}

fn figures<const N: usize>(case: &str, metrics: [(&str, f64); N]) -> Figures {
    let metrics = metrics.map(|(name, value)| (name.to_owned(), value));
    Figures::from([(case.to_owned(), BTreeMap::from(metrics))])
}
