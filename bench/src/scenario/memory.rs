//! What an idle connection costs in memory: the slope between two numbers of kept
//! connections that have each had an answer, and what stays when all are closed.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::sync::atomic::AtomicU64;
use tokio::time::{Instant, sleep};

use super::{Entrant, Experiment, Figures, Scale, Task, figures, layer, unpinned, until_it_gives};
use crate::load::http::{After, Client};
use crate::load::tls;
use crate::load::wire::Wire;
use crate::measure::{descriptors, memory_kib};
use crate::results::{Case, Scenario, Side};
use crate::stage::Stage;
use crate::systems::{
    Balancer, Conditions, Haproxy, Hitch, Layer, Mode, Nginx, Running, Stack, Terminator, Trouble,
};

pub(super) fn experiments(scale: Scale) -> Vec<Experiment> {
    let kinds = [
        ("memory-tcp", "Idle TCP connection", balancers()),
        ("memory-tls", "Idle TLS connection", terminators()),
    ];
    kinds
        .map(|(id, title, entrants)| Experiment {
            cases: vec![Case {
                id: id.to_owned(),
                scenario: Scenario::Memory,
                title: title.to_owned(),
                unit: "connection".to_owned(),
                headline: "connection_kib".to_owned(),
            }],
            entrants,
            conditions: unpinned(1),
            estimate: Duration::from_secs_f64(2.5 + scale.idle.1 as f64 / 1_000.0),
            task: Box::new(Slope {
                case: id.to_owned(),
                scale,
            }),
        })
        .into()
}

fn one(part: impl Layer + 'static) -> Stack {
    Stack::before_backend(vec![layer(part)])
}

fn balancers() -> Vec<Entrant> {
    let tcp = "tcp";
    vec![
        Entrant::new(
            "haproxy-tcp",
            "HAProxy tcp",
            Side::Peer,
            tcp,
            one(Haproxy::TCP),
        ),
        Entrant::new(
            "nginx-stream",
            "nginx stream",
            Side::Peer,
            tcp,
            one(Nginx::STREAM),
        ),
        Entrant::new(
            "tidegate-balancer",
            "Tidegate balancer",
            Side::Tidegate,
            tcp,
            one(Balancer { proxy_v2: false }),
        ),
    ]
}

fn terminators() -> Vec<Entrant> {
    let (tcp, http, peer) = ("tcp", "http", Side::Peer);
    let ours = |mode| {
        one(Terminator {
            mode,
            behind_balancer: false,
        })
    };
    vec![
        Entrant::new("hitch", "hitch", peer, tcp, one(Hitch)),
        Entrant::new(
            "haproxy-tls-tcp",
            "HAProxy TLS, tcp",
            peer,
            tcp,
            one(Haproxy::TCP.tls()),
        ),
        Entrant::new(
            "nginx-tls-stream",
            "nginx TLS, stream",
            peer,
            tcp,
            one(Nginx::STREAM.tls()),
        ),
        Entrant::new(
            "tidegate-tcp",
            "Tidegate terminator, tcp",
            Side::Tidegate,
            tcp,
            ours(Mode::Tcp),
        ),
        Entrant::new(
            "haproxy-tls-http",
            "HAProxy TLS, http",
            peer,
            http,
            one(Haproxy::HTTP.tls()),
        ),
        Entrant::new(
            "nginx-tls-http",
            "nginx TLS, http",
            peer,
            http,
            one(Nginx::HTTP.tls()),
        ),
        Entrant::new(
            "tidegate-http",
            "Tidegate terminator, http",
            Side::Tidegate,
            http,
            ours(Mode::Http),
        ),
    ]
}

struct Slope {
    case: String,
    scale: Scale,
}

impl Task for Slope {
    fn measure<'a>(
        &'a self,
        stage: &'a Stage,
        running: &'a Running,
        conditions: Conditions,
    ) -> LocalBoxFuture<'a, Result<Figures, Trouble>> {
        self.climb(stage, running, conditions).boxed_local()
    }
}

impl Slope {
    async fn climb(
        &self,
        stage: &Stage,
        running: &Running,
        conditions: Conditions,
    ) -> Result<Figures, Trouble> {
        until_it_gives(64, stage, running, conditions).await?;
        let (base, at_rest) = (self.settled(running).await?, descriptors(running.pids())?);
        let (few, many) = self.scale.idle;
        let mut clients = Vec::with_capacity(many);
        self.open(few, &mut clients, stage, running, conditions)
            .await?;
        let low = self.settled(running).await?;
        self.open(many, &mut clients, stage, running, conditions)
            .await?;
        let high = self.settled(running).await?;
        drop(clients);
        until_closed(running, at_rest).await?;
        let left = self.settled(running).await?;
        let slope = (high as f64 - low as f64) / (many - few) as f64;
        Ok(figures(
            &self.case,
            [
                ("connection_kib", slope),
                ("base_kib", base as f64),
                ("left_kib", left as f64 - base as f64),
            ],
        ))
    }

    /// Memory when nothing has happened for a while.
    async fn settled(&self, running: &Running) -> Result<u64, Trouble> {
        sleep(self.scale.settle).await;
        memory_kib(running.pids()).map_err(|error| {
            Trouble::Absent(format!("memory of its processes: {error}; it takes root"))
        })
    }

    async fn open(
        &self,
        up_to: usize,
        clients: &mut Vec<Client>,
        stage: &Stage,
        running: &Running,
        conditions: Conditions,
    ) -> Result<(), Trouble> {
        let leaf = &stage.certificate(conditions.certificate).leaf;
        let tls = running.tls.then(|| tls::any(leaf)).transpose()?;
        let count = AtomicU64::new(0);
        while clients.len() < up_to {
            let wire = Wire::connect(running.address, tls.as_ref()).await?;
            let mut client = Client::new(wire, stage.block(), 1024);
            client.get(64, After::Keep, &count).await?;
            clients.push(client);
        }
        Ok(())
    }
}

async fn until_closed(running: &Running, at_rest: usize) -> Result<(), Trouble> {
    let deadline = Instant::now() + Duration::from_secs(10);
    // Some keep a few connections to the app: those are not the clients'.
    while descriptors(running.pids())? > at_rest + 64 {
        if Instant::now() > deadline {
            return Err(Trouble::broken(
                "keeps connections that its clients have closed",
            ));
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
