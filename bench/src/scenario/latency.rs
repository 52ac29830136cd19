//! How long an answer takes at half load: every system is asked at one rate, half of
//! what the slowest of them reached in this run when nothing paced it. Faster ones have
//! more to spare than half, as they would in its place.

use std::time::Duration;

use super::cores::Cost;
use super::lineup::{BALANCERS, pick};
use super::{
    Entrant, Experiment, Figures, MANY_ROUNDS, Processors, Scale, Task, figures, pinned,
    until_it_gives,
};
use crate::load::driver::Kind;
use crate::load::http::After;
use crate::load::pace::Pace;
use crate::measure::{percentile, processor_time};
use crate::results::{Case, Scenario};
use crate::stage::Stage;
use crate::systems::{Conditions, Running, Trouble};

pub(super) fn experiments(scale: Scale, processors: &Processors) -> Vec<Experiment> {
    [
        ("latency-messages", "Small message over TCP", Kind::Messages),
        ("latency-short", "Short TCP connection", Kind::Short),
    ]
    .map(|(id, title, kind)| {
        let mut entrants = entrants();
        let conditions = pinned(processors, &mut entrants);
        let case = Case {
            id: id.to_owned(),
            scenario: Scenario::Latency,
            title: title.to_owned(),
            unit: unit(kind).to_owned(),
            headline: "p99_us".to_owned(),
        };
        Experiment {
            task: Task::Latency(Latency {
                case: case.id.clone(),
                kind,
                scale,
                unpaced: Cost::of_tcp(id, kind, scale),
            }),
            cases: vec![case],
            entrants,
            conditions,
            rounds: MANY_ROUNDS,
            estimate: scale.warm_up + scale.paced + Duration::from_millis(300),
        }
    })
    .into()
}

/// Buffers of other sizes and splice(2) play no part in 64 bytes.
fn entrants() -> Vec<Entrant> {
    let small = |id: &&str| !id.ends_with("-splice") && !id.ends_with("-tuned");
    pick(&BALANCERS.into_iter().filter(small).collect::<Vec<_>>())
}

fn unit(kind: Kind) -> &'static str {
    match kind {
        Kind::Short => "connection",
        Kind::Messages | Kind::Bulk => "message",
    }
}

/// What is done with a started system.
pub struct Latency {
    case: String,
    kind: Kind,
    scale: Scale,
    unpaced: Cost,
}

/// What share of the slowest system's rate is asked of all.
const LOAD: f64 = 0.5;

/// For new connections more than ever are under way unless a system stalls: what is due
/// then should wait for the system, and not for one of ours.
const CONNECTIONS: usize = 256;

/// One answer at least, however short the time.
const FEWEST: u32 = 50;

impl Latency {
    /// What the system reaches when nothing paces it, in units per second.
    pub(super) async fn rehearse(
        &self,
        stage: &Stage,
        running: &Running,
        conditions: Conditions,
    ) -> Result<f64, Trouble> {
        let found = self.unpaced.watch(stage, running, conditions).await?;
        let rate = found.values().find_map(|metrics| metrics.get("rate_per_s"));
        rate.copied()
            .ok_or_else(|| Trouble::broken("a closed loop without a rate"))
    }

    /// Asks at its share of the `slowest` rate.
    pub(super) async fn time(
        &self,
        stage: &Stage,
        running: &Running,
        conditions: Conditions,
        slowest: f64,
    ) -> Result<Figures, Trouble> {
        until_it_gives(64, stage, running, conditions).await?;
        let rate = slowest * LOAD;
        let pace = self.pace(stage, running, rate)?;
        let programs = running.programs();
        let before: Duration = processor_time(&programs)?.values().sum();
        let began = std::time::Instant::now();
        let mut times = pace.keep(conditions.load_processor).await?;
        let seconds = began.elapsed().as_secs_f64();
        let used: Duration = processor_time(&programs)?.values().sum();

        times.sort_unstable();
        let us = |per_mille| percentile(&times, per_mille).as_secs_f64() * 1e6;
        let mut found = figures(
            &self.case,
            [
                ("p50_us", us(500)),
                ("p99_us", us(990)),
                ("p999_us", us(999)),
                ("asked_per_s", rate),
            ],
        );
        if let (false, Some(metrics)) = (programs.is_empty(), found.get_mut(&self.case)) {
            let used = used.saturating_sub(before).as_secs_f64();
            metrics.insert("core_percent".to_owned(), used / seconds * 100.0);
        }
        Ok(found)
    }

    fn pace(&self, stage: &Stage, running: &Running, rate: f64) -> Result<Pace, Trouble> {
        let gap = Duration::try_from_secs_f64(1.0 / rate).map_err(Trouble::broken)?;
        let in_time = |time: Duration| {
            u32::try_from(time.as_nanos() / gap.as_nanos().max(1)).map_err(Trouble::broken)
        };
        let (after, connections) = match self.kind {
            Kind::Short => (After::Close, CONNECTIONS),
            Kind::Messages | Kind::Bulk => (After::Keep, self.kind.connections()),
        };
        Ok(Pace {
            address: running.address,
            after,
            connections,
            gap,
            unheeded: in_time(self.scale.warm_up)?,
            requests: in_time(self.scale.paced)?.max(FEWEST),
            size: 64,
            block: stage.block(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_peers_of_both_groups_are_timed_in_both_cases() {
        let all = experiments(Scale::SMOKE, &Processors(vec![0, 1]));
        let ids: Vec<_> = all
            .iter()
            .flat_map(|e| &e.cases)
            .map(|c| c.id.as_str())
            .collect();
        assert_eq!(ids, ["latency-messages", "latency-short"]);
        for experiment in &all {
            let has = |id: &str| experiment.entrants.iter().any(|e| e.system.id == id);
            for id in [
                "tidegate-balancer",
                "tidegate-balancer-proxy",
                "nginx-stream",
                "haproxy-tcp-early",
                "haproxy-tcp-proxy",
            ] {
                assert!(has(id), "{id}");
            }
            assert!(experiment.rehearses());
        }
    }
}
