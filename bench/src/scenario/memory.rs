//! What an idle connection costs in memory: the slope between two numbers of kept
//! connections that have each had an answer, and what stays when all are closed.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep};

use super::lineup::pick;
use super::{
    Experiment, FEW_ROUNDS, Figures, Scale, Task, figures, unpinned, until_it_gives,
    with_descriptors,
};
use crate::load::http::{After, Client};
use crate::load::tls::{Checker, Pins};
use crate::load::wire::Wire;
use crate::measure::{descriptors, memory_kib};
use crate::results::{Case, Scenario};
use crate::stage::Stage;
use crate::systems::{Conditions, Running, Tickets, Trouble};

pub(super) fn experiments(scale: Scale) -> Vec<Experiment> {
    let kinds = [
        ("memory-tcp", "Idle TCP connection", pick(&BALANCERS)),
        ("memory-tls", "Idle TLS connection", pick(&TERMINATORS)),
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
            entrants: with_descriptors(scale.idle.1, entrants),
            conditions: Conditions {
                tickets: Tickets::None,
                ..unpinned(1)
            },
            rounds: FEW_ROUNDS,
            estimate: Duration::from_secs_f64(2.5 + scale.idle.1 as f64 / 1_500.0),
            task: Task::Memory(Slope {
                case: id.to_owned(),
                scale,
            }),
        })
        .into()
}

const BALANCERS: [&str; 3] = ["haproxy-tcp", "nginx-stream", "tidegate-balancer"];

const TERMINATORS: [&str; 7] = [
    "hitch",
    "haproxy-tls-tcp",
    "nginx-tls-stream",
    "tidegate-tcp",
    "haproxy-tls-http",
    "nginx-tls-http",
    "tidegate-http",
];

/// What is done with a started system.
pub struct Slope {
    case: String,
    scale: Scale,
}

impl Slope {
    pub(super) async fn climb(
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
        let tls = running.tls.then(|| Pins::USUAL.client(leaf)).transpose()?;
        let block = stage.block();
        let one = || {
            let tls = tls.clone();
            async move {
                let wire = Wire::connect(running.address, tls.as_ref()).await?;
                let mut client = Client::new(wire, block, 1024);
                client.get(64, After::Keep, &AtomicU64::new(0)).await?;
                Checker::new(Pins::USUAL, Some(0)).check(client.wire())?;
                Ok::<_, Trouble>(client)
            }
        };
        let missing = up_to.saturating_sub(clients.len());
        let mut opening = stream::iter((0..missing).map(|_| one())).buffer_unordered(16);
        while let Some(client) = opening.next().await {
            clients.push(client?);
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
