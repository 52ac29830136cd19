//! The report of a run as one Markdown document: where it ran, where Tidegate stands,
//! then a section for each scenario that the run has.
//!
//! To add a scenario: a title in [`title`] and its tables in
//! [`sections`](crate::report::sections).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::report::chart::Chart;
use crate::report::figure::grouped;
use crate::report::ratio::{Standing, ratios};
use crate::report::sections::tables;
use crate::report::table::{escape, lay_out};
use crate::results::{Outcome, Results, Scenario};

const HOW_TO_READ: &str = "\
Less is better in every figure but those *per second*. **Bold** is Tidegate; *italics* are the best
peer, against which ratios are made, among the systems that do the same work (of one group); what is
neither is another peer or a baseline. A figure is the median of the rounds, in which systems took
turns: \"25.1 (24.8–25.9)\" adds the lowest and the highest round, \"25.1 ±3%\" how far the furthest
round lies from the median. A ratio is Tidegate over the best peer, of each round, in which both stood
beside each other in time: its median, and in brackets the lowest and the highest. *Ahead* and *behind*
mean that five rounds agree, or of three that every one of one lies below every one of the other.

Ratios of TLS compare Tidegate's AWS-LC with the OpenSSL that the distribution links its packages
with (`haproxy -vv` above), not only proxies: a HAProxy built on another library is another peer.
Systems called *as they come* have the distribution's defaults, and *tuned* ones larger buffers and
connections to the app kept. Answers to our own clients are compared byte for byte; ab, wrk and h2load
look at lengths and statuses. ab leaves Nagle's algorithm on and takes whatever tickets it is given.
";

/// The document. Charts stand in the section of their scenario, named by their files.
pub fn markdown(results: &Results, charts: &[Chart]) -> String {
    let mut text = head(results);
    text.push_str(&stands(results));
    for scenario in scenarios(results) {
        let _ = write!(text, "\n## {}\n", title(scenario));
        for chart in charts.iter().filter(|chart| chart.scenario == scenario) {
            let _ = write!(
                text,
                "\n![{}]({})\n",
                alternative(&chart.title),
                chart.file_name
            );
        }
        text.push_str(&tables(results, scenario));
    }
    text
}

fn title(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Files => "The table of 2013, measured again",
        Scenario::Websockets => "WebSockets",
        Scenario::Cores => "Processor time of a unit of work",
        Scenario::Latency => "Time of an answer at half load",
        Scenario::Memory => "Memory of an idle connection",
        Scenario::Generators => "What other load generators see",
    }
}

fn head(results: &Results) -> String {
    let day = results.started.split('T').next().unwrap_or_default();
    let mut text = format!("# Tidegate beside its peers, {}\n", escape(day));
    if results.smoke {
        text.push_str(
            "\n> **A smoke run: it shows that the harness works; its figures say nothing.**\n",
        );
    }
    let machine = &results.machine;
    let mut lines = vec![vec!["what".to_owned(), "which".to_owned()]];
    let mut line = |what: &str, which: &str| lines.push(vec![escape(what), escape(which)]);
    line("Tidegate", &results.commit);
    line("started", &results.started);
    line("took", &duration(results.seconds));
    line("rounds, at most", &results.rounds.to_string());
    line("processor", &machine.processor);
    line("processors", &machine.processors.to_string());
    line(
        "memory",
        &format!("{} MiB", grouped(&machine.memory_mib.to_string())),
    );
    line("kernel", &machine.kernel);
    line("distribution", &machine.distribution);
    line("descriptors", &grouped(&machine.descriptors.to_string()));
    for (program, version) in &results.versions {
        line(program, version);
    }
    let _ = write!(text, "\n{}\n{HOW_TO_READ}", lay_out(&lines, 2));
    text
}

/// "1 h 2 min".
fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round();
    if seconds < 90.0 {
        format!("{seconds:.0} s")
    } else if minutes < 60.0 {
        format!("{minutes:.0} min")
    } else {
        format!(
            "{:.0} h {:.0} min",
            (minutes / 60.0).floor(),
            minutes % 60.0
        )
    }
}

/// Counts of what follows, and by name what must not be overlooked.
fn stands(results: &Results) -> String {
    let all: Vec<_> = results
        .cases
        .iter()
        .flat_map(|case| ratios(results, &case.id))
        .collect();
    let of = |standing| all.iter().filter(move |ratio| ratio.standing() == standing);
    let count = |standing| of(standing).count();
    let mut text = "\n## Where Tidegate stands\n\n".to_owned();
    let compared = all.iter().filter(|ratio| ratio.spread().is_some()).count();
    let _ = write!(text, "Rows of Tidegate compared with a peer: {compared}.");
    if compared > count(Standing::Unknown) {
        let _ = write!(
            text,
            " Ahead in {}, even in {}, behind in {}.",
            count(Standing::Ahead),
            count(Standing::Even),
            count(Standing::Behind)
        );
    } else if compared > 0 {
        text.push_str(" One round shows no spread, so none is called ahead or behind.");
    }
    text.push('\n');
    listed(
        &mut text,
        "Behind:",
        of(Standing::Behind).map(|ratio| escape(&ratio.to_string())),
    );
    listed(
        &mut text,
        "**Failed, which fails the run:**",
        failures(results).into_iter(),
    );
    text
}

