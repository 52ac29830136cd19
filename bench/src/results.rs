//! What one run found: the content of `results.json`, which reports and comparisons
//! are made from and which says everything they need. Written by the runner only.
//!
//! To read: a [`Case`] is one question ("processor time of one short TCP
//! connection"), a [`System`] one answerer ("nginx stream, tuned"), a [`Row`] what
//! that system answered in every round, or why it did not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of this format; a file with another one is refused.
pub const FORMAT: u32 = 1;

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// [`FORMAT`].
    pub format: u32,
    /// When it began, RFC 3339.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// Of Tidegate: `git describe --always --dirty`, or "unknown".
    pub commit: String,
    /// How often each system was measured in each case.
    pub rounds: u32,
    /// Tiny counts, which show that the harness works; the figures say nothing.
    pub smoke: bool,
    /// Where it ran.
    pub machine: Machine,
    /// Program -> the version it tells of itself.
    pub versions: BTreeMap<String, String>,
    /// In the order they are shown.
    pub cases: Vec<Case>,
    /// In the order they are shown.
    pub systems: Vec<System>,
    /// By case, then by system, in the orders above.
    pub rows: Vec<Row>,
}

/// Where a run took place.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// As the kernel names it.
    pub processor: String,
    /// Logical ones that this process may use.
    pub processors: usize,
    /// MiB.
    pub memory_mib: u64,
    /// `uname -sr`.
    pub kernel: String,
    /// From os-release.
    pub distribution: String,
    /// RLIMIT_NOFILE.
    pub descriptors: u64,
}

/// One question, put to every system that can answer it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Unique in the run: `tcp-short`, `files-new-2216`.
    pub id: String,
    /// Which table it belongs to.
    pub scenario: Scenario,
    /// For people: "TLS 1.3, P-256, full handshake".
    pub title: String,
    /// What one unit is, singular: "connection", "message", "GiB".
    pub unit: String,
    /// The metric that ratios are made of. Lower is better, in every case.
    pub headline: String,
}

/// A table of the report.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// The table of 2013: files over HTTP, `ab`.
    Files,
    /// WebSockets, as in "balancerbattle".
    Websockets,
    /// Processor time of a unit of work, on one pinned core.
    Cores,
    /// Time of an answer at half load, on one pinned core.
    Latency,
    /// Memory of an idle connection.
    Memory,
    /// Do other load generators see what ours sees?
    Generators,
}

/// Something that is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Unique in the run: `nginx-stream-tuned`.
    pub id: String,
    /// For people: "nginx stream, tuned".
    pub title: String,
    /// Whose it is.
    pub side: Side,
}

/// Whose a system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Ours: ratios are printed for it.
    Tidegate,
    /// Ratios are made against the best of these.
    Peer,
    /// Nothing in between, or an app by itself: shown, never a peer of a proxy.
    Baseline,
}

/// What one system answered in one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// [`Case::id`].
    pub case: String,
    /// [`System::id`].
    pub system: String,
    /// Ratios compare systems of one group ("tcp", "http"): those that do the same work.
    pub group: String,
    /// What it answered.
    pub outcome: Outcome,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Metric -> its value in each round, in the order of the rounds. The name of a
    /// metric ends in its unit: `_us`, `_ms`, `_s`, `_kib`, or `_per_s` (a rate, where
    /// alone more is better). `cpu_us` is the system's processes', `machine_us` what the
    /// whole machine was busy, both per unit of the case. `cpu_s/NAME` is one program's part.
    Measured(BTreeMap<String, Vec<f64>>),
    /// It cannot, and why: "OpenSSL 3.0 has no ML-KEM".
    Absent(String),
    /// It answered wrong or broke: the run has failed.
    Failed(String),
}

/// The middle of the rounds, and how far apart they lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// Of at least one value; `None` of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self {
            median: f64::midpoint(lower, upper),
            low,
            high,
        })
    }

    /// How this compares with `base`: the ratio of the medians, and the furthest that
    /// any round of one lies from any round of the other.
    pub fn over(self, base: Self) -> Self {
        Self {
            median: self.median / base.median,
            low: self.low / base.high,
            high: self.high / base.low,
        }
    }
}

impl Results {
    /// The row of a case and a system.
    pub fn row(&self, case: &str, system: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.case == case && row.system == system)
    }

    /// One metric of one row over the rounds.
    pub fn spread(&self, case: &str, system: &str, metric: &str) -> Option<Spread> {
        self.row(case, system)?.spread(metric)
    }

    /// The system of that id.
    pub fn system(&self, id: &str) -> Option<&System> {
        self.systems.iter().find(|system| system.id == id)
    }
}

impl Row {
    /// One metric over the rounds; `None` when there is no such figure.
    pub fn spread(&self, metric: &str) -> Option<Spread> {
        match &self.outcome {
            Outcome::Measured(metrics) => Spread::of(metrics.get(metric)?),
            Outcome::Absent(_) | Outcome::Failed(_) => None,
        }
    }
}
