//! Two runs side by side: what changed between them, as plain text of at most 100
//! columns that pastes into a commit message. Whoever changes what is fast or small
//! measures before and after, and shows this.
//!
//! Only rows measured in both runs have a ratio; everything that makes the runs less
//! than comparable is said first.

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::report::{Scale, Standing, is_rate, over, ratio_text, usable};
use crate::results::{Case, FORMAT, Outcome, Results, Row, Spread};

/// What to compare.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// All metrics, not only the headline of each case.
    pub all: bool,
    /// Only cases whose id or title contains this.
    pub case: Option<String>,
    /// Only systems whose id or title contains this.
    pub system: Option<String>,
}

/// Why there is no run to compare. Every message names the mend.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No such file.
    #[error("{0} does not exist: name a results.json, or the directory that holds one")]
    Missing(PathBuf),
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of another version of this program.
    #[error(
        "{path} has format {found}, this program reads format {FORMAT}: \
         compare with the program of that run's commit, or measure again"
    )]
    Format {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A file that is something else, or was cut off.
    #[error(
        "{path} is not the results of a run ({source}): name the results.json of a run that ended"
    )]
    Broken {
        /// Which.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
}

/// Reads a `results.json`, or the one in that directory.
///
/// # Errors
/// When there is none, or it is not one of this [`FORMAT`].
pub fn load(path: impl AsRef<Path>) -> Result<Results, LoadError> {
    let path = path.as_ref();
    let path = if path.is_dir() {
        path.join("results.json")
    } else {
        path.to_owned()
    };
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(LoadError::Missing(path));
        }
        Err(source) => return Err(LoadError::Unreadable { path, source }),
    };
    match parse(&bytes) {
        Ok(Ok(results)) => Ok(results),
        Ok(Err(found)) => Err(LoadError::Format { path, found }),
        Err(source) => Err(LoadError::Broken { path, source }),
    }
}

/// The format first: another one may have other fields.
fn parse(bytes: &[u8]) -> Result<Result<Results, u32>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let Head { format } = serde_json::from_slice(bytes)?;
    if format == FORMAT {
        serde_json::from_slice(bytes).map(Ok)
    } else {
        Ok(Err(format))
    }
}

/// What B took over what A took, for each row that both measured.
pub fn compare(a: &Results, b: &Results, wanted: &Wanted) -> String {
    let mut text = head(a, b);
    let mut compared = 0;
    for case in a.cases.iter().filter(|case| wanted.case(case)) {
        for metric in wanted.metrics(a, b, case) {
            let lines = lines(a, b, wanted, case, &metric);
            if lines.is_empty() {
                continue;
            }
            compared += lines.len();
            let title = format!("{}: {}, {metric}", case.id, case.title);
            let _ = write!(text, "\n{}\n{}", cut(&title, WIDTH), lines.concat());
        }
    }
    if compared == 0 {
        text.push_str("\nNothing was measured in both");
        text.push_str(if wanted.is_narrow() {
            ": use a wider filter.\n"
        } else {
            ".\n"
        });
    }
    text.push_str(&one_sided("A", a, b, wanted));
    text.push_str(&one_sided("B", b, a, wanted));
    text
}

const WIDTH: usize = 100;
const NAME: usize = 36;

impl Wanted {
    fn case(&self, case: &Case) -> bool {
        holds(self.case.as_deref(), &case.id, &case.title)
    }

    fn system(&self, results: &Results, id: &str) -> bool {
        holds(
            self.system.as_deref(),
            id,
            results.system(id).map_or("", |system| &system.title),
        )
    }

    fn is_narrow(&self) -> bool {
        self.case.is_some() || self.system.is_some()
    }

    /// The headline first.
    fn metrics(&self, a: &Results, b: &Results, case: &Case) -> Vec<String> {
        let mut metrics = vec![case.headline.clone()];
        if !self.all {
            return metrics;
        }
        let rows = a
            .rows
            .iter()
            .chain(&b.rows)
            .filter(|row| row.case == case.id);
        let mut others: Vec<_> = rows
            .flat_map(names)
            .filter(|name| **name != case.headline)
            .collect();
        others.sort();
        others.dedup();
        metrics.extend(others.into_iter().cloned());
        metrics
    }
}

fn holds(part: Option<&str>, id: &str, title: &str) -> bool {
    let lower = part.map(str::to_lowercase);
    lower.is_none_or(|part| {
        id.to_lowercase().contains(&part) || title.to_lowercase().contains(&part)
    })
}

