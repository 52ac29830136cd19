//! A report fits: no more rows of a kind, and no more bytes, than the control
//! plane takes. What matters least is left out, and what is said of the rest
//! stays true. `report` calls it; it sees rows only, not what they are made of.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use prost::Message;
use tidegate_proto::v1::{ClientStats, LiveClient, StatsReport};
use tidegate_proto::{MAX_AGENT_MESSAGE_BYTES, MAX_REPORT_ROWS};

/// Room for what the outbox adds: boot, number, how many were dropped.
const LARGEST: usize = MAX_AGENT_MESSAGE_BYTES - 256;

/// Leaves out of a report what is too much.
pub(super) fn fit(report: &mut StatsReport) {
    let mut most = MAX_REPORT_ROWS;
    cut(report, most);
    while report.encoded_len() > LARGEST && most > 0 {
        most /= 2;
        cut(report, most);
    }
}

/// At most `most` rows of each kind. Backends come with the first to keep first.
fn cut(report: &mut StatsReport, most: usize) {
    report.backends.truncate(most);
    if report.pools.len() > most {
        report.pools.sort_by_key(|row| Reverse(row.queued));
        report.pools.truncate(most);
    }
    if report.listeners.len() > most {
        report.listeners.sort_by_key(|row| Reverse(row.live));
        report.listeners.truncate(most);
    }
    if report.totals.len() > most {
        report.totals.sort_by_key(|row| Reverse(row.total));
        report.totals.truncate(most);
    }
    cut_clients(report, most);
    cut_live(report, most);
}

/// Each ranking loses its end, and its bound says what is lost.
fn cut_clients(report: &mut StatsReport, most: usize) {
    if report.clients.len() <= most {
        return;
    }
    let mut ranked: BTreeMap<_, Vec<ClientStats>> = BTreeMap::new();
    for row in report.clients.drain(..) {
        let ranking = (row.listener.clone(), row.measure);
        ranked.entry(ranking).or_default().push(row);
    }
    let named: HashSet<_> = report
        .totals
        .iter()
        .map(|t| (&t.listener, t.measure))
        .collect();
    ranked.retain(|(listener, measure), _| named.contains(&(listener, *measure)));
    let each = share(ranked.values().map(Vec::len), most);
    let mut bounds = BTreeMap::new();
    for (ranking, mut rows) in ranked {
        rows.sort_by_key(|row| Reverse(row.count));
        let left_out = rows.get(each).map_or(0, |row| row.count);
        rows.truncate(each);
        report.clients.append(&mut rows);
        bounds.insert(ranking, left_out);
    }
    for row in &mut report.totals {
        let left_out = bounds.get(&(row.listener.clone(), row.measure));
        row.bound = row.bound.max(left_out.copied().unwrap_or_default());
    }
}

fn cut_live(report: &mut StatsReport, most: usize) {
    if report.live_clients.len() <= most {
        return;
    }
    let mut listeners: BTreeMap<_, Vec<LiveClient>> = BTreeMap::new();
    for row in report.live_clients.drain(..) {
        let listener = row.listener.clone();
        listeners.entry(listener).or_default().push(row);
    }
    // With more listeners than rows, some of them have one.
    let each = share(listeners.values().map(Vec::len), most).max(1);
    for mut rows in listeners.into_values() {
        rows.sort_by_key(|row| Reverse(row.live));
        rows.truncate(each);
        report.live_clients.append(&mut rows);
    }
    report.live_clients.truncate(most);
}

/// How many rows each may keep so that all keep at most `most`: what the short
/// ones do not need is for the long ones.
fn share(lengths: impl Iterator<Item = usize>, most: usize) -> usize {
    let mut lengths: Vec<_> = lengths.collect();
    lengths.sort_unstable();
    let mut left = most;
    for (done, length) in lengths.iter().enumerate() {
        let each = left / (lengths.len() - done);
        if *length > each {
            return each;
        }
        left -= length;
    }
    most
}

#[cfg(test)]
mod tests {
    use tidegate_proto::v1::{BackendStats, ClientTotals, ListenerStats, PoolStats};

    use super::*;

    /// So many rows in the ranking of a listener, the last one the heaviest.
    fn ranking(report: &mut StatsReport, listener: &str, measure: i32, rows: u64) {
        report.totals.push(ClientTotals {
            listener: listener.to_owned(),
            measure,
            total: rows * (rows + 1) / 2,
            bound: 1,
            ..ClientTotals::default()
        });
        report.clients.extend((1..=rows).map(|count| ClientStats {
            listener: listener.to_owned(),
            measure,
            client: vec![0; 8],
            count,
            error: 0,
        }));
    }

