//! WebSockets as in "balancerbattle": thousands at once, each with a handshake and an
//! echo; then all of them open, exchanging messages. At most 128 handshakes or messages
//! are under way at a time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::{
    Entrant, Experiment, FEW_ROUNDS, Figures, Processors, Scale, Task, figures, layer, unpinned,
    until_ready, with_descriptors,
};
use crate::load::tls::Pins;
use crate::load::websocket::Battle;
use crate::measure::{percentile, processor_time};
use crate::results::{Case, Scenario, Side};
use crate::stage::Stage;
use crate::systems::{
    Balancer, Conditions, Haproxy, Hitch, HttpProxy, Layer, Mode, Nginx, Node, Running, Stack,
    Terminator, Tickets, Trouble,
};

const PLAIN: &str = "plain";
const TLS: &str = "tls";
/// A balancer that does not decrypt, and terminators behind it.
const TWO_TIERS: &str = "tls, two tiers";

pub(super) fn experiments(scale: Scale, processors: &Processors) -> Vec<Experiment> {
    let mut all = Vec::new();
    for (tls, id, title) in [
        (false, "plain", "WebSockets"),
        (true, "tls", "WebSockets in TLS"),
    ] {
        for &count in scale.websockets {
            let case = Case {
                id: format!("ws-{id}-{count}"),
                scenario: Scenario::Websockets,
                title: format!("{count} {title}"),
                unit: format!("{count} connections"),
                headline: "total_s".to_owned(),
            };
            let per_second = if tls { 900.0 } else { 2_500.0 };
            let seconds = 1.0 + count as f64 / per_second + scale.messages as f64 / 12_000.0;
            all.push(Experiment {
                task: Task::Websockets(Fight {
                    case: case.id.clone(),
                    count,
                    messages: scale.messages,
                }),
                cases: vec![case],
                entrants: with_descriptors(count, if tls { secure() } else { plain() }),
                conditions: Conditions {
                    tickets: Tickets::None,
                    ..unpinned(processors.0.len())
                },
                rounds: FEW_ROUNDS,
                estimate: Duration::from_secs_f64(seconds),
            });
        }
    }
    all
}

type Part = Arc<dyn Layer>;

fn echo(tls: bool) -> Part {
    layer(Node {
        script: "ws.mjs",
        tls,
    })
}

fn before_echo(
    id: &str,
    title: &str,
    side: Side,
    group: &'static str,
    mut parts: Vec<Part>,
) -> Entrant {
    parts.push(echo(false));
    Entrant::new(id, title, side, group, Stack::with_app(parts))
}

fn plain() -> Vec<Entrant> {
    let (ours, peer) = (Side::Tidegate, Side::Peer);
    let direct = Stack::with_app(vec![echo(false)]);
    let direct = Entrant::new(
        "ws-node",
        "Node.js (ws), direct",
        Side::Baseline,
        PLAIN,
        direct,
    );
    let node = layer(HttpProxy { tls: false });
    let balancer = layer(Balancer {
        proxy_v2: false,
        early: false,
    });
    let proxies = [
        ("ws-http-proxy", "Node.js http-proxy", peer, node),
        ("ws-nginx", "nginx http", peer, layer(Nginx::HTTP)),
        (
            "ws-haproxy-http",
            "HAProxy http",
            peer,
            layer(Haproxy::HTTP),
        ),
        ("ws-haproxy-tcp", "HAProxy tcp", peer, layer(Haproxy::TCP)),
        ("ws-tidegate-balancer", "Tidegate balancer", ours, balancer),
    ]
    .map(|(id, title, side, part)| before_echo(id, title, side, PLAIN, vec![part]));
    std::iter::once(direct).chain(proxies).collect()
}

