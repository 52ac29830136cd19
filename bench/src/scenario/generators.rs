//! The same questions as in `cores` about small messages, asked by wrk and h2load:
//! do they see what our own load generator sees?

use std::time::{Duration, Instant};

use super::lineup::pick;
use super::{
    Entrant, Experiment, Figures, MANY_ROUNDS, Processors, Scale, Task, figures, pinned,
    until_it_gives,
};
use crate::load::driver::Kind;
use crate::load::tools::{h2load, wrk};
use crate::measure::{Machine, processor_time};
use crate::results::{Case, Scenario};
use crate::stage::Stage;
use crate::systems::{Conditions, Running, Tickets, Trouble};

pub(super) fn experiments(scale: Scale, processors: &Processors) -> Vec<Experiment> {
    let seconds = scale.window.as_secs() + 1;
    let kinds = [
        (
            "generators-wrk",
            "Small message over TCP, by wrk",
            pick(&BALANCERS),
        ),
        (
            "generators-h2load",
            "Small message in TLS, by h2load",
            pick(&TERMINATORS),
        ),
    ];
    let experiment = |(id, title, mut entrants): (&str, &str, Vec<Entrant>)| {
        let conditions = Conditions {
            tickets: Tickets::None,
            ..pinned(processors, &mut entrants)
        };
        let case = Case {
            id: id.to_owned(),
            scenario: Scenario::Generators,
            title: title.to_owned(),
            unit: "message".to_owned(),
            headline: "cpu_us".to_owned(),
        };
        Experiment {
            task: Task::Generators(Asked {
                case: case.id.clone(),
                seconds,
            }),
            cases: vec![case],
            entrants,
            conditions,
            rounds: MANY_ROUNDS,
            estimate: Duration::from_secs(seconds + 1),
        }
    };
    kinds.into_iter().map(experiment).collect()
}

const BALANCERS: [&str; 3] = ["haproxy-tcp", "nginx-stream", "tidegate-balancer"];

const TERMINATORS: [&str; 3] = ["haproxy-tls-http", "nginx-tls-http-tuned", "tidegate-http"];

/// What is done with a started system.
pub struct Asked {
    case: String,
    seconds: u64,
}

impl Asked {
    pub(super) async fn ask(
        &self,
        stage: &Stage,
        running: &Running,
        conditions: Conditions,
    ) -> Result<Figures, Trouble> {
        until_it_gives(64, stage, running, conditions).await?;
        let programs = running.programs();
        let processor = conditions.load_processor.unwrap_or(0);
        let connections = Kind::Messages.connections();
        let before: Duration = processor_time(&programs)?.values().sum();
        let began = Instant::now();
        let machine = Machine::from_now()?;
        let answers = if running.tls {
            h2load(running.address, processor, connections, self.seconds).await?
        } else {
            wrk(running.address, processor, connections, self.seconds).await?
        };
        let used: Duration = processor_time(&programs)?.values().sum();
        let used = used.saturating_sub(before);
        let (busy, seconds) = (machine.busy()?, began.elapsed().as_secs_f64());
        let percent = |time: Duration| time.as_secs_f64() / seconds * 100.0;
        let units = answers.max(1) as f64;
        Ok(figures(
            &self.case,
            [
                ("cpu_us", used.as_secs_f64() * 1e6 / units),
                ("machine_us", busy.as_secs_f64() * 1e6 / units),
                ("core_percent", percent(used)),
                ("load_percent", percent(busy.saturating_sub(used))),
            ],
        ))
    }
}