fn names(row: &Row) -> Vec<&String> {
    match &row.outcome {
        Outcome::Measured(metrics) => metrics.keys().collect(),
        Outcome::Absent(_) | Outcome::Failed(_) => Vec::new(),
    }
}

/// Which runs these are, and why they may not compare.
fn head(a: &Results, b: &Results) -> String {
    let mut text = String::new();
    for (name, run) in [("A", a), ("B", b)] {
        let rounds = if run.rounds == 1 { "round" } else { "rounds" };
        let line = format!(
            "{name}: {}, {}, {} {rounds}",
            run.commit, run.started, run.rounds
        );
        let _ = writeln!(text, "{}", cut(&line, WIDTH));
    }
    text.push_str("Medians, and B over A: below 1, B takes less (of a rate: does less).\n");
    for warning in warnings(a, b) {
        text.push_str(&wrapped("warning: ", &warning));
    }
    text
}

fn warnings(a: &Results, b: &Results) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, run) in [("A", a), ("B", b)] {
        if run.smoke {
            warnings.push(format!("{name} is a smoke run, its figures say nothing"));
        }
    }
    let (m, n) = (&a.machine, &b.machine);
    let mut differs = |what: &str, a: &dyn Display, b: &dyn Display| {
        let (a, b) = (a.to_string(), b.to_string());
        if a != b {
            warnings.push(format!("{what} differs: {a} in A, {b} in B"));
        }
    };
    differs("processor", &m.processor, &n.processor);
    differs("number of processors", &m.processors, &n.processors);
    differs("memory (MiB)", &m.memory_mib, &n.memory_mib);
    differs("kernel", &m.kernel, &n.kernel);
    differs("distribution", &m.distribution, &n.distribution);
    differs("limit of descriptors", &m.descriptors, &n.descriptors);
    differs("number of rounds", &a.rounds, &b.rounds);
    let programs: BTreeSet<_> = a.versions.keys().chain(b.versions.keys()).collect();
    for program in programs {
        let of = |run: &Results| {
            run.versions
                .get(program)
                .cloned()
                .unwrap_or("none".to_owned())
        };
        differs(&format!("version of {program}"), &of(a), &of(b));
    }
    if a.rounds.min(b.rounds) == 1 {
        warnings.push("one round shows no noise, so no difference can be told from it".to_owned());
    }
    warnings
}

fn lines(a: &Results, b: &Results, wanted: &Wanted, case: &Case, metric: &str) -> Vec<String> {
    let ours = a
        .rows
        .iter()
        .filter(|row| row.case == case.id && wanted.system(a, &row.system));
    let pairs = ours.filter_map(|row| {
        let other = b.row(&case.id, &row.system)?;
        Some((row, other, usable(row, metric)?, usable(other, metric)?))
    });
    let pairs: Vec<_> = pairs.collect();
    let scale = Scale::of(
        metric,
        pairs.iter().flat_map(|(_, _, x, y)| [x.median, y.median]),
    );
    let line = |(row, other, x, y): &(&Row, &Row, Spread, Spread)| {
        let rounds = values(row, metric).min(values(other, metric));
        let (ratio, verdict) = verdict(metric, *x, *y, rounds);
        let (x, y) = (scale.figure(x.median), scale.figure(y.median));
        let name = cut(&row.system, NAME);
        let line = format!("  {name:NAME$} {x:>11} {y:>11}  {ratio:20} {verdict}");
        format!("{}\n", cut(line.trim_end(), WIDTH))
    };
    pairs.iter().map(line).collect()
}

fn values(row: &Row, metric: &str) -> usize {
    match &row.outcome {
        Outcome::Measured(metrics) => metrics.get(metric).map_or(0, Vec::len),
        Outcome::Absent(_) | Outcome::Failed(_) => 0,
    }
}

/// The ratio with its spread, and whether it says anything.
fn verdict(metric: &str, a: Spread, b: Spread, rounds: usize) -> (String, &'static str) {
    let Some(ratio) = over(b, a) else {
        return ("no ratio, A is 0".to_owned(), "");
    };
    let median = ratio_text(ratio.median);
    if rounds < 2 {
        return (median, "one round");
    }
    let text = format!(
        "{median} ({}-{})",
        ratio_text(ratio.low),
        ratio_text(ratio.high)
    );
    let is_size = metric.ends_with("kib");
    let (better, worse) = if is_size {
        ("smaller", "larger")
    } else {
        ("faster", "slower")
    };
    let told = match Standing::of(ratio) {
        Standing::Ahead if is_rate(metric) => worse,
        Standing::Behind if is_rate(metric) => better,
        Standing::Ahead => better,
        Standing::Behind => worse,
        Standing::Even | Standing::Unknown => "within noise",
    };
    (text, told)
}

