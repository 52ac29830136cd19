//! How fast the live connections of a backend that takes nothing new are closed,
//! as the API reads and shows it, and how many there still are. What drains is
//! said in `states`; agents do the closing.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use tidegate_core::document::{AdminState, Bounded, Mistake, Timeout};
use tidegate_core::plan;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::model::Pacing;
use crate::store::LiveTo;

/// How fast live connections are to be closed: one of the two.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping with one of per_second and within"
)]
pub(super) struct PaceRequest {
    /// So many in each second, on each agent.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    per_second: Option<Bounded<1, 1_000_000>>,
    /// All of them, spread over this time from now on; then none is left.
    #[schema(value_type = Option<String>, example = "10m")]
    within: Option<Timeout>,
}

impl PaceRequest {
    /// The pace for a backend in `state`.
    ///
    /// # Errors
    /// When it says nothing, two things, or what does not go with the state.
    pub(super) fn read(self, state: AdminState) -> Result<Pacing, Vec<Mistake>> {
        let mistake = |why: &str| vec![Mistake::new("/pace", why)];
        if state.takes_connections() {
            return Err(mistake(
                "a backend that is ready keeps its connections: pace goes with drain and \
                 maintenance",
            ));
        }
        match (self.per_second, self.within) {
            (Some(rate), None) => match NonZeroU32::new(rate.get()) {
                Some(rate) => Ok(Pacing::PerSecond(rate)),
                None => Err(mistake("per_second is at least 1")),
            },
            (None, Some(time)) => Ok(Pacing::Within(time)),
            _ => Err(mistake("write one of per_second and within")),
        }
    }
}

/// How fast live connections are closed.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(super) struct Pace {
    /// So many in each second, on each agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    per_second: Option<u32>,
    /// Or all of them, spread over the time from `since`, when it was said,
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    since: Option<OffsetDateTime>,
    /// to `until`, when none is left.
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    until: Option<OffsetDateTime>,
}

impl From<plan::Pace> for Pace {
    fn from(pace: plan::Pace) -> Self {
        match pace {
            plan::Pace::PerSecond(rate) => Self {
                per_second: Some(rate.get()),
                since: None,
                until: None,
            },
            plan::Pace::Within { since, within } => {
                let nanos = i128::from(since) * 1_000_000;
                let since = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
                Self {
                    per_second: None,
                    since,
                    until: since.map(|since| since + within.duration()),
                }
            }
        }
    }
}

/// Whether saying `wanted` again would change nothing. What ends begins anew each
/// time it is said.
pub(super) fn is_so(pace: Option<plan::Pace>, wanted: Option<Pacing>) -> bool {
    match (pace, wanted) {
        (None, None) => true,
        (Some(plan::Pace::PerSecond(rate)), Some(Pacing::PerSecond(wanted))) => rate == wanted,
        _ => false,
    }
}

/// How many connections to a backend there still are.
#[derive(Serialize, ToSchema)]
pub(super) struct Remaining {
    /// What all agents said last, together, also those that say nothing any more.
    connections: u64,
    /// When the oldest of that was said; absent while no agent has said anything.
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    oldest_at: Option<OffsetDateTime>,
    /// What each of them said.
    agents: Vec<RemainingOnAgent>,
}

/// How many connections an agent still has to a backend.
#[derive(Serialize, ToSchema)]
pub(super) struct RemainingOnAgent {
    agent: Uuid,
    connections: u64,
    /// When it said so.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// Reports have stopped: this says nothing about now.
    stale: bool,
}

impl From<Vec<LiveTo>> for Remaining {
    fn from(seen: Vec<LiveTo>) -> Self {
        let connections = seen.iter().map(|seen| seen.connections);
        Self {
            connections: connections.fold(0, u64::saturating_add),
            oldest_at: seen.iter().map(|seen| seen.at).min(),
            agents: seen
                .into_iter()
                .map(|seen| RemainingOnAgent {
                    agent: seen.agent,
                    connections: seen.connections,
                    at: seen.at,
                    stale: seen.stale,
                })
                .collect(),
        }
    }
}
