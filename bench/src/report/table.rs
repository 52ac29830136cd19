//! One Markdown table of systems: which [`Column`]s it has is the caller's choice, how
//! a cell is written is decided here. Tidegate is bold; the best peer of each group is
//! in italics, column by column; a row without a figure says why in a note below.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::report::figure::{Scale, ratio_text};
use crate::report::ratio::{Ratio, Standing, best, ratios, usable};
use crate::results::{Case, Outcome, Results, Row, Side, Spread, System};

/// One metric of one case.
pub(super) struct Column<'a> {
    case: &'a Case,
    metric: &'a str,
    /// Only rows of groups that begin so, or all.
    group: Option<&'a str>,
    header: String,
    show: Show,
    scale: Scale,
}

/// How a cell shows its figure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// The median alone.
    Median,
    /// The median, and how far the furthest round lies from it: for wide tables.
    Percent,
    /// The median, the lowest and the highest round.
    Range,
    /// For Tidegate rows, the ratio to the best peer.
    Ratio,
    /// The parts of the metric by program: `cpu_s/node`.
    Parts,
}

impl<'a> Column<'a> {
    pub(super) fn new(
        results: &Results,
        case: &'a Case,
        metric: &'a str,
        show: Show,
        header: &str,
    ) -> Self {
        let rows = results.rows.iter().filter(|row| row.case == case.id);
        let medians = rows.filter_map(|row| Some(usable(row, metric)?.median));
        let scale = Scale::of(metric, medians);
        Self {
            case,
            metric,
            group: None,
            header: header.to_owned(),
            show,
            scale,
        }
    }

    /// Shows the rows of groups that begin so: "tls", "tls, two tiers".
    pub(super) fn only(mut self, group: &'a str) -> Self {
        self.group = Some(group);
        self
    }

    /// Figures that are read against those of another column have its unit.
    pub(super) fn in_unit_of(mut self, other: &Self) -> Self {
        self.scale = other.scale;
        self
    }

    /// Whether any row has something to show here.
    pub(super) fn is_filled(&self, results: &Results) -> bool {
        results
            .rows
            .iter()
            .any(|row| self.takes(row) && usable(row, self.metric).is_some())
    }

    fn takes(&self, row: &Row) -> bool {
        row.case == self.case.id && self.group.is_none_or(|group| row.group.starts_with(group))
    }

    fn row<'r>(&self, results: &'r Results, system: &System) -> Option<&'r Row> {
        results
            .row(&self.case.id, &system.id)
            .filter(|row| self.takes(row))
    }

    fn title(&self) -> String {
        match self.show {
            Show::Median | Show::Percent | Show::Range if !self.scale.symbol.is_empty() => {
                format!("{}, {}", self.header, self.scale.symbol)
            }
            _ => self.header.clone(),
        }
    }

    fn text(&self, results: &Results, row: &Row) -> String {
        let figure = |write: &dyn Fn(Spread) -> String| {
            usable(row, self.metric).map_or("—".to_owned(), write)
        };
        match self.show {
            Show::Median => figure(&|spread| self.scale.number(spread.median)),
            Show::Percent => figure(&|spread| self.scale.percent(spread)),
            Show::Range => figure(&|spread| self.scale.range(spread)),
            Show::Ratio => {
                let ratios = ratios(results, &self.case.id);
                let own = ratios.iter().find(|ratio| ratio.system.id == row.system);
                own.map(ratio_cell).unwrap_or_default()
            }
            Show::Parts => self.parts(row),
        }
    }

    fn parts(&self, row: &Row) -> String {
        let Outcome::Measured(metrics) = &row.outcome else {
            return String::new();
        };
        let part = |name: &String| {
            let program = name.strip_prefix(self.metric)?.strip_prefix('/')?;
            Some(format!(
                "{} {}",
                escape(program),
                self.scale.number(usable(row, name)?.median)
            ))
        };
        metrics
            .keys()
            .filter_map(part)
            .collect::<Vec<_>>()
            .join(" + ")
    }

    fn is_best(&self, results: &Results, row: &Row) -> bool {
        let best = best(results, self.case, &row.group, Side::Peer, self.metric);
        best.is_some_and(|(peer, _)| peer.id == row.system)
    }
}

