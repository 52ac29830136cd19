//! Pools, one by one. How such a write works is in `resource`.

use axum::extract::State;
use axum::response::Response;
use serde_json::Value;

use super::Api;
use super::answer::{Committed, Items, Tagged};
use super::auth::{Caller, Operator, Viewer};
use super::etag::{IfMatch, Precondition};
use super::extract::{Asked, Json, Place};
use super::problem::Problem;
use super::resource::{self, Kind};
use super::wait::WriteQuery;
use super::{backends, schema};
use crate::store::PoolSeen;

/// All pools.
#[utoipa::path(
    get,
    path = "/pools",
    tag = "document",
    responses((status = 200, description = "In the document's order", body = Items<schema::Pool>))
)]
pub(super) async fn list_pools(
    _: Caller<Viewer>,
    State(api): State<Api>,
) -> Result<Tagged, Problem> {
    let (_, document) = api.store.document().await?;
    Tagged::list(&document.pools)
}

/// One pool.
#[utoipa::path(
    get,
    path = "/pools/{name}",
    tag = "document",
    params(("name" = String, Path)),
    responses((status = 200, description = "As in the document", body = schema::Pool))
)]
pub(super) async fn read_pool(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Place(name): Place<String>,
) -> Result<Tagged, Problem> {
    resource::read(&api.store, Kind::Pools, &name).await
}

/// A pool as agents see it. Its backends are in `/pools/{name}/backends`.
#[utoipa::path(
    get,
    path = "/pools/{name}/agents",
    tag = "fleet",
    params(("name" = String, Path)),
    responses((status = 200, description = "Each agent that has it", body = Items<PoolSeen>))
)]
pub(super) async fn list_pool_agents(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Place(name): Place<String>,
) -> Result<Tagged, Problem> {
    let (_, document) = api.store.document().await?;
    backends::pool(&document, &name)?;
    let seen = api.store.pool_seen(&name, api.fresh_since()).await?;
    Tagged::list(seen)
}

/// Replaces a pool, or adds it. The name may be left out of the body.
#[utoipa::path(
    put,
    path = "/pools/{name}",
    tag = "document",
    params(("name" = String, Path), WriteQuery, Precondition),
    request_body = schema::Pool,
    responses((status = 200, description = "What changed", body = Committed))
)]
pub(super) async fn put_pool(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place(name): Place<String>,
    Asked(query): Asked<WriteQuery>,
    if_match: IfMatch,
    Json(body): Json<Value>,
) -> Result<Response, Problem> {
    let end = query.end()?;
    let (store, kind) = (&api.store, Kind::Pools);
    let written = resource::put(store, &caller.author, kind, &name, &if_match, end, body).await?;
    written.answer(store, end.patience()).await
}

/// Takes a pool out of the document.
#[utoipa::path(
    delete,
    path = "/pools/{name}",
    tag = "document",
    params(("name" = String, Path), WriteQuery, Precondition),
    responses((status = 200, description = "What changed", body = Committed))
)]
pub(super) async fn delete_pool(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place(name): Place<String>,
    Asked(query): Asked<WriteQuery>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let end = query.end()?;
    let (store, kind) = (&api.store, Kind::Pools);
    let written = resource::delete(store, &caller.author, kind, &name, &if_match, end).await?;
    written.answer(store, end.patience()).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::super::testing::{Fixture, get};

    #[tokio::test]
    async fn a_pool_tells_who_serves_it_on_each_agent_and_how_many_wait() {
        let api = Fixture::new().await;
        api.apply("pools: [{ name: node, backends: [{ address: ':3000' }] }]")
            .await;
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        api.store
            .execute(&format!(
                "insert into observed_pools (agent, pool, queued, serving, at) values
                 ('{one}', 'node', 3, 'backup', now()),
                 ('{one}', 'other', 9, 'primary', now()),
                 ('{two}', 'node', 0, 'nobody', now() - interval '16 seconds')"
            ))
            .await;
        let seen = api.get("/pools/node/agents").await;
        let seen = seen["items"].as_array().unwrap();
        let told = seen
            .iter()
            .map(|s| json!([s["agent"], s["queued"], s["serving"], s["stale"]]));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                json!([one, 3, "backup", false]),
                json!([two, 0, "nobody", true])
            ]
        );
        let gone = api.ask(get("/pools/other/agents")).await;
        assert_eq!(gone.problem(), "not-found");
    }
}