fn listed(text: &mut String, head: &str, items: impl Iterator<Item = String>) {
    for (index, item) in items.enumerate() {
        if index == 0 {
            let _ = write!(text, "\n{head}\n\n");
        }
        let _ = writeln!(text, "- {item}");
    }
}

fn failures(results: &Results) -> Vec<String> {
    let failed = results
        .rows
        .iter()
        .filter(|row| matches!(row.outcome, Outcome::Failed(_)));
    let told = failed.map(|row| {
        let system = results
            .system(&row.system)
            .map_or(&row.system, |system| &system.title);
        let case = results.cases.iter().find(|case| case.id == row.case);
        escape(&format!(
            "{}: {system}",
            case.map_or(&row.case, |case| &case.title)
        ))
    });
    told.collect()
}

fn scenarios(results: &Results) -> BTreeSet<Scenario> {
    results.cases.iter().map(|case| case.scenario).collect()
}

/// Text for the brackets of an image.
fn alternative(text: &str) -> String {
    escape(text).replace('[', "\\[").replace(']', "\\]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::chart::charts;
    use crate::report::sample::Sample;

    fn written(sample: Sample) -> String {
        let results = sample.results();
        markdown(&results, &charts(&results))
    }

    fn tcp() -> Sample {
        Sample::tcp_short()
            .measured("nginx", "tcp", &[10.0, 10.5, 11.0])
            .measured("tidegate", "tcp", &[12.0, 12.4, 12.8])
    }

    #[test]
    fn the_head_says_where_and_of_what() {
        let text = written(tcp());
        for part in [
            "# Tidegate beside its peers, 2026-02-03\n",
            "| Tidegate | v0.1.0-7-gabcdef0 |\n",
            "| took | 1 h 2 min |\n",
            "| memory | 7,936 MiB |\n",
            "| nginx | nginx/1.22.1 |\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("smoke"), "{text}");
    }

    #[test]
    fn a_smoke_run_says_that_it_says_nothing() {
        let text = written(tcp().with(|results| results.smoke = true));
        assert!(
            text.contains("> **A smoke run: it shows that the harness works;"),
            "{text}"
        );
    }

    #[test]
    fn where_tidegate_is_behind_or_a_row_failed_is_listed() {
        let text = written(tcp().failed("haproxy", "tcp", "answered 502"));
        for part in [
            "Rows of Tidegate compared with a peer: 1. Ahead in 0, even in 0, behind in 1.\n",
            "\nBehind:\n\n- short TCP connection: tidegate balancer 1.18 × nginx stream (1.16-1.20)\n",
            "\n**Failed, which fails the run:**\n\n- short TCP connection: haproxy tcp\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn one_round_calls_nothing_ahead_or_behind() {
        let text = written(
            Sample::tcp_short()
                .measured("nginx", "tcp", &[10.0])
                .measured("tidegate", "tcp", &[1.0]),
        );
        assert!(
            text.contains("compared with a peer: 1. One round shows no spread"),
            "{text}"
        );
    }

    #[test]
    fn a_section_has_its_charts_and_a_run_only_its_sections() {
        let text = written(tcp());
        assert!(
            text.contains(
                "\n## Processor time of a unit of work\n\n\
                 ![TCP: processor time of the proxy](l4.svg)\n\n\
                 ### short TCP connection\n\nPer connection (`tcp-short`).\n\n\
                 | system | CPU, µs | × best peer |\n"
            ),
            "{text}"
        );
        assert_eq!(text.matches("\n## ").count(), 2, "{text}");
    }

    #[test]
    fn titles_are_shown_as_they_are() {
        let text = written(tcp().with(|results| {
            results.cases[0].title = "a|b <c> *d*".to_owned();
            results.machine.processor = "CPU | one".to_owned();
        }));
        assert!(text.contains("### a\\|b &lt;c&gt; \\*d\\*\n"), "{text}");
        assert!(text.contains("| processor | CPU \\| one |\n"), "{text}");
    }

    #[test]
    fn a_duration_has_the_unit_of_its_size() {
        for (seconds, text) in [(12.4, "12 s"), (300.0, "5 min"), (3_599.0, "1 h 0 min")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