/// The systems that have a row in any of the columns, in their order, with notes below.
pub(super) fn table(results: &Results, columns: &[Column<'_>]) -> String {
    let mut notes = Notes::default();
    let groups = with_groups(results, columns);
    let mut header = vec!["system".to_owned()];
    header.extend(groups.then(|| "group".to_owned()));
    header.extend(columns.iter().map(Column::title));
    let mut lines = vec![header];
    for system in &results.systems {
        let rows: Vec<_> = columns
            .iter()
            .map(|column| column.row(results, system))
            .collect();
        let Some(first) = rows.iter().flatten().next() else {
            continue;
        };
        let mut line = vec![name(results, columns, system)];
        line.extend(groups.then(|| escape(&first.group)));
        for (index, (column, row)) in columns.iter().zip(&rows).enumerate() {
            let repeats = rows
                .iter()
                .take(index)
                .flatten()
                .any(|r| Some(r) == row.as_ref());
            line.push(row.map_or_else(String::new, |row| {
                cell(results, column, system, row, repeats, &mut notes)
            }));
        }
        lines.push(line);
    }
    let left = if groups { 2 } else { 1 };
    format!("{}{}", lay_out(&lines, left), notes.below())
}

/// A table of cells that are Markdown already; the first line is its header. The first
/// `left` columns are words, the others figures.
pub(super) fn lay_out(lines: &[Vec<String>], left: usize) -> String {
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let _ = writeln!(text, "| {} |", line.join(" | "));
        if index == 0 {
            let rule = (0..line.len()).map(|i| if i < left { "---" } else { "---:" });
            let _ = writeln!(text, "|{}|", rule.collect::<Vec<_>>().join("|"));
        }
    }
    text
}

/// "0.62 (0.58–0.66) ahead".
fn ratio_cell(ratio: &Ratio<'_>) -> String {
    let Some(spread) = ratio.spread() else {
        return "no peer".to_owned();
    };
    let median = ratio_text(spread.median);
    let standing = match ratio.standing() {
        Standing::Ahead => "ahead",
        Standing::Even => "even",
        Standing::Behind => "behind",
        Standing::Unknown => return median,
    };
    format!(
        "{median} ({}–{}) {standing}",
        ratio_text(spread.low),
        ratio_text(spread.high)
    )
}

/// Ratios are made within a group: a table of several must say which, unless its
/// columns do.
fn with_groups(results: &Results, columns: &[Column<'_>]) -> bool {
    let taken = results
        .rows
        .iter()
        .filter(|row| columns.iter().any(|column| column.takes(row)));
    let groups: BTreeSet<_> = taken.map(|row| &row.group).collect();
    groups.len() > 1 && columns.iter().all(|column| column.group.is_none())
}

fn name(results: &Results, columns: &[Column<'_>], system: &System) -> String {
    let own = columns
        .iter()
        .find(|column| column.row(results, system).is_some());
    let leads = own.is_some_and(|column| {
        let best = results.row(&column.case.id, &system.id).and_then(|row| {
            best(
                results,
                column.case,
                &row.group,
                Side::Peer,
                &column.case.headline,
            )
        });
        best.is_some_and(|(peer, _)| peer.id == system.id)
    });
    emphasise(&escape(&system.title), system.side, leads)
}

fn cell(
    results: &Results,
    column: &Column<'_>,
    system: &System,
    row: &Row,
    repeats: bool,
    notes: &mut Notes,
) -> String {
    let reason = match &row.outcome {
        Outcome::Measured(_) => {
            let is_figure = !matches!(column.show, Show::Ratio | Show::Parts);
            let leads = is_figure && column.is_best(results, row);
            return emphasise(&column.text(results, row), system.side, leads);
        }
        // Once in a row is enough.
        _ if repeats => return String::new(),
        Outcome::Absent(why) => ("—", why),
        Outcome::Failed(why) => ("**FAILED**", why),
    };
    format!("{} {}", reason.0, notes.mark(reason.1))
}

pub(super) fn emphasise(text: &str, side: Side, leads: bool) -> String {
    match side {
        Side::Tidegate if !text.is_empty() => format!("**{text}**"),
        Side::Peer if leads => format!("*{text}*"),
        _ => text.to_owned(),
    }
}

/// Reasons, each once.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn mark(&mut self, reason: &str) -> String {
        let known = self.0.iter().position(|note| note == reason);
        let index = known.unwrap_or_else(|| {
            self.0.push(reason.to_owned());
            self.0.len() - 1
        });
        superscript(index + 1)
    }

    fn below(&self) -> String {
        let mut text = String::new();
        for (index, reason) in self.0.iter().enumerate() {
            let gap = if index == 0 { "\n" } else { "" };
            let _ = writeln!(text, "{gap}- {} {}", superscript(index + 1), escape(reason));
        }
        text
    }
}

