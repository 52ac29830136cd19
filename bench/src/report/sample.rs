//! Made-up results for the tests of reports and comparisons: a [`Sample`] starts with
//! one case and grows by rows.

use std::collections::BTreeMap;

use crate::results::{Case, FORMAT, Machine, Outcome, Results, Row, Scenario, Side, System};

/// Results in the making.
pub(crate) struct Sample(Results);

impl Sample {
    /// Case `tcp-short`; systems `direct`, `haproxy`, `nginx`, `tidegate`; no rows.
    pub(crate) fn tcp_short() -> Self {
        let sample = Self(Results {
            format: FORMAT,
            started: "2026-02-03T04:05:06Z".to_owned(),
            seconds: 3_725.0,
            commit: "v0.1.0-7-gabcdef0".to_owned(),
            rounds: 3,
            smoke: false,
            machine: Machine {
                processor: "Example CPU @ 2.00GHz".to_owned(),
                processors: 2,
                memory_mib: 7_936,
                kernel: "Linux 6.1.0".to_owned(),
                distribution: "Debian GNU/Linux 12 (bookworm)".to_owned(),
                descriptors: 20_000,
            },
            versions: BTreeMap::from([("nginx".to_owned(), "nginx/1.22.1".to_owned())]),
            cases: Vec::new(),
            systems: Vec::new(),
            rows: Vec::new(),
        });
        sample
            .system("direct", "direct", Side::Baseline)
            .system("haproxy", "haproxy tcp", Side::Peer)
            .system("nginx", "nginx stream", Side::Peer)
            .system("tidegate", "tidegate balancer", Side::Tidegate)
            .case(
                Scenario::Cores,
                "tcp-short",
                "short TCP connection",
                "connection",
                "cpu_us",
            )
    }

    pub(crate) fn system(mut self, id: &str, title: &str, side: Side) -> Self {
        self.0.systems.push(System {
            id: id.to_owned(),
            title: title.to_owned(),
            side,
        });
        self
    }

    /// Rows added from now on belong to this case.
    pub(crate) fn case(
        mut self,
        scenario: Scenario,
        id: &str,
        title: &str,
        unit: &str,
        headline: &str,
    ) -> Self {
        self.0.cases.push(Case {
            id: id.to_owned(),
            scenario,
            title: title.to_owned(),
            unit: unit.to_owned(),
            headline: headline.to_owned(),
        });
        self
    }

    /// A row of the last case with its headline metric only.
    pub(crate) fn measured(self, system: &str, group: &str, values: &[f64]) -> Self {
        let headline = self.0.cases.last().unwrap().headline.clone();
        self.metrics(system, group, &[(&headline, values)])
    }

    pub(crate) fn metrics(self, system: &str, group: &str, metrics: &[(&str, &[f64])]) -> Self {
        let metrics = metrics
            .iter()
            .map(|(name, values)| ((*name).to_owned(), values.to_vec()));
        self.row(system, group, Outcome::Measured(metrics.collect()))
    }

    pub(crate) fn absent(self, system: &str, group: &str, why: &str) -> Self {
        self.row(system, group, Outcome::Absent(why.to_owned()))
    }

    pub(crate) fn failed(self, system: &str, group: &str, why: &str) -> Self {
        self.row(system, group, Outcome::Failed(why.to_owned()))
    }

    /// Whatever else is to be different.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Results)) -> Self {
        change(&mut self.0);
        self
    }

    pub(crate) fn results(self) -> Results {
        self.0
    }

    fn row(mut self, system: &str, group: &str, outcome: Outcome) -> Self {
        let case = self.0.cases.last().unwrap().id.clone();
        let (system, group) = (system.to_owned(), group.to_owned());
        self.0.rows.push(Row {
            case,
            system,
            group,
            outcome,
        });
        self
    }
}
