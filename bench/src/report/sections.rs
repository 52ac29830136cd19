//! The tables of each scenario: which metrics they show, in which columns, under which
//! headings. How a table looks is decided in [`table`](crate::report::table).
//!
//! Cases that no table knows get one of their own, with all their metrics.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::report::figure::{Scale, grouped, ratio_text, words};
use crate::report::ratio::{Ratio, Standing, ratios};
use crate::report::table::{Column, Show, emphasise, escape, lay_out, table};
use crate::results::{Case, Outcome, Results, Scenario, Side, Spread};

/// All tables of a scenario, with their headings.
pub(super) fn tables(results: &Results, scenario: Scenario) -> String {
    match scenario {
        Scenario::Files => files(results),
        Scenario::Websockets => websockets(results),
        Scenario::Cores => {
            summary(results, cases(results, scenario)) + &each(results, scenario, cores)
        }
        Scenario::Latency => {
            summary(results, cases(results, scenario)) + &each(results, scenario, latency)
        }
        Scenario::Memory => {
            summary(results, cases(results, scenario)) + &each(results, scenario, memory)
        }
        Scenario::Generators => each(results, scenario, cores),
    }
}

fn cases(results: &Results, scenario: Scenario) -> impl Iterator<Item = &Case> {
    results
        .cases
        .iter()
        .filter(move |case| case.scenario == scenario)
}

