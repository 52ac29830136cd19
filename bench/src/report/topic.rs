//! Which cases share a chart, told by the scenario and the id of a case: a new case
//! appears in the chart its id fits by itself, or in the one of all the others.

use crate::results::{Case, Results, Scenario};

/// One chart to draw.
pub(super) struct Topic<'a> {
    pub(super) file_name: &'static str,
    pub(super) title: &'static str,
    pub(super) scenario: Scenario,
    /// At least one.
    pub(super) cases: Vec<&'a Case>,
}

/// Those that have cases, in the order of [`TOPICS`].
pub(super) fn topics(results: &Results) -> Vec<Topic<'_>> {
    let mut topics: Vec<Topic<'_>> = Vec::new();
    for (index, &(scenario, file_name, title, _)) in TOPICS.iter().enumerate() {
        let own = |case: &&Case| TOPICS.iter().position(|topic| fits(topic, case)) == Some(index);
        let cases: Vec<_> = results.cases.iter().filter(own).collect();
        if !cases.is_empty() {
            topics.push(Topic {
                file_name,
                title,
                scenario,
                cases,
            });
        }
    }
    topics
}

type Rule = (Scenario, &'static str, &'static str, fn(&str) -> bool);

/// A case belongs to the first that fits. Of the files, the table of 2013 told two
/// sizes, so the charts do; the other sizes are in the tables.
const TOPICS: &[Rule] = &[
    (
        Scenario::Files,
        "files-new.svg",
        "Files over HTTP, a new connection for each request",
        |id| id.starts_with("files-new-") && told(id),
    ),
    (
        Scenario::Files,
        "files-kept.svg",
        "Files over HTTP, connections kept",
        |id| id.starts_with("files-kept-") && told(id),
    ),
    (Scenario::Websockets, "websockets.svg", "WebSockets", |_| {
        true
    }),
    (
        Scenario::Cores,
        "l4.svg",
        "TCP: processor time of the proxy",
        |id| id.starts_with("tcp-"),
    ),
    (
        Scenario::Cores,
        "tls-full.svg",
        "TLS: processor time of a full handshake",
        |id| id.ends_with("-full"),
    ),
    (
        Scenario::Cores,
        "tls-hybrid.svg",
        "TLS: full handshakes with a post-quantum group",
        |id| id.ends_with("-hybrid"),
    ),
    (
        Scenario::Cores,
        "tls-resumed.svg",
        "TLS: processor time of a resumed handshake",
        |id| id.ends_with("-resumed"),
    ),
    (
        Scenario::Cores,
        "tls-messages-bulk.svg",
        "TLS: processor time of messages and bulk data",
        |id| id.starts_with("tls") && (id.ends_with("-messages") || id.ends_with("-bulk")),
    ),
    (
        Scenario::Cores,
        "cores.svg",
        "Processor time of other work",
        |_| true,
    ),
    (
        Scenario::Latency,
        "latency.svg",
        "TCP: p99 of the time of an answer at half load",
        |_| true,
    ),
    (
        Scenario::Memory,
        "memory.svg",
        "Memory of an idle connection",
        |_| true,
    ),
    (
        Scenario::Generators,
        "generators.svg",
        "What other load generators see",
        |_| true,
    ),
];

fn fits((scenario, _, _, rule): &Rule, case: &Case) -> bool {
    *scenario == case.scenario && rule(&case.id)
}

fn told(id: &str) -> bool {
    ["-2216", "-786432", "-total"]
        .iter()
        .any(|size| id.ends_with(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::Sample;

    #[test]
    fn a_case_finds_its_chart_by_its_id() {
        for (scenario, id, chart) in [
            (Scenario::Cores, "tcp-proxy-v2", "l4.svg"),
            (Scenario::Cores, "tls12-rsa-full", "tls-full.svg"),
            (Scenario::Cores, "tls13-p256-hybrid", "tls-hybrid.svg"),
            (Scenario::Cores, "tls13-p256-resumed", "tls-resumed.svg"),
            (Scenario::Cores, "tls12-bulk", "tls-messages-bulk.svg"),
            (Scenario::Cores, "quic-short", "cores.svg"),
            (Scenario::Latency, "latency-short", "latency.svg"),
            (Scenario::Memory, "memory-tls", "memory.svg"),
            (Scenario::Websockets, "ws-tls-5000", "websockets.svg"),
            (Scenario::Files, "files-kept-total", "files-kept.svg"),
            (Scenario::Generators, "wrk", "generators.svg"),
        ] {
            let results = Sample::tcp_short()
                .with(|results| results.cases.clear())
                .case(scenario, id, "title", "unit", "cpu_us")
                .results();
            let names: Vec<_> = topics(&results)
                .iter()
                .map(|topic| topic.file_name)
                .collect();
            assert_eq!(names, [chart], "{id}");
        }
    }

    #[test]
    fn sizes_that_the_table_of_2013_did_not_tell_have_no_chart() {
        let results = Sample::tcp_short()
            .with(|results| results.cases.clear())
            .case(Scenario::Files, "files-new-12", "title", "request", "ms")
            .results();
        assert!(topics(&results).is_empty());
    }
}
