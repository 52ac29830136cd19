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
use super::schema;
use super::wait::WaitQuery;

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

/// Replaces a pool, or adds it. The name may be left out of the body.
#[utoipa::path(
    put,
    path = "/pools/{name}",
    tag = "document",
    params(("name" = String, Path), WaitQuery, Precondition),
    request_body = schema::Pool,
    responses((status = 200, description = "What changed", body = Committed))
)]
pub(super) async fn put_pool(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place(name): Place<String>,
    Asked(wait): Asked<WaitQuery>,
    if_match: IfMatch,
    Json(body): Json<Value>,
) -> Result<Response, Problem> {
    let patience = wait.patience()?;
    let (store, kind) = (&api.store, Kind::Pools);
    let written = resource::put(store, &caller.author, kind, &name, &if_match, body).await?;
    written.answer(store, patience).await
}

/// Takes a pool out of the document.
#[utoipa::path(
    delete,
    path = "/pools/{name}",
    tag = "document",
    params(("name" = String, Path), WaitQuery, Precondition),
    responses((status = 200, description = "What changed", body = Committed))
)]
pub(super) async fn delete_pool(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place(name): Place<String>,
    Asked(wait): Asked<WaitQuery>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let patience = wait.patience()?;
    let (store, kind) = (&api.store, Kind::Pools);
    let written = resource::delete(store, &caller.author, kind, &name, &if_match).await?;
    written.answer(store, patience).await
}
