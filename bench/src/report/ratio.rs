//! Tidegate against the best peer: one [`Ratio`] for each Tidegate row that has a
//! figure. Who the best peer is, is decided here only: [`best`].
//!
//! The runner prints ratios after each case; tables and charts use the same ones.

use std::fmt;

use crate::report::figure::{is_rate, ratio_text};
use crate::results::{Case, Outcome, Results, Row, Side, Spread, System};

/// One Tidegate row, and the best peer that did the same work.
#[derive(Clone, Copy, Debug)]
pub struct Ratio<'a> {
    /// The question.
    pub case: &'a Case,
    /// Ours.
    pub system: &'a System,
    /// Both rows are of this group.
    pub group: &'a str,
    /// What ours took, in the case's headline metric.
    pub figure: Spread,
    /// The peer that took least, and what it took; `None` when no peer has a figure.
    pub peer: Option<(&'a System, Spread)>,
    /// Ours over the peer's in each round, in which both stood beside each other in
    /// time: a machine that is slower for a while is slower for both.
    paired: Option<Spread>,
    /// Rounds behind the figure with fewer of them.
    pub rounds: usize,
}

/// What a ratio says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Ours took less than the peer's in each of at least five rounds; in fewer,
    /// every round of ours took less than every round of the peer's.
    Ahead,
    /// No difference that this run can show.
    Even,
    /// The same with more.
    Behind,
    /// One round, or no ratio.
    Unknown,
}

/// Two that are alike agree in so many rounds by chance once in sixteen times.
const ENOUGH: usize = 5;

/// For each Tidegate row of this case that has a figure, how it compares with the best
/// peer of its group. Empty when there is no such case or no such row.
pub fn ratios<'a>(results: &'a Results, case_id: &str) -> Vec<Ratio<'a>> {
    let Some(case) = results.cases.iter().find(|case| case.id == case_id) else {
        return Vec::new();
    };
    let ours = rows(results, case, Side::Tidegate);
    ours.filter_map(|(system, row)| ratio(results, case, system, row))
        .collect()
}

fn ratio<'a>(
    results: &'a Results,
    case: &'a Case,
    system: &'a System,
    row: &'a Row,
) -> Option<Ratio<'a>> {
    let metric = case.headline.as_str();
    let figure = usable(row, metric)?;
    let peer = best(results, case, &row.group, Side::Peer, metric);
    let theirs = peer.and_then(|(peer, _)| results.row(&case.id, &peer.id));
    let rounds = theirs
        .map_or(usize::MAX, |row| rounds(row, metric))
        .min(rounds(row, metric));
    Some(Ratio {
        case,
        system,
        group: &row.group,
        figure,
        peer,
        paired: theirs.and_then(|theirs| paired(row, theirs, metric)),
        rounds,
    })
}

/// One row over the other, round by round; `None` when they have not the same rounds, or
/// one had nothing in a round.
fn paired(row: &Row, base: &Row, metric: &str) -> Option<Spread> {
    let (ours, theirs) = (values(row, metric), values(base, metric));
    let comparable = ours.len() == theirs.len() && theirs.iter().all(|&base| base > 0.0);
    let ratios = ours.iter().zip(theirs).map(|(value, base)| value / base);
    Spread::of(&ratios.collect::<Vec<_>>()).filter(|_| comparable)
}

/// Of one side of one group, the system with the lowest median, of a rate the highest.
pub(super) fn best<'a>(
    results: &'a Results,
    case: &Case,
    group: &str,
    side: Side,
    metric: &str,
) -> Option<(&'a System, Spread)> {
    // How busy a core was is neither good nor bad, and what was asked not its doing.
    if metric.ends_with("_percent") || metric == "asked_per_s" {
        return None;
    }
    let members = rows(results, case, side).filter(|(_, row)| row.group == group);
    let figures = members.filter_map(|(system, row)| Some((system, usable(row, metric)?)));
    figures.min_by(|(_, a), (_, b)| {
        let order = a.median.total_cmp(&b.median);
        if is_rate(metric) {
            order.reverse()
        } else {
            order
        }
    })
}