/// Rows that only this run measured, a line for each case.
fn one_sided(name: &str, run: &Results, other: &Results, wanted: &Wanted) -> String {
    let mut text = String::new();
    for case in run.cases.iter().filter(|case| wanted.case(case)) {
        let rows = run
            .rows
            .iter()
            .filter(|row| row.case == case.id && is_measured(row));
        let rows = rows.filter(|row| wanted.system(run, &row.system));
        let alone: Vec<_> = rows.filter_map(|row| alone(other, row)).collect();
        if alone.is_empty() {
            continue;
        }
        let unknown = !other.cases.iter().any(|known| known.id == case.id);
        let what = if unknown {
            "the whole case".to_owned()
        } else {
            alone.join(", ")
        };
        text.push_str(&wrapped("  ", &format!("{}: {what}", case.id)));
    }
    if text.is_empty() {
        text
    } else {
        format!("\nMeasured only in {name}:\n{text}")
    }
}

fn is_measured(row: &Row) -> bool {
    matches!(row.outcome, Outcome::Measured(_))
}

/// The system, and what the other run says instead.
fn alone(other: &Results, row: &Row) -> Option<String> {
    match other.row(&row.case, &row.system).map(|row| &row.outcome) {
        Some(Outcome::Measured(_)) => None,
        Some(Outcome::Absent(why)) => Some(format!("{} (other run: {why})", row.system)),
        Some(Outcome::Failed(why)) => Some(format!("{} (other run FAILED: {why})", row.system)),
        None => Some(row.system.clone()),
    }
}

