//! The table of 2013: files of five sizes over HTTP and HTTPS, by ApacheBench, with a
//! new connection for each and with connections kept.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{
    Entrant, Experiment, Figures, Processors, Scale, Task, layer, unpinned, until_it_gives,
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

pub(super) fn experiments(scale: Scale, processors: &Processors) -> Vec<Experiment> {
    [false, true]
        .map(|keep| Experiment {
            cases: cases(keep),
            entrants: entrants(),
            conditions: unpinned(processors.0.len()),
            estimate: Duration::from_secs_f64(0.5 + scale.requests as f64 / 500.0),
            task: Box::new(Table {
                keep,
                requests: scale.requests,
            }),
        })
        .into()
}

fn cases(keep: bool) -> Vec<Case> {
    let how = if keep {
        "connections kept"
    } else {
        "a new connection each"
    };
    let case = |end: &str, title: String, headline: &str| Case {
        id: id(keep, end),
        scenario: Scenario::Files,
        title,
        unit: "request".to_owned(),
        headline: headline.to_owned(),
    };
    let sizes = FILE_SIZES.map(|size| {
        case(
            &size.to_string(),
            format!("File of {size} bytes, {how}"),
            "ms",
        )
    });
    let total = case(
        "total",
        format!("Processor time of all requests, {how}"),
        "cpu_s",
    );
    sizes.into_iter().chain([total]).collect()
}

fn id(keep: bool, end: &str) -> String {
    format!("files-{}-{end}", if keep { "kept" } else { "new" })
}

/// A row for each system that was compared in 2013, and those of today beside them.
fn entrants() -> Vec<Entrant> {
    let (plain, tls) = ("plain", "tls");
    let (base, peer, ours) = (Side::Baseline, Side::Peer, Side::Tidegate);
    let app = |part: std::sync::Arc<dyn Layer>| Stack::with_app(vec![part]);
    let caching = || layer(Node::new("caching.mjs"));
    let node = |parts: Vec<std::sync::Arc<dyn Layer>>| {
        Stack::with_app(parts.into_iter().chain([caching()]).collect())
    };
    let secure = Node {
        script: "caching.mjs",
        tls: true,
    };
    let terminator = |behind_balancer| {
        layer(Terminator {
            mode: Mode::Http,
            behind_balancer,
        })
    };
    vec![
        Entrant::new(
            "node-trivial",
            "Node.js, trivial",
            base,
            plain,
            app(layer(Node::new("trivial.mjs"))),
        ),
        Entrant::new(
            "node-express",
            "Node.js + Express static",
            base,
            plain,
            app(layer(Node::new("express.mjs"))),
        ),
        Entrant::new(
            "node-caching",
            "Node.js, caching file server",
            base,
            plain,
            app(caching()),
        ),
        Entrant::new(
            "nginx-files",
            "nginx, http",
            base,
            plain,
            app(layer(NginxFiles { tls: false })),
        ),
        Entrant::new(
            "apache-files",
            "Apache, http",
            base,
            plain,
            app(layer(Apache { tls: false })),
        ),
        Entrant::new(
            "haproxy-http-node",
            "HAProxy http → Node.js",
            peer,
            plain,
            node(vec![layer(Haproxy::HTTP)]),
        ),
        Entrant::new(
            "haproxy-tcp-node",
            "HAProxy tcp → Node.js",
            peer,
            plain,
            node(vec![layer(Haproxy::TCP)]),
        ),
        Entrant::new(
            "tidegate-balancer-node",
            "Tidegate balancer → Node.js",
            ours,
            plain,
            node(vec![layer(Balancer { proxy_v2: false })]),
        ),
        Entrant::new(
            "node-caching-tls",
            "Node.js, caching file server, HTTPS",
            base,
            tls,
            app(layer(secure)),
        ),
        Entrant::new(
            "nginx-files-tls",
            "nginx, https",
            base,
            tls,
            app(layer(NginxFiles { tls: true })),
        ),
        Entrant::new(
            "apache-files-tls",
            "Apache, https",
            base,
            tls,
            app(layer(Apache { tls: true })),
        ),
        Entrant::new(
            "hitch-node",
            "stud (hitch) → Node.js",
            peer,
            tls,
            node(vec![layer(Hitch)]),
        ),
        Entrant::new(
            "haproxy-hitch-node",
            "HAProxy tcp + stud (hitch) → Node.js",
            peer,
            tls,
            node(vec![layer(Haproxy::TCP), layer(Hitch)]),
        ),
        Entrant::new(
            "haproxy-tls-node",
            "HAProxy TLS → Node.js",
            peer,
            tls,
            node(vec![layer(Haproxy::HTTP.tls())]),
        ),
        Entrant::new(
            "nginx-tls-node",
            "nginx TLS → Node.js",
            peer,
            tls,
            node(vec![layer(Nginx::HTTP.tls())]),
        ),
        Entrant::new(
            "tidegate-node",
            "Tidegate terminator → Node.js",
            ours,
            tls,
            node(vec![terminator(false)]),
        ),
        Entrant::new(
            "tidegate-both-node",
            "Tidegate balancer + terminator → Node.js",
            ours,
            tls,
            node(vec![layer(Balancer { proxy_v2: true }), terminator(true)]),
        ),
        Entrant::absent(
            "aws-elb",
            "AWS ELB",
            peer,
            tls,
            "runs only at AWS: nothing here could be measured in the same run",
        ),
    ]
}

struct Table {
    keep: bool,
    requests: usize,
}

impl Task for Table {
    fn measure<'a>(
        &'a self,
        stage: &'a Stage,
        running: &'a Running,
        conditions: Conditions,
    ) -> LocalBoxFuture<'a, Result<Figures, Trouble>> {
        self.fill(stage, running, conditions).boxed_local()
    }
}

impl Table {
    async fn fill(
        &self,
        stage: &Stage,
        running: &Running,
        conditions: Conditions,
    ) -> Result<Figures, Trouble> {
        // ab compares lengths; that the bytes are the right ones is seen here.
        for size in FILE_SIZES {
            until_it_gives(size, stage, running, conditions).await?;
        }
        let programs = running.programs();
        let before = processor_time(&programs)?;
        let mut found = Figures::new();
        let scheme = if running.tls { "https" } else { "http" };
        for size in FILE_SIZES {
            let ab = Ab {
                url: format!("{scheme}://{}/{size}", running.address),
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
