//! The table of 2013: files of five sizes over HTTP and HTTPS, by ApacheBench, with a
//! new connection for each and with connections kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Entrant, Experiment, FEW_ROUNDS, Figures, Processors, Scale, Task, layer, unpinned,
    until_it_gives,
};
use crate::load::tools::Ab;
use crate::measure::processor_time;
use crate::results::{Case, Scenario, Side};
use crate::stage::{FILE_SIZES, Stage};
use crate::systems::{
    Apache, Balancer, Conditions, Haproxy, Hitch, Layer, Mode, Nginx, NginxFiles, Node, Running,
    Stack, Terminator, Trouble,
};

const CONCURRENCY: usize = 10;

/// The size of the file that systems are warmed up with.
const WARM_UP: usize = 2_216;

const PLAIN: &str = "plain";
const TLS: &str = "tls";
/// A balancer that does not decrypt, and terminators behind it.
const TWO_TIERS: &str = "tls, two tiers";

pub(super) fn experiments(scale: Scale, processors: &Processors) -> Vec<Experiment> {
    [false, true]
        .map(|keep| Experiment {
            cases: cases(keep, scale.requests),
            entrants: entrants(),
            conditions: unpinned(processors.0.len()),
            rounds: FEW_ROUNDS,
            // Half of them in TLS, which a new connection makes ten times as dear.
            estimate: Duration::from_secs_f64(
                0.5 + scale.requests as f64 / if keep { 1_250.0 } else { 230.0 },
            ),
            task: Task::Files(Table {
                keep,
                requests: scale.requests,
            }),
        })
        .into()
}

fn cases(keep: bool, requests: usize) -> Vec<Case> {
    let how = if keep { "kept" } else { "new" };
    let case = |end: &str, title: String, unit: String, headline: &str| Case {
        id: id(keep, end),
        scenario: Scenario::Files,
        title,
        unit,
        headline: headline.to_owned(),
    };
    let sizes = FILE_SIZES.map(|size| {
        let title = format!("{size} bytes, {how} connection");
        case(&size.to_string(), title, "request".to_owned(), "ms")
    });
    let all = format!("{} requests", requests * FILE_SIZES.len());
    let total = case(
        "total",
        format!("All files, {how} connections"),
        all,
        "cpu_s",
    );
    sizes.into_iter().chain([total]).collect()
}

fn id(keep: bool, end: &str) -> String {
    format!("files-{}-{end}", if keep { "kept" } else { "new" })
}

/// A row for each system that was compared in 2013, and those of today beside them.
fn entrants() -> Vec<Entrant> {
    let mut all = servers(PLAIN, false);
    all.extend(plain());
    all.extend(servers(TLS, true));
    all.extend(secure());
    let elb = "runs only at AWS: nothing here could be measured in the same run";
    all.push(Entrant::absent("aws-elb", "AWS ELB", Side::Peer, TLS, elb));
    all
}

type Part = Arc<dyn Layer>;

/// Who serves files without a proxy.
fn servers(group: &'static str, tls: bool) -> Vec<Entrant> {
    let caching = Node {
        script: "caching.mjs",
        tls,
    };
    let mut all: Vec<(&str, &str, Part)> = if tls {
        let title = "Node.js, caching file server, HTTPS";
        vec![("node-caching-tls", title, layer(caching))]
    } else {
        let express = layer(Node::new("express.mjs"));
        let title = "Node.js, caching file server";
        vec![
            (
                "node-trivial",
                "Node.js, trivial",
                layer(Node::new("trivial.mjs")),
            ),
            ("node-express", "Node.js + Express static", express),
            ("node-caching", title, layer(caching)),
        ]
    };
    let (nginx, apache) = (layer(NginxFiles { tls }), layer(Apache { tls }));
    all.extend(if tls {
        [
            ("nginx-files-tls", "nginx, https", nginx),
            ("apache-files-tls", "Apache, https", apache),
        ]
    } else {
        [
            ("nginx-files", "nginx, http", nginx),
            ("apache-files", "Apache, http", apache),
        ]
    });
    let entrant = |(id, title, part)| {
        Entrant::new(
            id,
            title,
            Side::Baseline,
            group,
            Stack::with_app(vec![part]),
        )
    };
    all.into_iter().map(entrant).collect()
}

