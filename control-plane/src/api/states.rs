//! What operators say of a backend, outside the document: drain, maintenance,
//! ready, on all agents or on one.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tidegate_core::document::{AdminState, Backend, BackendName, Document, Name};
use tidegate_core::plan;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Api;
use super::answer::{Committed, Tagged, Written};
use super::auth::{Caller, Operator, Viewer};
use super::backends;
use super::etag::{ETag, IfMatch, Precondition};
use super::extract::{Asked, Json, Place};
use super::names;
use super::problem::Problem;
use super::schema;
use super::wait::WaitQuery;
use crate::model::AgentId;
use crate::store::AdminRow;

/// What operators say of a backend.
#[derive(Serialize, ToSchema)]
pub(super) struct Said {
    /// On all agents.
    #[schema(value_type = schema::AdminState)]
    state: AdminState,
    /// Absent while nobody has said anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    set_by: Option<String>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    set_at: Option<OffsetDateTime>,
    /// Where it is another one.
    agents: Vec<SaidOnAgent>,
}

/// What operators say of a backend on one agent.
#[derive(Serialize, ToSchema)]
pub(super) struct SaidOnAgent {
    agent: Uuid,
    #[schema(value_type = schema::AdminState)]
    state: AdminState,
    set_by: String,
    #[serde(with = "time::serde::rfc3339")]
    set_at: OffsetDateTime,
}

/// What an operator has to say.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping with state, and agent where it is for one alone"
)]
pub(super) struct Saying {
    #[schema(value_type = schema::AdminState)]
    state: AdminState,
    /// Only as this agent sees it; for all agents when absent, also for those that
    /// had a state of their own.
    agent: Option<Uuid>,
}

/// What operators say of a backend.
#[utoipa::path(
    get,
    path = "/pools/{name}/backends/{backend}/state",
    tag = "fleet",
    params(("name" = String, Path), ("backend" = String, Path)),
    responses((status = 200, description = "`ready` unless said", body = Said))
)]
pub(super) async fn read_state(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Place((name, backend)): Place<(String, String)>,
) -> Result<Tagged, Problem> {
    let (_, document) = api.store.document().await?;
    let fleet = api.store.fleet().await?;
    known(&document, &fleet, &name, &backend)?;
    let rows = api.store.admin_states(&name).await?;
    Tagged::of(&said(rows, &backend))
}

/// Says it: takes a backend out of use, or back.
#[utoipa::path(
    put,
    path = "/pools/{name}/backends/{backend}/state",
    tag = "fleet",
    params(("name" = String, Path), ("backend" = String, Path), WaitQuery, Precondition),
    request_body = Saying,
    responses((status = 200, description = "The revision stays, the change is new", body = Committed))
)]
pub(super) async fn put_state(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place((name, backend)): Place<(String, String)>,
    Asked(wait): Asked<WaitQuery>,
    if_match: IfMatch,
    Json(saying): Json<Saying>,
) -> Result<Response, Problem> {
    let patience = wait.patience()?;
    let mut writing = api.store.write(&caller.author).await?;
    let fleet = writing.fleet().await?;
    let (pool, of) = known(writing.document(), &fleet, &name, &backend)?;
    let agent = known_agent(&fleet, saying.agent)?;
    let before = said(writing.admin_states(&name).await?, &backend);
    if_match.check(Some(&ETag::of(&before)))?;
    if !before.is_so(saying.state, saying.agent) {
        writing
            .set_admin_state(&pool, &of, agent, saying.state)
            .await?;
    }
    let after = said(writing.admin_states(&name).await?, &backend);
    let written = Written::new(writing.commit().await?, Some(ETag::of(&after)));
    written.answer(&api.store, patience).await
}

impl Said {
    /// Whether nothing would change: saying it again takes no number.
    fn is_so(&self, state: AdminState, agent: Option<Uuid>) -> bool {
        let Some(agent) = agent else {
            return self.state == state && self.agents.is_empty();
        };
        let mut own = self.agents.iter();
        let own = own.find(|said| said.agent == agent);
        own.map_or(self.state, |said| said.state) == state
    }
}

/// Of the rows of a pool those of a backend, put together.
fn said(rows: Vec<AdminRow>, backend: &str) -> Said {
    let mut said = Said {
        state: AdminState::Ready,
        set_by: None,
        set_at: None,
        agents: Vec::new(),
    };
    for row in rows.into_iter().filter(|row| row.backend == backend) {
        if let Some(agent) = row.agent {
            said.agents.push(SaidOnAgent {
                agent,
                state: row.state,
                set_by: row.set_by,
                set_at: row.set_at,
            });
        } else {
            said.state = row.state;
            said.set_by = Some(row.set_by);
            said.set_at = Some(row.set_at);
        }
    }
    said
}

/// The backend's place, when there is one: listed by the document, or an agent that
/// serves the listener the pool discovers.
fn known(
    document: &Document,
    fleet: &[plan::Agent],
    pool: &str,
    backend: &str,
) -> Result<(Name, BackendName), Problem> {
    let pool = backends::pool(document, pool)?;
    let members = backends::members(document, pool, fleet);
    let discovered = members
        .iter()
        .map(|(agent, _)| BackendName::from(&agent.id));
    let listed = pool.backends.iter().map(Backend::name);
    let all: Vec<BackendName> = listed.chain(discovered).collect();
    let found = all.iter().find(|name| name.as_str() == backend);
    let found = found.ok_or_else(|| {
        let there = names::there_is(backend, all.iter().map(BackendName::as_str));
        Problem::not_found(format!(
            "the pool {} has no backend {backend}; {there}",
            pool.name
        ))
    })?;
    Ok((pool.name.clone(), found.clone()))
}

fn known_agent(fleet: &[plan::Agent], wanted: Option<Uuid>) -> Result<Option<AgentId>, Problem> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let text = wanted.to_string();
    if fleet.iter().any(|agent| agent.id.as_str() == text) {
        return Ok(Some(AgentId(wanted)));
    }
    let there = names::there_is(&text, fleet.iter().map(|agent| agent.id.as_str()));
    Err(Problem::not_found(format!(
        "no agent {text} is enrolled; {there}"
    )))
}
