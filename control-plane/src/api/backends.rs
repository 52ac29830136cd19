//! Backends of a pool: how each agent sees them, and those listed by hand, one by
//! one. What operators say of one is in `states`.

use std::collections::HashMap;
use std::net::SocketAddr;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use tidegate_core::document::{self, AdminState, Document, Pool};
use tidegate_core::plan;
use utoipa::ToSchema;

use super::Api;
use super::answer::{Committed, Items, Tagged, Written};
use super::auth::{Caller, Operator, Viewer};
use super::etag::{ETag, IfMatch, Precondition};
use super::extract::{Asked, Json, Place};
use super::problem::Problem;
use super::resource::{self, Kind};
use super::wait::WaitQuery;
use super::{names, schema, tree};
use crate::store::{AdminRow, BackendSeen};

/// A backend of a pool, with what is known of it.
#[derive(Serialize, ToSchema)]
pub(super) struct Backend {
    /// Unique in its pool; the agent's id where it was discovered.
    name: String,
    pool: String,
    /// Where it is: as written, or where its agent serves the listener.
    address: String,
    /// Its share; absent where it was discovered.
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    /// Whether it is an agent that serves the listener the pool discovers.
    discovered: bool,
    /// What operators say of it on all agents.
    #[schema(value_type = schema::AdminState)]
    admin: AdminState,
    /// How each agent sees it.
    agents: Vec<BackendSeen>,
}

/// All backends of a pool, as agents see them.
#[utoipa::path(
    get,
    path = "/pools/{name}/backends",
    tag = "fleet",
    params(("name" = String, Path)),
    responses((status = 200, description = "In the pool's order", body = Items<Backend>))
)]
pub(super) async fn list_backends(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Place(name): Place<String>,
) -> Result<Tagged, Problem> {
    let (_, document) = api.store.document().await?;
    let pool = pool(&document, &name)?;
    let said = api.store.admin_states(&name).await?;
    let seen = api.store.backends_seen(&name, api.fresh_since()).await?;
    let fleet = api.store.fleet().await?;
    Tagged::list(merged(pool, members(&document, pool, &fleet), &said, seen))
}

/// One backend that the document lists.
#[utoipa::path(
    get,
    path = "/pools/{name}/backends/{backend}",
    tag = "document",
    params(("name" = String, Path), ("backend" = String, Path)),
    responses((status = 200, description = "As in the document", body = schema::Backend))
)]
pub(super) async fn read_backend(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Place((name, backend)): Place<(String, String)>,
) -> Result<Tagged, Problem> {
    let (_, document) = api.store.document().await?;
    Tagged::of(listed(pool(&document, &name)?, &backend)?)
}

/// Replaces a backend of a pool, or adds it. The name may be left out of the body.
#[utoipa::path(
    put,
    path = "/pools/{name}/backends/{backend}",
    tag = "document",
    params(("name" = String, Path), ("backend" = String, Path), WaitQuery, Precondition),
    request_body = schema::Backend,
    responses((status = 200, description = "What changed", body = Committed))
)]
pub(super) async fn put_backend(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place((name, backend)): Place<(String, String)>,
    Asked(wait): Asked<WaitQuery>,
    if_match: IfMatch,
    Json(body): Json<Value>,
) -> Result<Response, Problem> {
    let patience = wait.patience()?;
    let mut writing = api.store.write(&caller.author).await?;
    let before = tag(writing.document(), &name, &backend);
    if_match.check(before.as_ref())?;
    let tree = resource::whole(writing.document())?;
    let edited = tree::put_backend(tree, &name, &backend, body).map_err(Problem::mistakes)?;
    let edited = edited.ok_or_else(|| Kind::Pools.missing(writing.document(), &name))?;
    let place = Some(edited.place.as_str());
    let document = resource::in_fleet(&mut writing, edited.tree, place).await?;
    let after = tag(&document, &name, &backend);
    writing.set_document(document, "put", &format!("pools/{name}/backends/{backend}"));
    let commit = writing.commit().await;
    let commit = commit.map_err(|error| resource::refused(error, place))?;
    let tag = if commit.changed { after } else { before };
    Written::new(commit, tag).answer(&api.store, patience).await
}