/// What stands before the caching file server, without TLS.
fn plain() -> Vec<Entrant> {
    let balancer = layer(Balancer {
        proxy_v2: false,
        early: false,
    });
    let (ours, peer) = (Side::Tidegate, Side::Peer);
    [
        (
            "haproxy-http-node",
            "HAProxy http",
            peer,
            layer(Haproxy::HTTP),
        ),
        ("haproxy-tcp-node", "HAProxy tcp", peer, layer(Haproxy::TCP)),
        (
            "tidegate-balancer-node",
            "Tidegate balancer",
            ours,
            balancer,
        ),
    ]
    .map(|(id, title, side, part)| before_node(id, title, side, PLAIN, vec![part]))
    .into()
}

/// The same with TLS, by one program or by two.
fn secure() -> Vec<Entrant> {
    let (ours, peer) = (Side::Tidegate, Side::Peer);
    let terminator = |behind_balancer| {
        layer(Terminator {
            mode: Mode::Http,
            behind_balancer,
        })
    };
    let nginx = Nginx::HTTP.tls();
    let stud = vec![layer(Haproxy::TCP), layer(Hitch)];
    let both = vec![
        layer(Balancer {
            proxy_v2: true,
            early: true,
        }),
        terminator(true),
    ];
    [
        ("hitch-node", "stud (hitch)", peer, TLS, vec![layer(Hitch)]),
        (
            "haproxy-tls-node",
            "HAProxy TLS",
            peer,
            TLS,
            vec![layer(Haproxy::HTTP.tls())],
        ),
        ("nginx-tls-node", "nginx TLS", peer, TLS, vec![layer(nginx)]),
        (
            "nginx-tls-tuned-node",
            "nginx TLS, tuned",
            peer,
            TLS,
            vec![layer(nginx.tuned())],
        ),
        (
            "tidegate-node",
            "Tidegate terminator",
            ours,
            TLS,
            vec![terminator(false)],
        ),
        (
            "haproxy-hitch-node",
            "HAProxy tcp + stud (hitch)",
            peer,
            TWO_TIERS,
            stud,
        ),
        (
            "tidegate-both-node",
            "Tidegate balancer + terminator",
            ours,
            TWO_TIERS,
            both,
        ),
    ]
    .map(|(id, title, side, group, parts)| before_node(id, title, side, group, parts))
    .into()
}

fn before_node(
    id: &str,
    title: &str,
    side: Side,
    group: &'static str,
    mut parts: Vec<Part>,
) -> Entrant {
    parts.push(layer(Node::new("caching.mjs")));
    let title = format!("{title} → Node");
    Entrant::new(id, &title, side, group, Stack::with_app(parts))
}

/// What is done with a started system.
pub struct Table {
    keep: bool,
    requests: usize,
}

impl Table {
    /// Node.js compiles what it runs often: it must have done so before it is measured.
    async fn warm_up(&self, url: String) -> Result<(), Trouble> {
        let ab = Ab {
            url,
            requests: self.requests * 2,
            concurrency: CONCURRENCY,
            keep: true,
            size: WARM_UP,
        };
        ab.run().await.map(|_| ())
    }

    pub(super) async fn fill(
        &self,
        stage: &Stage,
        running: &Running,
        conditions: Conditions,
    ) -> Result<Figures, Trouble> {
        // ab compares lengths; that the bytes are the right ones is seen here.
        for size in FILE_SIZES {
            until_it_gives(size, stage, running, conditions).await?;
        }
        let scheme = if running.tls { "https" } else { "http" };
        let url = |size: usize| format!("{scheme}://{}/{size}", running.address);
        self.warm_up(url(WARM_UP)).await?;
        let programs = running.programs();
        let before = processor_time(&programs)?;
        let mut found = Figures::new();
        for size in FILE_SIZES {
            let ab = Ab {
                url: url(size),
                requests: self.requests,
                concurrency: CONCURRENCY,
                keep: self.keep,
                size,
            };
            let answered = ab.run().await?;
            let metrics = [("ms", answered.ms), ("rate_per_s", answered.per_s)];
            let metrics = metrics.map(|(name, value)| (name.to_owned(), value));
            found.insert(id(self.keep, &size.to_string()), BTreeMap::from(metrics));
        }
        let after = processor_time(&programs)?;
        let mut total = BTreeMap::new();
        let mut sum = Duration::ZERO;
        for (name, time) in after {
            let used = time.saturating_sub(before.get(name).copied().unwrap_or_default());
            total.insert(format!("cpu_s/{name}"), used.as_secs_f64());
            sum += used;
        }
        total.insert("cpu_s".to_owned(), sum.as_secs_f64());
        found.insert(id(self.keep, "total"), total);
        Ok(found)
    }
}
