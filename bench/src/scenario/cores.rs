//! What a unit of work costs: the system on one processor with one worker, who asks
//! and who answers on another one. The figures to tune by.

use std::time::Duration;

use tokio::time::sleep;

use super::lineup::{BALANCERS, TERMINATORS, pick};
use super::{
    Entrant, Experiment, Figures, MANY_ROUNDS, Processors, Scale, Task, figures, pinned,
    until_it_gives,
};
use crate::load::driver::{Kind, Load, Work};
use crate::load::tls::{Group, Pins, Version};
use crate::load::wire::PATIENCE;
use crate::measure::{Machine, processor_time};
use crate::results::{Case, Scenario};
use crate::stage::{CertificateKind, Stage};
use crate::systems::{Conditions, Running, Tickets, Trouble};

pub(super) fn experiments(scale: Scale, processors: &Processors) -> Vec<Experiment> {
    let l4 = [
        ("tcp-short", "Short TCP connection", Kind::Short),
        ("tcp-messages", "Small message over TCP", Kind::Messages),
        ("tcp-bulk", "Bulk over TCP", Kind::Bulk),
    ];
    let l4 = l4.map(|(id, title, kind)| Plan {
        id: id.to_owned(),
        title: title.to_owned(),
        kind,
        pins: None,
        entrants: pick(&BALANCERS),
    });
    let all = l4.into_iter().chain(handshakes()).chain(streams());
    all.map(|plan| plan.experiment(scale, processors)).collect()
}

struct Plan {
    id: String,
    title: String,
    kind: Kind,
    pins: Option<Pins>,
    entrants: Vec<Entrant>,
}

impl Plan {
    fn experiment(mut self, scale: Scale, processors: &Processors) -> Experiment {
        let unit = match self.kind {
            Kind::Short if self.pins.is_some() => "handshake",
            Kind::Short => "connection",
            Kind::Messages => "message",
            Kind::Bulk => "GiB",
        };
        let conditions = Conditions {
            certificate: self
                .pins
                .map_or(CertificateKind::P256, |pins| pins.certificate),
            tickets: match self.pins {
                Some(pins) if pins.resume => Tickets::One,
                Some(_) => Tickets::None,
                None => Tickets::Default,
            },
            ..pinned(processors, &mut self.entrants)
        };
        let case = Case {
            id: self.id.clone(),
            scenario: Scenario::Cores,
            title: self.title,
            unit: unit.to_owned(),
            headline: "cpu_us".to_owned(),
        };
        Experiment {
            cases: vec![case],
            entrants: self.entrants,
            conditions,
            rounds: MANY_ROUNDS,
            estimate: scale.warm_up + scale.window + Duration::from_millis(300),
            task: Task::Cores(Cost {
                case: self.id,
                kind: self.kind,
                pins: self.pins,
                scale,
            }),
        }
    }
}

/// What matters to streams alone: buffers of other sizes.
const STREAMS_ONLY: [&str; 3] = [
    "haproxy-tls-tcp-tuned",
    "nginx-tls-stream-tuned",
    "haproxy-tls-http-tuned",
];

const VERSIONS: [(Version, &str, &str); 2] = [
    (Version::Tls13, "tls13", "TLS 1.3"),
    (Version::Tls12, "tls12", "TLS 1.2"),
];

const CERTIFICATES: [(CertificateKind, &str, &str); 2] = [
    (CertificateKind::P256, "p256", "P-256"),
    (CertificateKind::Rsa2048, "rsa", "RSA-2048"),
];

