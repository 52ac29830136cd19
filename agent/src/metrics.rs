//! Prometheus metrics, gathered from the facts when somebody asks: the data
//! path only counts in atomics it owns. No client is ever a label.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tidegate_core::document::Role;

use crate::control::apply::Applies;
use crate::facts::{BackendFacts, ListenerFacts, Serving};
use crate::source::{Source, ephemeral_ports};
use crate::state::State;
use crate::tls::{BOUNDS_MS, Counted, Times};

/// Everything that can be told in numbers.
pub(crate) struct Metrics {
    pub(crate) state: Arc<State>,
    pub(crate) applies: Arc<Applies>,
    pub(crate) accept_errors: Arc<AtomicU64>,
    pub(crate) source: Source,
}

impl Metrics {
    /// The text exposition (OpenMetrics 1.0).
    pub(crate) fn text(self: &Arc<Self>) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Gathered(Arc::clone(self))));
        let mut page = String::new();
        text::encode(&mut page, &registry)?;
        Ok(page)
    }

    fn listeners(&self, page: &mut Page<'_>) -> fmt::Result {
        type Count = fn(&ListenerFacts) -> &AtomicU64;
        let counters: [(&str, &str, Count); 3] = [
            ("connections_accepted", "Connections accepted", |l| {
                &l.accepted
            }),
            ("requests", "HTTP requests received", |l| &l.requests),
            (
                "requests_failed",
                "HTTP requests answered by the agent for want of an answer from the app",
                |l| &l.requests_failed,
            ),
        ];
        let all = self.state.facts().listeners();
        for (name, help, count) in counters {
            page.counters(
                name,
                help,
                all.iter()
                    .map(|l| ([("listener", l.name.as_str())], load(count(l)))),
            )?;
        }
        page.gauges(
            "connections_live",
            "Connections open now",
            all.iter()
                .map(|l| ([("listener", l.name.as_str())], l.bounds.live())),
        )?;
        page.gauges(
            "clients_live",
            "Clients with open connections now",
            all.iter().map(|l| {
                let count = u64::try_from(l.clients.count()).unwrap_or(u64::MAX);
                ([("listener", l.name.as_str())], count)
            }),
        )?;
        page.counters(
            "bytes",
            "Payload bytes, from (in) and to (out) clients",
            all.iter().flat_map(|l| {
                let row = |direction, bytes: &AtomicU64| {
                    (
                        [("listener", l.name.as_str()), ("direction", direction)],
                        load(bytes),
                    )
                };
                [row("in", &l.bytes_in), row("out", &l.bytes_out)]
            }),
        )?;
        page.counters(
            "connections_closed",
            "Connections ended, by how far they had come and why",
            all.iter().flat_map(|l| {
                l.closed().map(|(phase, cause, count)| {
                    let labels = [
                        ("listener", l.name.as_str()),
                        ("phase", phase.label()),
                        ("cause", cause.label()),
                    ];
                    (labels, count)
                })
            }),
        )
    }

    fn handshakes(&self, page: &mut Page<'_>) -> fmt::Result {
        let all = self.state.facts().listeners();
        let terminators = all.iter().filter(|l| l.role == Role::Terminator);
        let all: Vec<_> = terminators
            .map(|l| (l.name.as_str(), l.handshakes.counted()))
            .collect();
        page.counters(
            "handshakes",
            "TLS handshakes by result",
            all.iter().flat_map(|(listener, counted)| {
                let row = |result, count| ([("listener", *listener), ("result", result)], count);
                [
                    row("full", counted.full),
                    row("resumed", counted.resumed),
                    row("failed", counted.failed.values().sum()),
                ]
            }),
        )?;
        type Counts = fn(&Counted) -> &BTreeMap<&'static str, u64>;
        let named: [(&str, &str, &str, Counts); 4] = [
            (
                "handshake_failures",
                "TLS handshakes that failed, by why",
                "reason",
                |counted| &counted.failed,
            ),
            (
                "handshake_versions",
                "TLS handshakes by version",
                "version",
                |counted| &counted.versions,
            ),
            (
                "handshake_suites",
                "TLS handshakes by suite",
                "suite",
                |counted| &counted.suites,
            ),
            (
                "handshake_groups",
                "TLS handshakes by group",
                "group",
                |counted| &counted.groups,
            ),
        ];
        for (name, help, label, counts) in named {
            let rows = all.iter().flat_map(|(listener, counted)| {
                let counts = counts(counted).iter();
                counts.map(|(value, n)| ([("listener", *listener), (label, *value)], *n))
            });
            page.counters(name, help, rows)?;
        }
        page.counters(
            "handshake_names",
            "TLS handshakes by the name asked for, as a certificate has it",
            all.iter().flat_map(|(listener, counted)| {
                let names = counted.names.iter();
                names.map(|(name, n)| ([("listener", *listener), ("name", name.as_str())], *n))
            }),
        )?;
        page.histograms(
            "handshake_seconds",
            "How long TLS handshakes took",
            all.iter()
                .map(|(listener, counted)| ([("listener", *listener)], &counted.times)),
        )
    }

    fn certificates(&self, page: &mut Page<'_>) -> fmt::Result {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let active = self.state.active();
        page.signed(
            "certificate_days_left",
            "Days until a certificate ends; negative when it has",
            active.identities.iter().map(|(name, identity)| {
                let left = identity.not_after.saturating_sub(now).div_euclid(86_400);
                ([("certificate", name.as_str())], left)
            }),
        )
    }

    fn tickets(&self, page: &mut Page<'_>) -> fmt::Result {
        let all = self.state.tickets().sorted();
        let named: Vec<_> = all.iter().map(|t| (t.listener.as_str(), t)).collect();
        page.counters(
            "tickets_issued",
            "Session tickets given to clients",
            named
                .iter()
                .map(|(name, t)| ([("listener", *name)], load(&t.counts.issued))),
        )?;
        page.counters(
            "tickets_accepted",
            "Session tickets of clients opened, by what their key does: encrypting, previous \
             (makes none any more), next (makes none yet)",
            named.iter().flat_map(|(name, t)| {
                t.counts.accepted().map(|(stage, count)| {
                    let labels = [("listener", *name), ("key", stage.as_str())];
                    (labels, count)
                })
            }),
        )?;
        page.counters(
            "tickets_refused",
            "Session tickets of clients not opened, by why: each a full handshake",
            named.iter().flat_map(|(name, t)| {
                t.counts
                    .refused()
                    .map(|(why, count)| ([("listener", *name), ("reason", why.label())], count))
            }),
        )
    }

    fn backends(&self, page: &mut Page<'_>) -> fmt::Result {
        let all = self.state.facts().backends();
        page.gauges(
            "backend_up",
            "Whether the backend takes traffic from this agent",
            all.iter().map(|b| (identity(b), u64::from(b.is_up()))),
        )?;
        page.gauges(
            "backend_ejected",
            "Whether the backend is passed over for failed connects",
            all.iter().map(|b| (identity(b), u64::from(b.is_ejected()))),
        )?;
        page.counters(
            "backend_ejections",
            "Times the backend was ejected for failed connects",
            all.iter().map(|b| (identity(b), load(&b.ejections))),
        )?;
        page.gauges(
            "backend_in_flight",
            "Connections to the backend now",
            all.iter()
                .map(|b| (identity(b), u64::from(b.in_flight.load(Ordering::Relaxed)))),
        )?;
        page.counters(
            "backend_connects",
            "Connects to the backend by result",
            all.iter()
                .flat_map(|b| by_result(b, [("ok", &b.connects), ("failed", &b.connects_failed)])),
        )?;
        page.counters(
            "checks",
            "Health checks by result",
            all.iter().flat_map(|b| {
                by_result(b, [("pass", &b.checks_passed), ("fail", &b.checks_failed)])
            }),
        )
    }

    fn pools(&self, page: &mut Page<'_>) -> fmt::Result {
        let all = self.state.facts().pools();
        page.gauges(
            "pool_queued",
            "Connections that wait for a backend with room",
            all.iter().map(|p| {
                let waiting = u64::try_from(p.queue.len()).unwrap_or(u64::MAX);
                ([("pool", p.name.as_str())], waiting)
            }),
        )?;
        page.gauges(
            "pool_serving",
            "Who serves the pool: its primaries, backups, backends that are down, or nobody",
            all.iter().flat_map(|p| {
                Serving::ALL.map(|by| {
                    let labels = [("pool", p.name.as_str()), ("by", by.label())];
                    (labels, u64::from(p.serving() == by))
                })
            }),
        )
    }

    fn agent(&self, page: &mut Page<'_>) -> fmt::Result {
        page.counters(
            "accept_errors",
            "Errors of accept(2)",
            [([("listener", "all")], load(&self.accept_errors))].into_iter(),
        )?;
        let used = self.source.used();
        page.gauges(
            "source_ports_used",
            "Connections to backends by the address they come from; each address has \
             source_ports of them to each backend",
            used.iter()
                .map(|(ip, used)| ([("source", ip.as_str())], *used)),
        )?;
        let ports = u64::try_from(ephemeral_ports().len()).unwrap_or(u64::MAX);
        page.gauges(
            "source_ports",
            "Source ports of each address (net.ipv4.ip_local_port_range)",
            [([("source", "each")], ports)].into_iter(),
        )?;
        let applies = [
            ("applied", &self.applies.applied),
            ("unchanged", &self.applies.unchanged),
            ("refused", &self.applies.refused),
        ];
        page.counters(
            "applies",
            "Snapshots and documents taken in, by what came of them",
            applies
                .into_iter()
                .map(|(result, count)| ([("result", result)], load(count))),
        )
    }
}

