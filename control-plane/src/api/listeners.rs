//! Listeners, one by one. How such a write works is in `resource`.

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
use super::wait::WriteQuery;

/// All listeners.
#[utoipa::path(
    get,
    path = "/listeners",
    tag = "document",
    responses((status = 200, description = "In the document's order", body = Items<schema::Listener>))
)]
pub(super) async fn list_listeners(
    _: Caller<Viewer>,
    State(api): State<Api>,
) -> Result<Tagged, Problem> {
    let (_, document) = api.store.document().await?;
    Tagged::list(&document.listeners)
}

/// One listener.
#[utoipa::path(
    get,
    path = "/listeners/{name}",
    tag = "document",
    params(("name" = String, Path)),
    responses((status = 200, description = "As in the document", body = schema::Listener))
)]
pub(super) async fn read_listener(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Place(name): Place<String>,
) -> Result<Tagged, Problem> {
    resource::read(&api.store, Kind::Listeners, &name).await
}

/// Replaces a listener, or adds it. The name may be left out of the body.
#[utoipa::path(
    put,
    path = "/listeners/{name}",
    tag = "document",
    params(("name" = String, Path), WriteQuery, Precondition),
    request_body = schema::Listener,
    responses((status = 200, description = "What changed", body = Committed))
)]
pub(super) async fn put_listener(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place(name): Place<String>,
    Asked(query): Asked<WriteQuery>,
    if_match: IfMatch,
    Json(body): Json<Value>,
) -> Result<Response, Problem> {
    let end = query.end()?;
    let (store, kind) = (&api.store, Kind::Listeners);
    let written = resource::put(store, &caller.author, kind, &name, &if_match, end, body).await?;
    written.answer(store, end.patience()).await
}

/// Takes a listener out of the document.
#[utoipa::path(
    delete,
    path = "/listeners/{name}",
    tag = "document",
    params(("name" = String, Path), WriteQuery, Precondition),
    responses((status = 200, description = "What changed", body = Committed))
)]
pub(super) async fn delete_listener(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place(name): Place<String>,
    Asked(query): Asked<WriteQuery>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let end = query.end()?;
    let (store, kind) = (&api.store, Kind::Listeners);
    let written = resource::delete(store, &caller.author, kind, &name, &if_match, end).await?;
    written.answer(store, end.patience()).await
}