/// The best Tidegate row of each case and group beside the best peer.
fn summary<'a>(results: &Results, cases: impl Iterator<Item = &'a Case>) -> String {
    let mut lines = vec![
        [
            "case",
            "Tidegate",
            "figure",
            "best peer",
            "figure",
            "ratio",
            "spread",
            "",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for case in cases {
        let mut ratios = ratios(results, &case.id);
        ratios.sort_by(|a, b| a.figure.median.total_cmp(&b.figure.median));
        let mut seen = BTreeSet::new();
        lines.extend(
            ratios
                .iter()
                .filter(|ratio| seen.insert(ratio.group))
                .map(summed),
        );
    }
    if lines.len() < 3 {
        return String::new();
    }
    format!("\n{}", lay_out(&lines, 2))
}

fn summed(ratio: &Ratio<'_>) -> Vec<String> {
    let figure =
        |spread: Spread| Scale::of(&ratio.case.headline, [spread.median]).figure(spread.median);
    let ours = |text: &str| emphasise(text, Side::Tidegate, false);
    let theirs = |text: &str| emphasise(text, Side::Peer, true);
    let mut line = vec![
        escape(&ratio.case.title),
        ours(&escape(&ratio.system.title)),
    ];
    line.push(ours(&figure(ratio.figure)));
    match (ratio.peer, ratio.spread()) {
        (Some((peer, taken)), Some(spread)) => {
            line.extend([theirs(&escape(&peer.title)), theirs(&figure(taken))]);
            line.push(format!("**{}**", ratio_text(spread.median)));
            line.extend(told(ratio, spread));
        }
        _ => line.extend([
            ratio.against(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ]),
    }
    line
}

fn told(ratio: &Ratio<'_>, spread: Spread) -> [String; 2] {
    let range = format!("{}–{}", ratio_text(spread.low), ratio_text(spread.high));
    match ratio.standing() {
        Standing::Ahead => [range, "ahead".to_owned()],
        Standing::Even => [range, "even".to_owned()],
        Standing::Behind => [range, "**behind**".to_owned()],
        Standing::Unknown => ["one round".to_owned(), String::new()],
    }
}

/// A table for each case of the scenario.
fn each(
    results: &Results,
    scenario: Scenario,
    columns: for<'a> fn(&'a Results, &'a Case) -> Vec<Column<'a>>,
) -> String {
    cases(results, scenario)
        .map(|case| one(results, case, &columns(results, case)))
        .collect()
}

fn one(results: &Results, case: &Case, columns: &[Column<'_>]) -> String {
    let title = escape(&case.title);
    let id = escape(&case.id);
    format!(
        "\n### {title}\n\nPer {} (`{id}`).\n\n{}",
        escape(&case.unit),
        table(results, columns)
    )
}

/// Those of `wanted` that any row has: (metric, header).
fn known<'a>(
    results: &'a Results,
    case: &'a Case,
    show: Show,
    wanted: &[(&'a str, &str)],
) -> Vec<Column<'a>> {
    let column =
        |(metric, header): &(&'a str, &str)| Column::new(results, case, metric, show, header);
    wanted
        .iter()
        .map(column)
        .filter(|column| column.is_filled(results))
        .collect()
}

/// The headline with its spread and ratio, then what `others` are filled.
fn with_ratio<'a>(
    results: &'a Results,
    case: &'a Case,
    header: &str,
    others: Vec<Column<'a>>,
) -> Vec<Column<'a>> {
    let headline = &case.headline;
    let mut columns = vec![
        Column::new(results, case, headline, Show::Range, header),
        Column::new(results, case, headline, Show::Ratio, "× best peer"),
    ];
    columns.extend(others);
    columns
}

fn cores<'a>(results: &'a Results, case: &'a Case) -> Vec<Column<'a>> {
    let headline = Column::new(results, case, &case.headline, Show::Range, "");
    let wanted = [("machine_us", "whole machine")];
    let machine = known(results, case, Show::Median, &wanted).into_iter();
    let mut others: Vec<_> = machine.map(|column| column.in_unit_of(&headline)).collect();
    let busy = [
        ("core_percent", "its core busy, %"),
        ("load_percent", "the load's, %"),
    ];
    others.extend(known(results, case, Show::Median, &busy));
    with_ratio(results, case, &words(&case.headline), others)
}

fn latency<'a>(results: &'a Results, case: &'a Case) -> Vec<Column<'a>> {
    let headline = Column::new(results, case, &case.headline, Show::Range, "");
    let column = |(metric, header): (&'a str, &str)| {
        known(results, case, Show::Percent, &[(metric, header)])
            .into_iter()
            .map(|column| column.in_unit_of(&headline))
    };
    let mut others: Vec<_> = [("p50_us", "p50"), ("p999_us", "p99.9")]
        .into_iter()
        .flat_map(column)
        .collect();
    let load = [
        ("asked_per_s", "asked per second"),
        ("core_percent", "its core busy, %"),
    ];
    others.extend(known(results, case, Show::Median, &load));
    with_ratio(results, case, &words(&case.headline), others)
}

fn memory<'a>(results: &'a Results, case: &'a Case) -> Vec<Column<'a>> {
    let others = [("base_kib", "with none"), ("left_kib", "left after close")];
    let others = known(results, case, Show::Median, &others);
    with_ratio(
        results,
        case,
        &format!("per {}", escape(&case.unit)),
        others,
    )
}

/// All metrics of the case but parts by program.
fn everything<'a>(results: &'a Results, case: &'a Case) -> Vec<Column<'a>> {
    let mut names = BTreeSet::new();
    for row in results.rows.iter().filter(|row| row.case == case.id) {
        if let Outcome::Measured(metrics) = &row.outcome {
            names.extend(
                metrics
                    .keys()
                    .filter(|name| !name.contains('/') && **name != case.headline),
            );
        }
    }
    let column = |name: &'a String| Column::new(results, case, name, Show::Percent, &words(name));
    with_ratio(
        results,
        case,
        &words(&case.headline),
        names.into_iter().map(column).collect(),
    )
}

fn websockets(results: &Results) -> String {
    const METRICS: [(&str, &str); 8] = [
        ("handshake_mean_ms", "handshake mean"),
        ("handshake_p99_ms", "handshake p99"),
        ("latency_mean_ms", "latency mean"),
        ("latency_p99_ms", "latency p99"),
        ("total_s", "total"),
        ("exchange_mean_ms", "exchange mean"),
        ("exchange_p99_ms", "exchange p99"),
        ("exchange_per_s", "exchanged per second"),
    ];
    const CPU: [(&str, &str); 1] = [("cpu_s", "CPU")];
    let of = |case| {
        let mut columns = known(results, case, Show::Percent, &METRICS);
        columns.extend(known(results, case, Show::Percent, &CPU));
        // A case in which nobody has a figure still has to say why.
        let columns = if columns.is_empty() {
            everything(results, case)
        } else {
            columns
        };
        one(results, case, &columns)
    };
    let tables: String = cases(results, Scenario::Websockets).map(of).collect();
    summary(results, cases(results, Scenario::Websockets)) + &tables
}

/// `files-new-2216`, `files-kept-total`, taken apart.
struct Files<'a> {
    case: &'a Case,
    mode: &'a str,
    /// `None`: all files together.
    size: Option<u64>,
}

/// The two sizes that the table of 2013 told.
const SMALL: u64 = 2_216;
const LARGE: u64 = 786_432;
const PLAIN: &str = "plain";
const TLS: &str = "tls";

fn files(results: &Results) -> String {
    let all: Vec<_> = cases(results, Scenario::Files).collect();
    let parsed: Vec<_> = all.iter().filter_map(|case| Files::of(case)).collect();
    let mut modes: Vec<&str> = Vec::new();
    for files in &parsed {
        if !modes.contains(&files.mode) {
            modes.push(files.mode);
        }
    }
    let told = parsed
        .iter()
        .filter(|files| matches!(files.size, None | Some(SMALL | LARGE)));
    let mut text = summary(results, told.map(|files| files.case));
    for mode in modes {
        let of_mode: Vec<_> = parsed.iter().filter(|files| files.mode == mode).collect();
        let name = match mode {
            "new" => "A new connection for each request",
            "kept" => "Connections kept",
            other => other,
        };
        let _ = write!(
            text,
            "\n### {}\n\n{}",
            escape(name),
            seed(results, &of_mode)
        );
        let _ = write!(text, "\nEvery size:\n\n{}", sizes(results, of_mode));
    }
    for case in all.into_iter().filter(|case| Files::of(case).is_none()) {
        text.push_str(&one(results, case, &everything(results, case)));
    }
    text
}

/// Small and large file, plain and TLS, and the processor time of all of them.
fn seed(results: &Results, files: &[&Files<'_>]) -> String {
    let mut columns = Vec::new();
    for (group, word) in [(PLAIN, "plain"), (TLS, "TLS")] {
        for size in [SMALL, LARGE] {
            let Some(files) = files.iter().find(|files| files.size == Some(size)) else {
                continue;
            };
            let header = format!("{word} {} B", grouped(&size.to_string()));
            let metric = &files.case.headline;
            let column = Column::new(results, files.case, metric, Show::Percent, &header);
            columns.push(column.only(group));
        }
    }
    if let Some(total) = files.iter().find(|files| files.size.is_none()) {
        let metric = &total.case.headline;
        let header = format!("{}, all files", words(metric));
        columns.push(Column::new(
            results,
            total.case,
            metric,
            Show::Percent,
            &header,
        ));
        columns.push(Column::new(
            results,
            total.case,
            metric,
            Show::Parts,
            "of it",
        ));
    }
    table(results, &columns)
}

fn sizes(results: &Results, mut files: Vec<&Files<'_>>) -> String {
    files.retain(|files| files.size.is_some());
    files.sort_by_key(|files| files.size);
    let columns = files.iter().map(|files| {
        let size = files.size.unwrap_or_default();
        let header = format!("{} B", grouped(&size.to_string()));
        Column::new(
            results,
            files.case,
            &files.case.headline,
            Show::Median,
            &header,
        )
    });
    table(results, &columns.collect::<Vec<_>>())
}

impl<'a> Files<'a> {
    fn of(case: &'a Case) -> Option<Self> {
        let (mode, size) = case.id.strip_prefix("files-")?.rsplit_once('-')?;
        let size = if size == "total" {
            None
        } else {
            Some(size.parse().ok()?)
        };
        Some(Self { case, mode, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::Sample;

    fn empty() -> Sample {
        Sample::tcp_short().with(|results| results.cases.clear())
    }

    #[track_caller]
    fn has(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(
                text.contains(&format!("\n{line}\n")),
                "{line}\nis not in\n{text}"
            );
        }
    }

    #[test]
    fn files_are_the_table_of_2013() {
        let mut sample = empty();
        for (size, ms) in [("2216", 1.0), ("12", 0.5), ("786432", 20.0)] {
            sample = sample
                .case(
                    Scenario::Files,
                    &format!("files-new-{size}"),
                    size,
                    "request",
                    "ms",
                )
                .measured("direct", "plain", &[ms, ms])
                .measured("nginx", "tls", &[ms * 3.0, ms * 3.0])
                .measured("tidegate", "tls", &[ms * 2.0, ms * 2.0])
                .absent("haproxy", "tls", "not here");
        }
        let results = sample
            .case(Scenario::Files, "files-new-total", "all", "run", "cpu_s")
            .metrics(
                "tidegate",
                "tls",
                &[("cpu_s", &[9.0]), ("cpu_s/node", &[4.0])],
            )
            .results();
        let text = tables(&results, Scenario::Files);
        has(
            &text,
            &[
                "### A new connection for each request",
                "| system | plain 2,216 B, ms | plain 786,432 B, ms | TLS 2,216 B, ms \
                 | TLS 786,432 B, ms | CPU, all files, s | of it |",
                "| direct | 1.00 | 20.0 |  |  |  |  |",
                "| haproxy tcp |  |  | — ¹ | — ¹ |  |  |",
                "| *nginx stream* |  |  | *3.00* | *60.0* |  |  |",
                "| **tidegate balancer** |  |  | **2.00** | **40.0** | **9.00** | **node 4.00** |",
                "- ¹ not here",
                "| system | group | 12 B, ms | 2,216 B, ms | 786,432 B, ms |",
                "| direct | plain | 0.500 | 1.00 | 20.0 |",
            ],
        );
    }

    #[test]
    fn websockets_show_what_was_measured() {
        let metrics: &[(&str, &[f64])] = &[
            ("handshake_mean_ms", &[2.0, 2.2, 2.4]),
            ("total_s", &[1.0, 1.0, 1.0]),
        ];
        let results = empty()
            .case(
                Scenario::Websockets,
                "ws-tls-2000",
                "2k",
                "connection",
                "handshake_mean_ms",
            )
            .metrics("nginx", "tls", metrics)
            .case(
                Scenario::Websockets,
                "ws-tls-9000",
                "9k",
                "connection",
                "handshake_mean_ms",
            )
            .absent("nginx", "tls", "too few descriptors")
            .results();
        let text = tables(&results, Scenario::Websockets);
        has(
            &text,
            &[
                "| system | handshake mean, ms | total, s |",
                "| *nginx stream* | *2.20 ±9%* | *1.00* |",
                "- ¹ too few descriptors",
            ],
        );
    }

    #[test]
    fn memory_shows_base_and_what_is_left() {
        let metrics = |kib: &'static [f64]| -> [(&'static str, &'static [f64]); 3] {
            [
                ("connection_kib", kib),
                ("base_kib", &[9_216.0]),
                ("left_kib", &[100.0]),
            ]
        };
        let results = empty()
            .case(
                Scenario::Memory,
                "memory-tcp",
                "idle",
                "connection",
                "connection_kib",
            )
            .metrics("nginx", "tcp", &metrics(&[9.0, 10.0]))
            .metrics("tidegate", "tcp", &metrics(&[1.0, 1.5]))
            .results();
        let text = tables(&results, Scenario::Memory);
        has(
            &text,
            &[
                "| system | per connection, KiB | × best peer | with none, MiB | left after close, KiB |",
                "| *nginx stream* | *9.50 (9.00–10.0)* |  | *9.00* | *100* |",
                "| **tidegate balancer** | **1.25 (1.00–1.50)** | **0.13 (0.11–0.15) ahead** \
                 | **9.00** | **100** |",
            ],
        );
    }

    #[test]
    fn a_time_stands_beside_its_tail_and_what_was_asked() {
        let metrics = |p99: &'static [f64]| -> [(&'static str, &'static [f64]); 5] {
            [
                ("p50_us", &[80.0, 90.0, 100.0]),
                ("p99_us", p99),
                ("p999_us", &[1_000.0, 1_200.0, 1_500.0]),
                ("asked_per_s", &[9_000.0, 9_000.0, 9_000.0]),
                ("core_percent", &[50.0, 50.0, 50.0]),
            ]
        };
        let results = empty()
            .case(
                Scenario::Latency,
                "latency-messages",
                "message",
                "message",
                "p99_us",
            )
            .metrics("nginx", "tcp", &metrics(&[200.0, 220.0, 240.0]))
            .metrics("tidegate", "tcp", &metrics(&[100.0, 110.0, 120.0]))
            .results();
        let text = tables(&results, Scenario::Latency);
        has(
            &text,
            &[
                "| system | p99, µs | × best peer | p50, µs | p99.9, µs | asked per second \
                 | its core busy, % |",
                "| *nginx stream* | *220 (200–240)* |  | *90.0 ±11%* | *1,200 ±25%* | 9,000 | 50.0 |",
                "| **tidegate balancer** | **110 (100–120)** | **0.50 (0.50–0.50) ahead** \
                 | **90.0 ±11%** | **1,200 ±25%** | **9,000** | **50.0** |",
            ],
        );
    }

    #[test]
    fn the_machine_is_written_in_the_unit_of_the_processes() {
        let results = Sample::tcp_short()
            .metrics(
                "nginx",
                "tcp",
                &[("cpu_us", &[600.0]), ("machine_us", &[1_500.0])],
            )
            .results();
        let text = tables(&results, Scenario::Cores);
        has(
            &text,
            &["| system | CPU, µs | × best peer | whole machine, µs |"],
        );
        has(&text, &["| *nginx stream* | *600* |  | *1,500* |"]);
    }

    #[test]
    fn a_summary_takes_the_best_of_ours_in_each_group() {
        let sample = Sample::tcp_short()
            .system("worse", "tidegate, worse", Side::Tidegate)
            .measured("worse", "tcp", &[12.0, 12.0])
            .measured("tidegate", "tcp", &[8.0, 8.0])
            .measured("nginx", "tcp", &[10.0, 10.0]);
        let results = sample
            .case(Scenario::Cores, "tcp-bulk", "bulk", "GiB", "cpu_us")
            .measured("tidegate", "tcp", &[300_000.0, 300_000.0])
            .results();
        let text = tables(&results, Scenario::Cores);
        has(
            &text,
            &[
                "| short TCP connection | **tidegate balancer** | **8.00 µs** | *nginx stream* \
                 | *10.0 µs* | **0.80** | 0.80–0.80 | ahead |",
                "| bulk | **tidegate balancer** | **300 ms** | no peer has a figure |  |  |  |  |",
            ],
        );
        assert_eq!(text.matches("tidegate, worse").count(), 1, "{text}");
    }

    #[test]
    fn a_core_that_waits_is_seen_beside_its_figure() {
        let metrics: &[(&str, &[f64])] = &[
            ("cpu_us", &[9.0]),
            ("core_percent", &[54.0]),
            ("load_percent", &[100.0]),
        ];
        let results = empty()
            .case(Scenario::Generators, "wrk", "wrk", "request", "cpu_us")
            .metrics("nginx", "tcp", metrics)
            .results();
        let text = tables(&results, Scenario::Generators);
        has(
            &text,
            &["| system | CPU, µs | × best peer | its core busy, % | the load's, % |"],
        );
        has(&text, &["| *nginx stream* | *9.00* |  | 54.0 | 100 |"]);
    }
}