    fn fits(report: &StatsReport) -> bool {
        let rows = [
            report.backends.len(),
            report.pools.len(),
            report.listeners.len(),
            report.clients.len(),
            report.totals.len(),
            report.live_clients.len(),
        ];
        rows.iter().all(|rows| *rows <= MAX_REPORT_ROWS)
            && report.encoded_len() <= MAX_AGENT_MESSAGE_BYTES
    }

    #[test]
    fn what_fits_is_not_touched() {
        let mut report = StatsReport::default();
        ranking(&mut report, "edge", 1, MAX_REPORT_ROWS as u64);
        let whole = report.clone();
        fit(&mut report);
        assert_eq!(report, whole);
    }

    #[test]
    fn long_rankings_lose_their_end_and_their_bound_says_so() {
        let mut report = StatsReport::default();
        for listener in 0..20 {
            ranking(&mut report, &format!("l{listener}"), 2, 1024);
        }
        ranking(&mut report, "short", 2, 10);
        fit(&mut report);
        assert!(fits(&report));
        let each = (MAX_REPORT_ROWS as u64 - 10) / 20;
        for totals in &report.totals {
            let rows = report
                .clients
                .iter()
                .filter(|c| c.listener == totals.listener);
            let (kept, least) = rows.fold((0, u64::MAX), |(n, l), c| (n + 1, l.min(c.count)));
            if totals.listener == "short" {
                assert_eq!((kept, totals.bound), (10, 1));
            } else {
                assert_eq!((kept, totals.bound), (each, 1024 - each));
                assert_eq!(least, 1024 - each + 1);
            }
        }
    }

    #[test]
    fn of_more_rankings_than_rows_the_largest_stay() {
        let mut report = StatsReport::default();
        for listener in 0..MAX_REPORT_ROWS {
            ranking(&mut report, &format!("l{listener}"), 1, 1);
        }
        ranking(&mut report, "large", 1, 2);
        fit(&mut report);
        assert!(fits(&report));
        assert_eq!(report.totals.len(), MAX_REPORT_ROWS);
        assert_eq!(report.totals[0].listener, "large");
        let large = report.clients.iter().filter(|c| c.listener == "large");
        assert_eq!(large.map(|c| c.count).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn live_clients_backends_pools_and_listeners_are_bounded_over_all() {
        let many = MAX_REPORT_ROWS as u64 + 100;
        let mut report = StatsReport {
            backends: (0..many)
                .map(|in_flight| BackendStats {
                    in_flight: u32::try_from(in_flight).unwrap(),
                    ..BackendStats::default()
                })
                .collect(),
            pools: (0..many)
                .map(|queued| PoolStats {
                    queued,
                    ..PoolStats::default()
                })
                .collect(),
            listeners: (0..many)
                .map(|live| ListenerStats {
                    live,
                    ..ListenerStats::default()
                })
                .collect(),
            live_clients: (0..many)
                .map(|live| LiveClient {
                    listener: "edge".to_owned(),
                    live,
                    ..LiveClient::default()
                })
                .collect(),
            ..StatsReport::default()
        };
        fit(&mut report);
        assert!(fits(&report));
        assert_eq!(report.backends[0].in_flight, 0, "the first ones stay");
        let least = |live: &mut dyn Iterator<Item = u64>| live.min().unwrap();
        assert_eq!(least(&mut report.pools.iter().map(|p| p.queued)), 100);
        assert_eq!(least(&mut report.listeners.iter().map(|l| l.live)), 100);
        assert_eq!(least(&mut report.live_clients.iter().map(|l| l.live)), 100);
    }

    #[test]
    fn few_rows_of_long_texts_are_cut_until_the_bytes_fit() {
        let words = "w".repeat(600);
        let mut report = StatsReport {
            backends: (0..MAX_REPORT_ROWS)
                .map(|_| BackendStats {
                    address: words.clone(),
                    ..BackendStats::default()
                })
                .collect(),
            ..StatsReport::default()
        };
        assert!(!fits(&report));
        fit(&mut report);
        assert!(fits(&report));
        assert_eq!(report.backends.len(), MAX_REPORT_ROWS / 4);
    }
}