/// Takes a backend out of its pool. Connections it has live until they end.
#[utoipa::path(
    delete,
    path = "/pools/{name}/backends/{backend}",
    tag = "document",
    params(("name" = String, Path), ("backend" = String, Path), WaitQuery, Precondition),
    responses((status = 200, description = "What changed", body = Committed))
)]
pub(super) async fn delete_backend(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place((name, backend)): Place<(String, String)>,
    Asked(wait): Asked<WaitQuery>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let patience = wait.patience()?;
    let mut writing = api.store.write(&caller.author).await?;
    let tree = resource::whole(writing.document())?;
    let Some(rest) = tree::take_backend(tree, &name, &backend) else {
        return Err(missing(pool(writing.document(), &name)?, &backend));
    };
    if_match.check(tag(writing.document(), &name, &backend).as_ref())?;
    let document = resource::in_fleet(&mut writing, rest, None).await?;
    writing.set_document(
        document,
        "delete",
        &format!("pools/{name}/backends/{backend}"),
    );
    let written = Written::new(writing.commit().await?, None);
    written.answer(&api.store, patience).await
}

/// The pool of that name.
pub(super) fn pool<'a>(document: &'a Document, name: &str) -> Result<&'a Pool, Problem> {
    let found = document.pools.iter().find(|p| p.name.as_str() == name);
    found.ok_or_else(|| Kind::Pools.missing(document, name))
}

/// The agents that are backends of a pool by discovery.
pub(super) fn members<'a>(
    document: &'a Document,
    pool: &Pool,
    fleet: &'a [plan::Agent],
) -> Vec<(&'a plan::Agent, SocketAddr)> {
    let discovered = pool.discover.as_ref().and_then(|discover| {
        let mut listeners = document.listeners.iter();
        listeners.find(|l| l.name == discover.listener)
    });
    discovered.map_or_else(Vec::new, |listener| {
        plan::members(listener, fleet).collect()
    })
}

/// The backend of that name, if the document lists it.
fn listed<'a>(pool: &'a Pool, name: &str) -> Result<&'a document::Backend, Problem> {
    let found = pool.backends.iter().find(|b| b.name().as_str() == name);
    found.ok_or_else(|| missing(pool, name))
}

fn missing(pool: &Pool, name: &str) -> Problem {
    let Some(discover) = &pool.discover else {
        let there: Vec<_> = pool.backends.iter().map(document::Backend::name).collect();
        let there = names::there_is(name, there.iter().map(|name| name.as_str()));
        return Problem::not_found(format!(
            "the pool {} has no backend {name}; {there}",
            pool.name
        ));
    };
    Problem::not_found(format!(
        "the pool {} lists no backends, it discovers them: each agent that serves {}",
        pool.name, discover.listener
    ))
}

fn tag(document: &Document, pool: &str, backend: &str) -> Option<ETag> {
    let pool = document.pools.iter().find(|p| p.name.as_str() == pool)?;
    let mut backends = pool.backends.iter();
    let found = backends.find(|b| b.name().as_str() == backend)?;
    Some(ETag::of(found))
}

/// What the document, the operators and the agents say, put together.
fn merged(
    pool: &Pool,
    members: Vec<(&plan::Agent, SocketAddr)>,
    said: &[AdminRow],
    mut seen: HashMap<String, Vec<BackendSeen>>,
) -> Vec<Backend> {
    let listed = pool.backends.iter().map(|backend| {
        let weight = Some(backend.weight.get().get());
        (
            backend.name().to_string(),
            backend.address.to_string(),
            weight,
        )
    });
    let discovered = members
        .into_iter()
        .map(|(agent, address)| (agent.id.to_string(), address.to_string(), None));
    let backends = listed.chain(discovered);
    backends
        .map(|(name, address, weight)| Backend {
            pool: pool.name.to_string(),
            address,
            discovered: weight.is_none(),
            weight,
            admin: on_all_agents(said, &name),
            agents: seen.remove(&name).unwrap_or_default(),
            name,
        })
        .collect()
}

fn on_all_agents(said: &[AdminRow], backend: &str) -> AdminState {
    let mut rows = said.iter();
    let found = rows.find(|row| row.backend == backend && row.agent.is_none());
    found.map_or(AdminState::Ready, |row| row.state)
}
