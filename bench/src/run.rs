//! Goes round: every experiment, in every round each system after the other, with the
//! time left; then writes results, report and charts. A wrong answer costs its system
//! the figure and the run its success.

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout;

use self::fast_open::FastOpen;
use crate::report;
use crate::results::{FORMAT, Outcome, Results, Row, Scenario, System};
use crate::scenario::{Entrant, Experiment, Figures, Processors, Scale, experiments};
use crate::stage::{Programs, Stage};
use crate::systems::Trouble;

mod fast_open;
mod surroundings;

/// What one start, measurement and stop of a system may take.
const TRIAL_LIMIT: Duration = Duration::from_secs(300);

/// What is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which tables.
    pub scenarios: Vec<Scenario>,
    /// Which systems: those whose id holds one of these words. All when empty.
    pub only: Vec<String>,
    /// Which cases: the same. All when empty.
    pub cases: Vec<String>,
    /// How often each is measured; the scenario's own number when absent.
    pub rounds: Option<u32>,
    /// Tiny counts.
    pub smoke: bool,
    /// Where results are written.
    pub output: PathBuf,
    /// Programs that are ours.
    pub programs: Programs,
}

/// Runs it all, and writes it all.
///
/// # Errors
/// When the surroundings cannot be made or the results not be written. Systems that
/// fail are rows of the results.
pub async fn run(settings: &Settings) -> anyhow::Result<Results> {
    surroundings::raise_descriptor_limit();
    // A smoke run looks at no figure, and leaves the host as it is.
    let _fast_open = (!settings.smoke).then(FastOpen::everywhere);
    let began = Instant::now();
    let started = OffsetDateTime::now_utc().format(&Rfc3339)?;
    let stage = Stage::new(settings.programs.clone())?;
    let processors = Processors(surroundings::processors()?);
    let experiments = settings.experiments(&processors);
    anyhow::ensure!(
        !experiments.is_empty(),
        "nothing to measure: no system and case matches --only and --case"
    );
    let mut results = Results {
        format: FORMAT,
        started,
        seconds: 0.0,
        commit: surroundings::commit(),
        rounds: experiments.iter().map(|e| e.rounds).max().unwrap_or(0),
        smoke: settings.smoke,
        machine: surroundings::machine(&processors),
        versions: surroundings::versions(&settings.programs).await,
        cases: Vec::new(),
        systems: Vec::new(),
        rows: Vec::new(),
    };
    let mut progress = Progress::over(&experiments);
    for experiment in &experiments {
        let rows = go_round(experiment, &stage, &mut progress).await;
        results.add(experiment, rows);
        for case in &experiment.cases {
            for ratio in report::ratios(&results, &case.id) {
                progress.say(&format!("  {ratio}"));
            }
        }
        // Whatever ends the run, what was measured is there.
        results.seconds = began.elapsed().as_secs_f64();
        write(&results, &settings.output)?;
    }
    Ok(results)
}

impl Settings {
    fn experiments(&self, processors: &Processors) -> Vec<Experiment> {
        let scale = if self.smoke {
            Scale::SMOKE
        } else {
            Scale::FULL
        };
        let holds = |words: &[String], id: &str| {
            words.is_empty() || words.iter().any(|word| id.contains(word.as_str()))
        };
        let mut all: Vec<Experiment> = self
            .scenarios
            .iter()
            .flat_map(|&scenario| experiments(scenario, scale, processors))
            .collect();
        for experiment in &mut all {
            experiment.rounds = self.rounds.unwrap_or(experiment.rounds);
            experiment
                .entrants
                .retain(|entrant| holds(&self.only, &entrant.system.id));
        }
        all.retain(|experiment| {
            let wanted = experiment
                .cases
                .iter()
                .any(|case| holds(&self.cases, &case.id));
            wanted && !experiment.entrants.is_empty()
        });
        all
    }
}

/// What is known of one system in one experiment so far.
enum Standing {
    Measured(Vec<Figures>),
    Out(Outcome),
}

async fn go_round(experiment: &Experiment, stage: &Stage, progress: &mut Progress) -> Vec<Row> {
    let mut standings: Vec<Standing> = experiment.entrants.iter().map(Standing::of).collect();
    let slowest = if experiment.rehearses() {
        rehearse(experiment, stage, &mut standings, progress).await
    } else {
        None
    };
    for round in 1..=experiment.rounds {
        for (entrant, standing) in experiment.entrants.iter().zip(&mut standings) {
            progress.next(experiment, entrant, &format!("round {round}"));
            let (Standing::Measured(figures), Ok(stack)) = (&mut *standing, &entrant.stack) else {
                progress.skipped(experiment.estimate);
                continue;
            };
            let trial = in_time(experiment.trial(stage, stack, slowest)).await;
            progress.done(experiment.estimate);
            match trial {
                Ok(found) => figures.push(found),
                Err(trouble) => {
                    progress.say(&format!("  {}: {trouble}", entrant.system.title));
                    *standing = Standing::Out(trouble.into());
                }
            }
        }
    }
    let case_rows = experiment.cases.iter().flat_map(|case| {
        experiment
            .entrants
            .iter()
            .zip(&standings)
            .map(|(entrant, standing)| Row {
                case: case.id.clone(),
                system: entrant.system.id.clone(),
                group: entrant.group.to_owned(),
                outcome: standing.outcome(&case.id),
            })
    });
    case_rows.collect()
}