struct Gathered(Arc<Metrics>);

impl fmt::Debug for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gathered")
    }
}

impl Collector for Gathered {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.0.listeners(&mut page)?;
        self.0.handshakes(&mut page)?;
        self.0.certificates(&mut page)?;
        self.0.tickets(&mut page)?;
        self.0.pools(&mut page)?;
        self.0.backends(&mut page)?;
        self.0.agent(&mut page)
    }
}

/// Families under our prefix.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counters<'s, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = ([(&'s str, &'s str); N], u64)>,
    ) -> fmt::Result {
        self.family(
            name,
            help,
            MetricType::Counter,
            rows,
            |mut metric, value| metric.encode_counter::<[(&str, &str); 0], _, u64>(&value, None),
        )
    }

    fn gauges<'s, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = ([(&'s str, &'s str); N], u64)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, rows, |mut metric, value| {
            metric.encode_gauge(&value)
        })
    }

    fn signed<'s, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = ([(&'s str, &'s str); N], i64)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, rows, |mut metric, value| {
            metric.encode_gauge(&value)
        })
    }

    fn histograms<'s, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = ([(&'s str, &'s str); N], &'s Times)>,
    ) -> fmt::Result {
        self.family(
            name,
            help,
            MetricType::Histogram,
            rows,
            |mut metric, times| {
                let bounds = BOUNDS_MS
                    .iter()
                    .map(|&millis| Duration::from_millis(millis));
                let bounds = bounds.map(|bound| bound.as_secs_f64()).chain([f64::MAX]);
                let buckets: Vec<_> = bounds.zip(times.counts).collect();
                let count = times.counts.iter().sum();
                let sum = times.sum.as_secs_f64();
                metric.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)
            },
        )
    }

    fn family<'s, const N: usize, V>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        rows: impl Iterator<Item = ([(&'s str, &'s str); N], V)>,
        encode: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let name = format!("tidegate_{name}");
        let mut family = self.0.encode_descriptor(&name, help, None, kind)?;
        for (labels, value) in rows {
            encode(family.encode_family(&labels)?, value)?;
        }
        Ok(())
    }
}

fn identity(backend: &BackendFacts) -> [(&str, &str); 2] {
    [
        ("pool", backend.pool.name.as_str()),
        ("backend", backend.name.as_str()),
    ]
}

fn by_result<'a>(
    backend: &'a BackendFacts,
    counts: [(&'static str, &'a AtomicU64); 2],
) -> [([(&'a str, &'a str); 3], u64); 2] {
    let [pool, name] = identity(backend);
    counts.map(|(result, count)| ([pool, name, ("result", result)], load(count)))
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