/// A figure that can be shown and compared: one whose median is a number.
pub(crate) fn usable(row: &Row, metric: &str) -> Option<Spread> {
    row.spread(metric)
        .filter(|spread| spread.median.is_finite())
}

/// One over the other: `None` over nothing. A base that was nothing in some round, as
/// what is left of memory may be, bounds no ratio.
pub(crate) fn over(figure: Spread, base: Spread) -> Option<Spread> {
    let ratio = figure.over(base);
    let high = if base.low > 0.0 {
        ratio.high
    } else {
        f64::INFINITY
    };
    (base.median > 0.0).then_some(Spread { high, ..ratio })
}

fn rows<'a>(
    results: &'a Results,
    case: &Case,
    side: Side,
) -> impl Iterator<Item = (&'a System, &'a Row)> {
    let systems = results
        .systems
        .iter()
        .filter(move |system| system.side == side);
    systems.filter_map(move |system| Some((system, results.row(&case.id, &system.id)?)))
}

fn rounds(row: &Row, metric: &str) -> usize {
    values(row, metric).len()
}

fn values<'a>(row: &'a Row, metric: &str) -> &'a [f64] {
    match &row.outcome {
        Outcome::Measured(metrics) => metrics.get(metric).map_or(&[], Vec::as_slice),
        Outcome::Absent(_) | Outcome::Failed(_) => &[],
    }
}

impl Ratio<'_> {
    /// Ours over the peer's, below 1 when ours took less; `None` without a peer, or when
    /// the peer took nothing.
    pub fn spread(&self) -> Option<Spread> {
        self.paired.or_else(|| over(self.figure, self.peer?.1))
    }

    /// What it says.
    pub fn standing(&self) -> Standing {
        let spread = match self.rounds {
            0 | 1 => None,
            ENOUGH.. => self.spread(),
            _ => self.peer.and_then(|(_, taken)| over(self.figure, taken)),
        };
        spread.map_or(Standing::Unknown, Standing::of)
    }

    /// "1.03 × nginx stream (0.97-1.10)", or why there is none.
    pub fn against(&self) -> String {
        let Some((peer, _)) = self.peer else {
            return "no peer has a figure".to_owned();
        };
        let Some(ratio) = self.spread() else {
            return format!("no ratio, {} took nothing", peer.title);
        };
        let spread = match self.rounds {
            0 | 1 => "one round".to_owned(),
            _ => format!("{}-{}", ratio_text(ratio.low), ratio_text(ratio.high)),
        };
        format!("{} × {} ({spread})", ratio_text(ratio.median), peer.title)
    }
}

impl fmt::Display for Ratio<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.spread().is_some() { "" } else { ":" };
        write!(
            f,
            "{}: {}{colon} {}",
            self.case.title,
            self.system.title,
            self.against()
        )
    }
}