fn handshakes() -> Vec<Plan> {
    let shakers: Vec<&str> = TERMINATORS
        .into_iter()
        .filter(|id| !STREAMS_ONLY.contains(id))
        .collect();
    let mut plans = Vec::new();
    for (version, version_id, version_title) in VERSIONS {
        for (certificate, certificate_id, certificate_title) in CERTIFICATES {
            let mut add = |group, resume, id: &str, title: &str| {
                plans.push(Plan {
                    id: format!("{version_id}-{certificate_id}-{id}"),
                    title: format!("{version_title}, {certificate_title}, {title}"),
                    kind: Kind::Short,
                    pins: Some(Pins {
                        version,
                        certificate,
                        group,
                        resume,
                    }),
                    entrants: pick(&shakers),
                });
            };
            add(Group::X25519, false, "full", "full handshake");
            add(Group::X25519, true, "resumed", "resumed handshake");
            if version == Version::Tls13 {
                add(
                    Group::Hybrid,
                    false,
                    "hybrid",
                    "full handshake with X25519MLKEM768",
                );
            }
        }
    }
    plans
}

/// Established connections: the certificate plays no part.
fn streams() -> Vec<Plan> {
    let mut plans = Vec::new();
    for (version, id, title) in VERSIONS {
        for (kind, kind_id, what) in [
            (Kind::Messages, "messages", "small message"),
            (Kind::Bulk, "bulk", "bulk"),
        ] {
            let certificate = CertificateKind::P256;
            plans.push(Plan {
                id: format!("{id}-{kind_id}"),
                title: format!("{title}, {what}"),
                kind,
                pins: Some(Pins {
                    version,
                    certificate,
                    group: Group::X25519,
                    resume: false,
                }),
                entrants: pick(&TERMINATORS),
            });
        }
    }
    plans
}

/// What is done with a started system.
pub struct Cost {
    case: String,
    kind: Kind,
    pins: Option<Pins>,
    scale: Scale,
}

impl Cost {
    /// Of bytes as they come.
    pub(super) fn of_tcp(case: &str, kind: Kind, scale: Scale) -> Self {
        Self {
            case: case.to_owned(),
            kind,
            pins: None,
            scale,
        }
    }

    pub(super) async fn watch(
        &self,
        stage: &Stage,
        running: &Running,
        conditions: Conditions,
    ) -> Result<Figures, Trouble> {
        until_it_gives(64, stage, running, conditions).await?;
        let leaf = stage.certificate(conditions.certificate).leaf.clone();
        let work = Work {
            address: running.address,
            kind: self.kind,
            tls: self.pins.map(|pins| (pins, conditions.tickets, leaf)),
            block: stage.block(),
        };
        let programs = running.programs();
        let load = Load::start(work, conditions.load_processor)?;
        sleep(self.scale.warm_up).await;

        let (before, units) = (processor_time(&programs)?, load.units());
        let machine = Machine::from_now()?;
        let began = std::time::Instant::now();
        sleep(self.scale.window).await;
        // A busy machine, and a window for a smoke run: one answer at least.
        while load.units() == units && !load.has_stopped() && began.elapsed() < PATIENCE {
            sleep(self.scale.window).await;
        }
        let (after, done) = (processor_time(&programs)?, load.units() - units);
        let (busy, seconds) = (machine.busy()?, began.elapsed().as_secs_f64());
        load.stop()?;

        if done == 0 {
            return Err(Trouble::broken("not one answer in the time it was watched"));
        }
        let units = match self.kind {
            Kind::Short | Kind::Messages => done as f64,
            Kind::Bulk => done as f64 / f64::from(1 << 30),
        };
        let used: Duration = after.values().sum();
        let used = used.saturating_sub(before.values().sum());
        let mut found = figures(
            &self.case,
            [
                ("machine_us", busy.as_secs_f64() * 1e6 / units),
                ("rate_per_s", units / seconds),
            ],
        );
        // Nobody in between costs nobody anything.
        if let (false, Some(metrics)) = (programs.is_empty(), found.get_mut(&self.case)) {
            metrics.insert("cpu_us".to_owned(), used.as_secs_f64() * 1e6 / units);
            // Who was the bottleneck: a core that waits has cheaper wake-ups to make.
            let percent = |time: Duration| time.as_secs_f64() / seconds * 100.0;
            metrics.insert("core_percent".to_owned(), percent(used));
            metrics.insert(
                "load_percent".to_owned(),
                percent(busy.saturating_sub(used)),
            );
        }
        Ok(found)
    }
}