fn secure() -> Vec<Entrant> {
    let (ours, peer) = (Side::Tidegate, Side::Peer);
    let direct = Stack::with_app(vec![echo(true)]);
    let title = "Node.js (ws) with HTTPS, direct";
    let direct = Entrant::new("wss-node", title, Side::Baseline, TLS, direct);
    let terminator = |behind_balancer| {
        layer(Terminator {
            mode: Mode::Http,
            behind_balancer,
        })
    };
    let node = layer(HttpProxy { tls: true });
    let haproxy = layer(Haproxy::HTTP.tls());
    let stud = vec![layer(Haproxy::TCP), layer(Hitch)];
    let both = vec![
        layer(Balancer {
            proxy_v2: true,
            early: true,
        }),
        terminator(true),
    ];
    let proxies = [
        (
            "wss-http-proxy",
            "Node.js http-proxy with HTTPS",
            peer,
            TLS,
            vec![node],
        ),
        (
            "wss-nginx",
            "nginx TLS, http",
            peer,
            TLS,
            vec![layer(Nginx::HTTP.tls())],
        ),
        (
            "wss-haproxy-http",
            "HAProxy TLS, http",
            peer,
            TLS,
            vec![haproxy],
        ),
        ("wss-hitch", "stud (hitch)", peer, TLS, vec![layer(Hitch)]),
        (
            "wss-tidegate",
            "Tidegate terminator",
            ours,
            TLS,
            vec![terminator(false)],
        ),
        (
            "wss-haproxy-hitch",
            "HAProxy tcp + stud (hitch)",
            peer,
            TWO_TIERS,
            stud,
        ),
        (
            "wss-tidegate-both",
            "Tidegate balancer + terminator",
            ours,
            TWO_TIERS,
            both,
        ),
    ]
    .map(|(id, title, side, group, parts)| before_echo(id, title, side, group, parts));
    std::iter::once(direct).chain(proxies).collect()
}

/// What is done with a started system.
pub struct Fight {
    case: String,
    count: usize,
    messages: usize,
}

impl Fight {
    pub(super) async fn fight(
        &self,
        stage: &Stage,
        running: &Running,
        conditions: Conditions,
    ) -> Result<Figures, Trouble> {
        let leaf = &stage.certificate(conditions.certificate).leaf;
        let battle = |connections, messages| -> Result<Battle, Trouble> {
            let tls = running.tls.then(|| Pins::USUAL.client(leaf)).transpose()?;
            Ok(Battle {
                address: running.address,
                tls,
                connections,
                messages,
            })
        };
        let first = battle(1, 1)?;
        until_ready(running, || first.clone().fight().boxed_local()).await?;

        let programs = running.programs();
        let before: Duration = processor_time(&programs)?.values().sum();
        let outcome = battle(self.count, self.messages)?.fight().await?;
        let used: Duration = processor_time(&programs)?.values().sum();
        let used = used.saturating_sub(before);
        let exchanged = outcome.exchanged.len() as f64 / outcome.exchange.as_secs_f64();
        let (handshake, latency) = (Times::of(outcome.handshakes), Times::of(outcome.first));
        let exchange = Times::of(outcome.exchanged);
        Ok(figures(
            &self.case,
            [
                ("handshake_mean_ms", handshake.mean_ms),
                ("handshake_p99_ms", handshake.p99_ms),
                ("latency_mean_ms", latency.mean_ms),
                ("latency_p99_ms", latency.p99_ms),
                ("total_s", outcome.total.as_secs_f64()),
                ("exchange_mean_ms", exchange.mean_ms),
                ("exchange_p99_ms", exchange.p99_ms),
                ("exchange_per_s", exchanged),
                ("cpu_s", used.as_secs_f64()),
            ],
        ))
    }
}

struct Times {
    mean_ms: f64,
    p99_ms: f64,
}

impl Times {
    /// Of at least one.
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let all: Duration = times.iter().sum();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        Self {
            mean_ms: ms(all) / times.len().max(1) as f64,
            p99_ms: ms(percentile(&times, 990)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_percentile_is_exact() {
        let times = Times::of((1..=200).rev().map(Duration::from_millis).collect());
        assert!((times.mean_ms - 100.5).abs() < 1e-9 && (times.p99_ms - 198.0).abs() < 1e-9);
        let one = Times::of(vec![Duration::from_millis(7)]);
        assert!((one.mean_ms - 7.0).abs() < 1e-9 && (one.p99_ms - 7.0).abs() < 1e-9);
    }
}