fn superscript(number: usize) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let digits = number.to_string();
    digits
        .bytes()
        .filter_map(|digit| DIGITS.get(usize::from(digit - b'0')))
        .collect()
}

/// Text that Markdown shows as it is, in a table too.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '|' | '*' | '`' | '\\' => escaped.extend(['\\', character]),
            '\n' | '\r' | '\t' => escaped.push(' '),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::Sample;

    fn shown(sample: Sample, shows: &[Show]) -> String {
        let results = sample.results();
        let case = &results.cases[0];
        let columns: Vec<_> = shows
            .iter()
            .map(|&show| Column::new(&results, case, "cpu_us", show, "CPU"))
            .collect();
        table(&results, &columns)
    }

    #[test]
    fn tidegate_is_bold_and_the_best_peer_in_italics() {
        let sample = Sample::tcp_short()
            .measured("tidegate", "tcp", &[9.0, 9.5, 10.0])
            .measured("haproxy", "tcp", &[15.0, 15.0, 15.0])
            .measured("nginx", "tcp", &[12.0, 12.5, 13.0])
            .measured("direct", "tcp", &[4.0, 4.0, 4.0]);
        assert_eq!(
            shown(sample, &[Show::Range, Show::Ratio]),
            "| system | CPU, µs | CPU |\n\
             |---|---:|---:|\n\
             | direct | 4.00 |  |\n\
             | haproxy tcp | 15.0 |  |\n\
             | *nginx stream* | *12.5 (12.0–13.0)* |  |\n\
             | **tidegate balancer** | **9.50 (9.00–10.0)** | **0.76 (0.75–0.77) ahead** |\n"
        );
    }

    #[test]
    fn one_reason_is_one_note() {
        let sample = Sample::tcp_short()
            .absent("haproxy", "tcp", "needs | and <b>")
            .absent("nginx", "tcp", "needs | and <b>")
            .failed("tidegate", "tcp", "answered\n502");
        let text = shown(sample, &[Show::Range, Show::Percent]);
        assert!(
            text.contains("| haproxy tcp | — ¹ |  |\n| nginx stream | — ¹ |  |\n"),
            "{text}"
        );
        assert!(
            text.contains("| **tidegate balancer** | **FAILED** ² |  |\n"),
            "{text}"
        );
        assert!(
            text.ends_with("\n- ¹ needs \\| and &lt;b&gt;\n- ² answered 502\n"),
            "{text}"
        );
    }

    #[test]
    fn groups_are_named_when_there_are_several() {
        let sample = Sample::tcp_short()
            .measured("haproxy", "tcp", &[15.0])
            .measured("nginx", "http", &[12.0]);
        let text = shown(sample, &[Show::Range]);
        assert!(text.contains("| *haproxy tcp* | tcp | *15.0* |"), "{text}");
        assert!(
            text.contains("| *nginx stream* | http | *12.0* |"),
            "{text}"
        );
    }

    #[test]
    fn parts_are_named_by_program() {
        let sample = Sample::tcp_short().metrics(
            "tidegate",
            "tcp",
            &[
                ("cpu_us", &[9.0]),
                ("cpu_us/node", &[4.0]),
                ("cpu_us/tidegate", &[5.0]),
            ],
        );
        let text = shown(sample, &[Show::Parts]);
        assert!(text.contains("**node 4.00 + tidegate 5.00**"), "{text}");
    }

    #[test]
    fn a_metric_that_a_row_lacks_is_a_dash() {
        let sample = Sample::tcp_short().metrics("nginx", "tcp", &[("other_us", &[1.0])]);
        assert!(shown(sample, &[Show::Range]).contains("| nginx stream | — |"));
    }

    #[test]
    fn tenth_note_has_two_digits() {
        assert_eq!(superscript(10), "¹⁰");
    }
}