impl Standing {
    /// Of a ratio with a spread, where less is better.
    pub(crate) fn of(ratio: Spread) -> Self {
        if ratio.high < 1.0 {
            Self::Ahead
        } else if ratio.low > 1.0 {
            Self::Behind
        } else {
            Self::Even
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::Sample;

    fn told(sample: Sample, case: &str) -> Vec<String> {
        ratios(&sample.results(), case)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn ours_stands_against_the_best_peer() {
        let sample = Sample::tcp_short()
            .measured("tidegate", "tcp", &[10.0, 10.3, 10.7])
            .measured("nginx", "tcp", &[9.8, 10.0, 10.3])
            .measured("haproxy", "tcp", &[12.0, 12.0, 12.0]);
        assert_eq!(
            told(sample, "tcp-short"),
            ["short TCP connection: tidegate balancer 1.03 × nginx stream (1.02-1.04)"]
        );
    }

    #[test]
    fn a_baseline_and_another_group_are_no_peers() {
        let sample = Sample::tcp_short()
            .measured("tidegate", "tcp", &[10.0, 10.0])
            .measured("direct", "tcp", &[1.0, 1.0])
            .measured("nginx", "http", &[5.0, 5.0]);
        assert_eq!(
            told(sample, "tcp-short"),
            ["short TCP connection: tidegate balancer: no peer has a figure"]
        );
    }

    #[test]
    fn the_best_rate_is_the_highest() {
        let results = Sample::tcp_short()
            .metrics("nginx", "tcp", &[("opened_per_s", &[10.0])])
            .metrics("haproxy", "tcp", &[("opened_per_s", &[20.0])])
            .results();
        let best = best(
            &results,
            &results.cases[0],
            "tcp",
            Side::Peer,
            "opened_per_s",
        );
        assert_eq!(best.unwrap().0.id, "haproxy");
    }

    #[test]
    fn absent_failed_and_unusable_peers_have_no_figure() {
        let sample = Sample::tcp_short()
            .measured("tidegate", "tcp", &[10.0])
            .absent("haproxy", "tcp", "not installed")
            .measured("nginx", "tcp", &[f64::NAN]);
        assert_eq!(
            told(sample, "tcp-short"),
            ["short TCP connection: tidegate balancer: no peer has a figure"]
        );
    }

    #[test]
    fn a_tidegate_row_without_a_figure_has_no_ratio() {
        let sample = Sample::tcp_short()
            .failed("tidegate", "tcp", "wrong answer")
            .measured("nginx", "tcp", &[10.0]);
        assert!(told(sample, "tcp-short").is_empty());
        assert!(told(Sample::tcp_short(), "no-such-case").is_empty());
    }

    #[test]
    fn one_round_tells_no_spread_and_no_standing() {
        let results = Sample::tcp_short()
            .measured("tidegate", "tcp", &[5.0])
            .measured("nginx", "tcp", &[10.0])
            .results();
        let ratios = ratios(&results, "tcp-short");
        assert_eq!(ratios[0].against(), "0.50 × nginx stream (one round)");
        assert_eq!(ratios[0].standing(), Standing::Unknown);
    }

    #[test]
    fn a_peer_that_took_nothing_gives_no_ratio() {
        let sample = Sample::tcp_short()
            .measured("tidegate", "tcp", &[5.0, 5.0])
            .measured("nginx", "tcp", &[0.0, 0.0]);
        assert_eq!(
            told(sample, "tcp-short"),
            ["short TCP connection: tidegate balancer: no ratio, nginx stream took nothing"]
        );
    }

    #[test]
    fn a_base_below_zero_in_some_round_tells_nothing() {
        let figure = Spread {
            median: 5.0,
            low: 4.0,
            high: 6.0,
        };
        let base = Spread {
            median: 9.0,
            low: -1.0,
            high: 10.0,
        };
        let ratio = over(figure, base).unwrap();
        assert_eq!((ratio.low, ratio.high), (0.4, f64::INFINITY));
        assert_eq!(Standing::of(ratio), Standing::Even);
    }

    #[test]
    fn a_machine_that_is_slow_for_a_round_is_so_for_both() {
        let theirs = [10.0, 20.0, 10.0, 30.0, 10.0];
        let ours = theirs.map(|value| value * 0.9);
        let results = Sample::tcp_short()
            .measured("tidegate", "tcp", &ours)
            .measured("nginx", "tcp", &theirs)
            .results();
        let ratio = ratios(&results, "tcp-short")[0];
        assert_eq!(ratio.against(), "0.90 × nginx stream (0.90-0.90)");
        assert_eq!(ratio.standing(), Standing::Ahead);
    }

    #[test]
    fn three_rounds_that_agree_may_do_so_by_chance() {
        let results = Sample::tcp_short()
            .measured("tidegate", "tcp", &[9.0, 18.0, 9.0])
            .measured("nginx", "tcp", &[10.0, 20.0, 10.0])
            .results();
        assert_eq!(ratios(&results, "tcp-short")[0].standing(), Standing::Even);
    }

    #[test]
    fn standing_needs_every_round_on_one_side() {
        for (ours, standing) in [
            ([8.0, 9.0], Standing::Ahead),
            ([9.0, 10.5], Standing::Even),
            ([12.0, 12.5], Standing::Behind),
        ] {
            let results = Sample::tcp_short()
                .measured("tidegate", "tcp", &ours)
                .measured("nginx", "tcp", &[10.0, 11.0])
                .results();
            assert_eq!(
                ratios(&results, "tcp-short")[0].standing(),
                standing,
                "{ours:?}"
            );
        }
    }
}
