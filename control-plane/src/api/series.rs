//! The last hour in numbers, as this control plane has seen it since it started.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::answer::Tagged;
use super::auth::{Caller, Viewer};
use super::extract::Place;
use super::problem::Problem;
use super::resource::Kind;
use super::{Api, agents, states};
use crate::clock;
use crate::series::{Of, STEP};

/// What is known of the last hour.
#[derive(Serialize, ToSchema)]
pub(super) struct Series {
    /// Between two points.
    step_ms: u64,
    /// When the last point was taken; absent where there is none.
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    to: Option<OffsetDateTime>,
    /// By measure; oldest first, all of one length, 720 points at most; `null` where
    /// nothing was known. Rates are a second.
    measures: BTreeMap<&'static str, Vec<Option<f32>>>,
}

/// Of the whole fleet: `live`, `accept_rate` and `byte_rate` where clients enter,
/// `handshake_rate` and `resumed_rate` on all terminators, and `agents`,
/// `agents_connected`, `agents_in_sync`.
#[utoipa::path(
    get,
    path = "/series",
    tag = "fleet",
    responses((status = 200, description = "The last hour", body = Series))
)]
pub(super) async fn of_fleet(_: Caller<Viewer>, State(api): State<Api>) -> Result<Tagged, Problem> {
    answer(&api, &Of::Fleet)
}

/// Of an agent, over all its listeners: `live`, `accept_rate`, `byte_rate`,
/// `handshake_rate`, `resumed_rate`.
#[utoipa::path(
    get,
    path = "/series/agents/{id}",
    tag = "fleet",
    params(("id" = Uuid, Path)),
    responses((status = 200, description = "The last hour", body = Series))
)]
pub(super) async fn of_agent(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Place(id): Place<Uuid>,
) -> Result<Tagged, Problem> {
    agents::known(&api, id).await?;
    answer(&api, &Of::Agent(id))
}

/// Of a listener, on all its agents: `live`, `accept_rate`, `byte_rate`,
/// `handshake_rate`, `resumed_rate`.
#[utoipa::path(
    get,
    path = "/series/listeners/{name}",
    tag = "fleet",
    params(("name" = String, Path)),
    responses((status = 200, description = "The last hour", body = Series))
)]
pub(super) async fn of_listener(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Place(name): Place<String>,
) -> Result<Tagged, Problem> {
    let (_, document) = api.store.document().await?;
    if !document
        .listeners
        .iter()
        .any(|one| one.name.as_str() == name)
    {
        return Err(Kind::Listeners.missing(&document, &name));
    }
    answer(&api, &Of::Listener(name))
}

/// Of a pool, on all agents: `live`, `connect_rate`, `queued`, and how many pairs of an
/// agent and a backend are `up` and `down`.
#[utoipa::path(
    get,
    path = "/series/pools/{name}",
    tag = "fleet",
    params(("name" = String, Path)),
    responses((status = 200, description = "The last hour", body = Series))
)]
pub(super) async fn of_pool(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Place(name): Place<String>,
) -> Result<Tagged, Problem> {
    let (_, document) = api.store.document().await?;
    super::backends::pool(&document, &name)?;
    answer(&api, &Of::Pool(name))
}

/// Of a backend, on all agents: `live`, `connect_rate`, and on how many agents it is
/// `up` and `down`.
#[utoipa::path(
    get,
    path = "/series/pools/{name}/backends/{backend}",
    tag = "fleet",
    params(("name" = String, Path), ("backend" = String, Path)),
    responses((status = 200, description = "The last hour", body = Series))
)]
pub(super) async fn of_backend(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Place((name, backend)): Place<(String, String)>,
) -> Result<Tagged, Problem> {
    let (_, document) = api.store.document().await?;
    let fleet = api.store.fleet().await?;
    states::known(&document, &fleet, &name, &backend)?;
    answer(&api, &Of::Backend(name, backend))
}

fn answer(api: &Api, of: &Of) -> Result<Tagged, Problem> {
    let history = api.series.of(of, clock::now());
    Tagged::of(&Series {
        step_ms: u64::try_from(STEP.as_millis()).unwrap_or(u64::MAX),
        to: history.to,
        measures: history.measures.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidegate_core::document::Role;

    use super::super::testing::{Fixture, get};
    use super::*;

    #[tokio::test]
    async fn each_thing_has_its_last_hour_and_nothing_else_has() {
        let api = Fixture::new().await;
        api.apply(
            "
listeners: [{ name: edge, role: balancer, bind: ':443', pool: p }]
pools: [{ name: p, backends: [{ address: '10.0.0.9:1' }] }]
",
        )
        .await;
        let agent = api.agent(1, &[Role::Balancer], &[]).await;
        let (pool, backend) = ("p".to_owned(), "10.0.0.9:1".to_owned());
        let of = [
            Of::Fleet,
            Of::Agent(agent),
            Of::Listener("edge".to_owned()),
            Of::Pool(pool.clone()),
            Of::Backend(pool, backend),
        ];
        let now = clock::now();
        let point = |of: Of| (of.clone(), vec![2.5; of.measures().len()]);
        for at in [now - 2 * STEP, now] {
            api.series.add(at, of.clone().map(point));
        }
        let agent = format!("/series/agents/{agent}");
        for (path, measures) in [
            ("/series", 8),
            (agent.as_str(), 5),
            ("/series/listeners/edge", 5),
            ("/series/pools/p", 5),
            ("/series/pools/p/backends/10.0.0.9:1", 4),
        ] {
            let series = api.get(path).await;
            assert_eq!(series["step_ms"], 5000);
            assert!(series["to"].is_string());
            assert_eq!(series["measures"].as_object().unwrap().len(), measures);
            assert_eq!(
                series["measures"]["live"],
                json!([2.5, null, 2.5]),
                "{path}"
            );
        }
        for path in [
            "/series/agents/00000000-0000-0000-0000-000000000000",
            "/series/listeners/x",
            "/series/pools/x",
            "/series/pools/p/backends/x",
        ] {
            assert_eq!(api.ask(get(path)).await.problem(), "not-found", "{path}");
        }
    }
}
