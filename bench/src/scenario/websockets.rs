//! WebSockets as in "balancerbattle": thousands at once, each with a handshake and an
//! echo; then all of them open, exchanging messages.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use rustix::process::{Resource, getrlimit};

use super::{
    Entrant, Experiment, Figures, Processors, Scale, Task, figures, layer, unpinned, until_ready,
};
use crate::load::tls;
use crate::load::websocket::Battle;
use crate::measure::processor_time;
use crate::results::{Case, Scenario, Side};
use crate::stage::Stage;
use crate::systems::{
    Balancer, Conditions, Haproxy, Hitch, HttpProxy, Layer, Mode, Nginx, Node, Running, Stack,
    Terminator, Trouble,
};

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
                unit: "connection".to_owned(),
                headline: "total_s".to_owned(),
            };
            let per_second = if tls { 900.0 } else { 2_500.0 };
            let seconds = 1.0 + count as f64 / per_second + scale.messages as f64 / 12_000.0;
            all.push(Experiment {
                task: Box::new(Fight {
                    case: case.id.clone(),
                    count,
                    messages: scale.messages,
                }),
                cases: vec![case],
                entrants: entrants(tls, count),
                conditions: unpinned(processors.0.len()),
                estimate: Duration::from_secs_f64(seconds),
            });
        }
    }
    all
}

fn entrants(tls: bool, count: usize) -> Vec<Entrant> {
    let mut all = if tls { secure() } else { plain() };
    // A proxy has two descriptors for each, and some of its own.
    let needed = count as u64 * 2 + 200;
    if getrlimit(Resource::Nofile)
        .current
        .is_some_and(|limit| limit < needed)
    {
        for entrant in &mut all {
            entrant.stack = Err(format!("needs {needed} descriptors: ulimit -n"));
        }
    }
    all
}

fn echo(tls: bool) -> std::sync::Arc<dyn Layer> {
    layer(Node {
        script: "ws.mjs",
        tls,
    })
}

fn before_echo(parts: Vec<std::sync::Arc<dyn Layer>>) -> Stack {
    Stack::with_app(parts.into_iter().chain([echo(false)]).collect())
}

fn plain() -> Vec<Entrant> {
    let (group, peer) = ("plain", Side::Peer);
    let one = |part| before_echo(vec![part]);
    vec![
        Entrant::new(
            "ws-node",
            "Node.js (ws), direct",
            Side::Baseline,
            group,
            Stack::with_app(vec![echo(false)]),
        ),
        Entrant::new(
            "ws-http-proxy",
            "Node.js http-proxy",
            peer,
            group,
            one(layer(HttpProxy { tls: false })),
        ),
        Entrant::new(
            "ws-nginx",
            "nginx http",
            peer,
            group,
            one(layer(Nginx::HTTP)),
        ),
        Entrant::new(
            "ws-haproxy-http",
            "HAProxy http",
            peer,
            group,
            one(layer(Haproxy::HTTP)),
        ),
        Entrant::new(
            "ws-haproxy-tcp",
            "HAProxy tcp",
            peer,
            group,
            one(layer(Haproxy::TCP)),
        ),
        Entrant::new(
            "ws-tidegate-balancer",
            "Tidegate balancer",
            Side::Tidegate,
            group,
            one(layer(Balancer { proxy_v2: false })),
        ),
    ]
}

fn secure() -> Vec<Entrant> {
    let (group, peer, ours) = ("tls", Side::Peer, Side::Tidegate);
    let one = |part| before_echo(vec![part]);
    let terminator = |behind_balancer| {
        layer(Terminator {
            mode: Mode::Http,
            behind_balancer,
        })
    };
    vec![
        Entrant::new(
            "wss-node",
            "Node.js (ws) with HTTPS, direct",
            Side::Baseline,
            group,
            Stack::with_app(vec![echo(true)]),
        ),
        Entrant::new(
            "wss-http-proxy",
            "Node.js http-proxy with HTTPS",
            peer,
            group,
            one(layer(HttpProxy { tls: true })),
        ),
        Entrant::new(
            "wss-nginx",
            "nginx TLS, http",
            peer,
            group,
            one(layer(Nginx::HTTP.tls())),
        ),
        Entrant::new(
            "wss-haproxy-http",
            "HAProxy TLS, http",
            peer,
            group,
            one(layer(Haproxy::HTTP.tls())),
        ),
        Entrant::new("wss-hitch", "stud (hitch)", peer, group, one(layer(Hitch))),
        Entrant::new(
            "wss-haproxy-hitch",
            "HAProxy tcp + stud (hitch)",
            peer,
            group,
            before_echo(vec![layer(Haproxy::TCP), layer(Hitch)]),
        ),
        Entrant::new(
            "wss-tidegate",
            "Tidegate terminator",
            ours,
            group,
            one(terminator(false)),
        ),
        Entrant::new(
            "wss-tidegate-both",
            "Tidegate balancer + terminator",
            ours,
            group,
            before_echo(vec![layer(Balancer { proxy_v2: true }), terminator(true)]),
        ),
    ]
}

struct Fight {
    case: String,
    count: usize,
    messages: usize,
}

impl Task for Fight {
    fn measure<'a>(
        &'a self,
        stage: &'a Stage,
        running: &'a Running,
        conditions: Conditions,
    ) -> LocalBoxFuture<'a, Result<Figures, Trouble>> {
        self.fight(stage, running, conditions).boxed_local()
    }
}

impl Fight {
    async fn fight(
        &self,
        stage: &Stage,
        running: &Running,
        conditions: Conditions,
    ) -> Result<Figures, Trouble> {
        let leaf = &stage.certificate(conditions.certificate).leaf;
        let battle = |connections, messages| -> Result<Battle, Trouble> {
            let tls = running.tls.then(|| tls::any(leaf)).transpose()?;
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
        let used = processor_time(&programs)?.values().sum::<Duration>() - before;
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
                ("exchange_s", outcome.exchange.as_secs_f64()),
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
        // The smallest that 99 of 100 do not exceed.
        let p99 = times.get((times.len() * 99).div_ceil(100).saturating_sub(1));
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        Self {
            mean_ms: ms(all) / times.len().max(1) as f64,
            p99_ms: ms(p99.copied().unwrap_or_default()),
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