/// One paragraph behind `head`, its further lines indented, each within [`WIDTH`].
fn wrapped(head: &str, text: &str) -> String {
    let mut lines = Vec::new();
    let mut line = head.to_owned();
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, "    ".to_owned()));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    lines.push(line);
    lines
        .iter()
        .map(|line| format!("{}\n", cut(line, WIDTH)))
        .collect()
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars()
        .take(width.saturating_sub(1))
        .chain(['…'])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::Sample;
    use crate::results::Scenario;

    fn before() -> Sample {
        Sample::tcp_short()
            .measured("nginx", "tcp", &[24.0, 25.0, 26.0])
            .metrics(
                "tidegate",
                "tcp",
                &[
                    ("cpu_us", &[30.0, 30.5, 31.0]),
                    ("opened_per_s", &[900.0, 910.0, 920.0]),
                ],
            )
    }

    fn after() -> Sample {
        Sample::tcp_short()
            .measured("nginx", "tcp", &[24.5, 25.5, 26.0])
            .metrics(
                "tidegate",
                "tcp",
                &[
                    ("cpu_us", &[20.0, 20.5, 21.0]),
                    ("opened_per_s", &[980.0, 990.0, 999.0]),
                ],
            )
            .with(|results| results.commit = "v0.1.0-9-g1234567".to_owned())
    }

    fn told(a: Sample, b: Sample, wanted: &Wanted) -> String {
        let text = compare(&a.results(), &b.results(), wanted);
        let longest = text
            .lines()
            .map(|line| line.chars().count())
            .max()
            .unwrap_or_default();
        assert!(longest <= WIDTH, "{longest} columns:\n{text}");
        text
    }

    #[test]
    fn a_change_is_told_apart_from_noise() {
        assert_eq!(
            told(before(), after(), &Wanted::default()),
            "A: v0.1.0-7-gabcdef0, 2026-02-03T04:05:06Z, 3 rounds\n\
             B: v0.1.0-9-g1234567, 2026-02-03T04:05:06Z, 3 rounds\n\
             Medians, and B over A: below 1, B takes less (of a rate: does less).\n\
             \n\
             tcp-short: short TCP connection, cpu_us\n\
             \x20 nginx                                    25.0 µs     25.5 µs  \
             1.02 (0.94-1.08)     within noise\n\
             \x20 tidegate                                 30.5 µs     20.5 µs  \
             0.67 (0.65-0.70)     faster\n"
        );
    }

    #[test]
    fn all_metrics_come_on_demand_and_more_of_a_rate_is_faster() {
        let text = told(
            before(),
            after(),
            &Wanted {
                all: true,
                ..Wanted::default()
            },
        );
        let rate = text
            .lines()
            .skip_while(|line| !line.ends_with("opened_per_s"))
            .nth(1)
            .unwrap();
        assert!(rate.ends_with("1.09 (1.07-1.11)     faster"), "{text}");
    }

    #[test]
    fn filters_take_a_part_of_an_id_or_a_title() {
        let of = |case: &str, system: &str| Wanted {
            case: Some(case.to_owned()),
            system: Some(system.to_owned()),
            all: false,
        };
        let text = told(before(), after(), &of("SHORT tcp", "balancer"));
        assert!(
            text.contains("  tidegate") && !text.contains("  nginx"),
            "{text}"
        );
        let text = told(before(), after(), &of("tls", ""));
        assert!(
            text.ends_with("Nothing was measured in both: use a wider filter.\n"),
            "{text}"
        );
    }

    #[test]
    fn memory_is_smaller_or_larger() {
        let memory = |values: &[f64]| {
            Sample::tcp_short()
                .case(
                    Scenario::Memory,
                    "memory-tcp",
                    "idle",
                    "connection",
                    "connection_kib",
                )
                .measured("tidegate", "tcp", values)
        };
        let text = told(memory(&[3.0, 3.1]), memory(&[1.0, 1.1]), &Wanted::default());
        assert!(text.contains("0.34 (0.32-0.37)     smaller"), "{text}");
    }

    #[test]
    fn a_base_of_zero_has_no_ratio_and_one_round_no_verdict() {
        let zero = Sample::tcp_short().measured("nginx", "tcp", &[0.0, 0.0]);
        let text = told(zero, after(), &Wanted::default());
        assert!(text.contains("no ratio, A is 0\n"), "{text}");
        let one = Sample::tcp_short().measured("nginx", "tcp", &[50.0]);
        let text = told(
            one.with(|results| results.rounds = 1),
            after(),
            &Wanted::default(),
        );
        assert!(text.contains("0.51                 one round\n"), "{text}");
        assert!(
            text.contains("warning: number of rounds differs: 1 in A, 3 in B\n"),
            "{text}"
        );
        assert!(text.contains("warning: one round shows no noise"), "{text}");
    }

    #[test]
    fn a_figure_that_is_no_number_is_not_compared() {
        let broken = Sample::tcp_short().measured("nginx", "tcp", &[f64::NAN, f64::NAN]);
        assert!(told(broken, after(), &Wanted::default()).contains("Nothing was measured in both"));
    }

    #[test]
    fn what_makes_runs_unlike_is_said() {
        let other = after().with(|results| {
            results.smoke = true;
            results.machine.processor = "Another CPU ".repeat(10);
            results
                .versions
                .insert("haproxy".to_owned(), "2.6".to_owned());
        });
        let text = told(before(), other, &Wanted::default());
        assert!(
            text.contains("warning: B is a smoke run, its figures say nothing\n"),
            "{text}"
        );
        assert!(
            text.contains("warning: processor differs: Example CPU @ 2.00GHz in A, "),
            "{text}"
        );
        assert!(
            text.contains("warning: version of haproxy differs: none in A, 2.6 in B\n"),
            "{text}"
        );
    }

    #[test]
    fn what_only_one_run_has_is_listed() {
        let more = before()
            .measured("haproxy", "tcp", &[9.0])
            .measured("direct", "tcp", &[2.0])
            .case(Scenario::Cores, "tcp-bulk", "bulk", "GiB", "cpu_us");
        let more = more.measured("nginx", "tcp", &[1.0]);
        let less = after().absent("haproxy", "tcp", "haproxy is not installed");
        let text = told(more, less, &Wanted::default());
        assert!(
            text.ends_with(
                "\nMeasured only in A:\n  \
                 tcp-short: haproxy (other run: haproxy is not installed), direct\n  \
                 tcp-bulk: the whole case\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_run_is_loaded_from_its_file_or_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("results.json");
        fs::write(&file, serde_json::to_vec(&before().results()).unwrap()).unwrap();
        assert_eq!(load(&file).unwrap().commit, "v0.1.0-7-gabcdef0");
        assert_eq!(load(directory.path()).unwrap().rows.len(), 2);
    }

    #[test]
    fn what_is_no_run_of_this_format_is_refused_with_the_mend() {
        let directory = tempfile::tempdir().unwrap();
        let refused = |content: Option<&str>| {
            if let Some(content) = content {
                fs::write(directory.path().join("results.json"), content).unwrap();
            }
            load(directory.path()).unwrap_err().to_string()
        };
        assert!(refused(None).ends_with(
            "results.json does not exist: name a results.json, or the directory that holds one"
        ));
        assert!(
            refused(Some("{\"format\": 7, \"new\": 1}")).contains("has format 7, this program")
        );
        for broken in ["", "[]", "{\"format\": 1}"] {
            assert!(
                refused(Some(broken)).contains("is not the results of a run ("),
                "{broken}"
            );
        }
    }
}