/// What the slowest entrant can do, in units per second. Who cannot be asked is out.
async fn rehearse(
    experiment: &Experiment,
    stage: &Stage,
    standings: &mut [Standing],
    progress: &mut Progress,
) -> Option<f64> {
    let mut rates = Vec::new();
    for (entrant, standing) in experiment.entrants.iter().zip(standings) {
        progress.next(experiment, entrant, "rehearsal");
        let Ok(stack) = &entrant.stack else {
            progress.skipped(experiment.estimate);
            continue;
        };
        let found = in_time(experiment.rehearse(stage, stack)).await;
        progress.done(experiment.estimate);
        match found {
            Ok(rate) => rates.push(rate),
            Err(trouble) => {
                progress.say(&format!("  {}: {trouble}", entrant.system.title));
                *standing = Standing::Out(trouble.into());
            }
        }
    }
    rates.into_iter().min_by(f64::total_cmp)
}

async fn in_time<T>(trial: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let late = || Trouble::broken(format!("over {TRIAL_LIMIT:?} without an end"));
    timeout(TRIAL_LIMIT, trial)
        .await
        .unwrap_or_else(|_| Err(late()))
}

impl Standing {
    fn of(entrant: &Entrant) -> Self {
        match &entrant.stack {
            Ok(_) => Self::Measured(Vec::new()),
            Err(reason) => Self::Out(Outcome::Absent(reason.clone())),
        }
    }

    fn outcome(&self, case: &str) -> Outcome {
        match self {
            Self::Out(outcome) => outcome.clone(),
            Self::Measured(rounds) => {
                let mut metrics = BTreeMap::<String, Vec<f64>>::new();
                for (name, value) in rounds
                    .iter()
                    .filter_map(|figures| figures.get(case))
                    .flatten()
                {
                    metrics.entry(name.clone()).or_default().push(*value);
                }
                Outcome::Measured(metrics)
            }
        }
    }
}

impl From<Trouble> for Outcome {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Absent(reason) => Self::Absent(reason),
            Trouble::Wrong(_) | Trouble::Broken(_) => Self::Failed(trouble.to_string()),
        }
    }
}

impl Results {
    fn add(&mut self, experiment: &Experiment, rows: Vec<Row>) {
        self.cases.extend(experiment.cases.iter().cloned());
        for Entrant { system, .. } in &experiment.entrants {
            if !self
                .systems
                .iter()
                .any(|known: &System| known.id == system.id)
            {
                self.systems.push(system.clone());
            }
        }
        self.rows.extend(rows);
    }

    /// The rows that have failed.
    pub fn failures(&self) -> impl Iterator<Item = (&Row, &str)> {
        self.rows.iter().filter_map(|row| match &row.outcome {
            Outcome::Failed(why) => Some((row, why.as_str())),
            Outcome::Measured(_) | Outcome::Absent(_) => None,
        })
    }
}

/// Writes `results.json`, `README.md` and the charts.
///
/// # Errors
/// When a file cannot be written.
pub fn write(results: &Results, folder: &Path) -> anyhow::Result<()> {
    let put = |name: &str, content: &str| {
        let file = folder.join(name);
        fs::write(&file, content).with_context(|| format!("writing {}", file.display()))
    };
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    put(
        "results.json",
        &(serde_json::to_string_pretty(results)? + "\n"),
    )?;
    let charts = report::charts(results);
    for chart in &charts {
        put(&chart.file_name, &chart.svg)?;
    }
    put("README.md", &report::markdown(results, &charts))
}

/// Where the run is, and how long it still takes.
struct Progress {
    steps: usize,
    step: usize,
    began: Instant,
    /// Of what is done, and of what is left, as it was estimated.
    done: Duration,
    left: Duration,
    live: bool,
}

impl Progress {
    fn over(experiments: &[Experiment]) -> Self {
        let trials = |experiment: &Experiment| {
            let rehearsals = usize::from(experiment.rehearses());
            experiment.entrants.len() * (experiment.rounds as usize + rehearsals)
        };
        Self {
            steps: experiments.iter().map(trials).sum(),
            step: 0,
            began: Instant::now(),
            done: Duration::ZERO,
            left: experiments
                .iter()
                .map(|experiment| {
                    experiment.estimate * u32::try_from(trials(experiment)).unwrap_or(u32::MAX)
                })
                .sum(),
            live: std::io::stderr().is_terminal(),
        }
    }

    fn next(&mut self, experiment: &Experiment, entrant: &Entrant, part: &str) {
        self.step += 1;
        let title = experiment
            .cases
            .first()
            .map_or("", |case| case.title.as_str());
        let line = format!(
            "[{:>4}/{}] {} left · {title} · {} · {part}",
            self.step,
            self.steps,
            human(self.time_left()),
            entrant.system.title,
        );
        if self.live {
            // Over the line before, cleared to its end.
            eprint!("\r\x1b[K{line}");
        } else {
            eprintln!("{line}");
        }
    }

    fn done(&mut self, estimate: Duration) {
        self.done += estimate;
        self.left = self.left.saturating_sub(estimate);
    }

    /// One that takes no time says nothing about the others.
    fn skipped(&mut self, estimate: Duration) {
        self.left = self.left.saturating_sub(estimate);
    }

    /// The estimates, as wrong as they were so far.
    fn time_left(&self) -> Duration {
        let so_far = if self.done.is_zero() {
            1.0
        } else {
            self.began.elapsed().as_secs_f64() / self.done.as_secs_f64()
        };
        self.left.mul_f64(so_far)
    }

    fn say(&self, text: &str) {
        if self.live {
            eprintln!("\r\x1b[K{text}");
        } else {
            eprintln!("{text}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.live {
            eprintln!();
        }
    }
}

fn human(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 90 {
        format!("{seconds} s")
    } else {
        format!("{} min", seconds.div_ceil(60))
    }
}
