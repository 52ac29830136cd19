//! Agents: what each is, should run, says it runs, holds and sees; and how one is
//! taken out of the fleet.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use tidegate_core::document::{Labels, Role};
use tidegate_core::snapshot::Fingerprint;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Api;
use super::answer::{Committed, Items, Tagged, Written};
use super::auth::{Caller, Operator, Viewer};
use super::etag::{ETag, IfMatch, Precondition};
use super::extract::{Asked, Place};
use super::problem::Problem;
use super::schema;
use super::wait::WaitQuery;
use crate::model::{AgentId, Desired};
use crate::store::{AgentMistake, AgentRow, HeldKey, ListenerSeen, RunVersion};

/// An agent.
#[derive(Serialize, ToSchema)]
pub(super) struct Agent {
    id: Uuid,
    #[schema(value_type = Vec<schema::Role>)]
    roles: Vec<Role>,
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    labels: Labels,
    /// Where it is reached, and the base of `:port`.
    address: String,
    health_port: u16,
    version: String,
    /// Whether it holds a session with a control plane.
    connected: bool,
    /// When it last gave a sign of life.
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    seen_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    enrolled_at: OffsetDateTime,
    /// The id of the token it joined with.
    join_token: String,
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    revoked_at: Option<OffsetDateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_by: Option<String>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    certificate_not_after: Option<OffsetDateTime>,
    /// What the control plane wants of it; absent once it is revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    desired: Option<WantedVersion>,
    /// What it says it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<RunVersion>,
    /// What it last said of a snapshot.
    state: Progress,
    /// Whether what it says it runs is what is wanted.
    in_sync: bool,
    /// Why it cannot run what it was last given.
    mistakes: Vec<AgentMistake>,
    /// The private keys it was ever sent: what has to be replaced when it is lost.
    certificates_held: Vec<HeldKey>,
    listeners: Vec<ListenerSeen>,
}

/// What an agent should run.
#[derive(Serialize, ToSchema)]
pub(super) struct WantedVersion {
    change: u64,
    revision: u64,
    /// SHA-256 of the content.
    #[schema(value_type = String)]
    hash: Fingerprint,
}

/// How far an agent came.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AgentState)]
pub(super) enum Progress {
    Applying,
    Applied,
    Failed,
    /// It has not said anything yet.
    None,
}

impl From<AgentRow> for Agent {
    fn from(row: AgentRow) -> Self {
        let wanted = row.desired.map(|desired: Desired| desired.hash);
        Self {
            id: row.id,
            roles: row.roles,
            labels: row.labels,
            address: row.address.to_string(),
            health_port: row.health_port,
            version: row.version,
            connected: row.connected,
            seen_at: row.seen_at,
            enrolled_at: row.enrolled_at,
            join_token: row.join_token,
            revoked_at: row.revoked_at,
            revoked_by: row.revoked_by,
            certificate_not_after: row.certificate_not_after,
            desired: row.desired.map(|desired| WantedVersion {
                change: desired.change,
                revision: desired.revision,
                hash: desired.hash,
            }),
            in_sync: wanted.is_some() && wanted == row.applied.map(|applied| applied.hash),
            applied: row.applied,
            state: match row.state.as_deref() {
                Some("applying") => Progress::Applying,
                Some("applied") => Progress::Applied,
                Some("failed") => Progress::Failed,
                _ => Progress::None,
            },
            mistakes: row.mistakes,
            certificates_held: row.held,
            listeners: row.listeners,
        }
    }
}

/// All agents that were not removed.
#[utoipa::path(
    get,
    path = "/agents",
    tag = "fleet",
    responses((status = 200, description = "In the order they joined", body = Items<Agent>))
)]
pub(super) async fn list_agents(
    _: Caller<Viewer>,
    State(api): State<Api>,
) -> Result<Tagged, Problem> {
    let agents = api.store.agents(None, api.fresh_since()).await?;
    Tagged::list(agents.into_iter().map(Agent::from))
}

/// One agent. The ETag stands for what writes change of it, not for what it does.
#[utoipa::path(
    get,
    path = "/agents/{id}",
    tag = "fleet",
    params(("id" = Uuid, Path)),
    responses((status = 200, description = "With what it sees", body = Agent))
)]
pub(super) async fn read_agent(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Place(id): Place<Uuid>,
) -> Result<Tagged, Problem> {
    let mut agents = api
        .store
        .agents(Some(AgentId(id)), api.fresh_since())
        .await?;
    let agent = agents.pop().ok_or_else(|| missing(id))?;
    let tag = tag(id, agent.revoked_at);
    Tagged::with(&Agent::from(agent), tag)
}

/// Takes an agent out of the fleet for ever; it stays in the list.
#[utoipa::path(
    post,
    path = "/agents/{id}/revoke",
    tag = "fleet",
    params(("id" = Uuid, Path), WaitQuery, Precondition),
    responses((status = 200, description = "The others know it no more", body = Committed))
)]
pub(super) async fn revoke_agent(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place(id): Place<Uuid>,
    Asked(wait): Asked<WaitQuery>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let patience = wait.patience()?;
    let mut writing = api.store.write(&caller.author).await?;
    let before = writing.revoked(AgentId(id)).await?;
    let before = before.ok_or_else(|| missing(id))?;
    if_match.check(Some(&tag(id, before)))?;
    writing.revoke_agent(AgentId(id)).await?;
    let after = writing.revoked(AgentId(id)).await?.flatten();
    let written = Written::new(writing.commit().await?, Some(tag(id, after)));
    written.answer(&api.store, patience).await
}

/// Takes an agent out of the fleet and out of the list.
#[utoipa::path(
    delete,
    path = "/agents/{id}",
    tag = "fleet",
    params(("id" = Uuid, Path), WaitQuery, Precondition),
    responses((status = 200, description = "The others know it no more", body = Committed))
)]
pub(super) async fn remove_agent(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place(id): Place<Uuid>,
    Asked(wait): Asked<WaitQuery>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let patience = wait.patience()?;
    let mut writing = api.store.write(&caller.author).await?;
    let before = writing.revoked(AgentId(id)).await?;
    let before = before.ok_or_else(|| missing(id))?;
    if_match.check(Some(&tag(id, before)))?;
    writing.remove_agent(AgentId(id)).await?;
    let written = Written::new(writing.commit().await?, None);
    written.answer(&api.store, patience).await
}

fn tag(id: Uuid, revoked_at: Option<OffsetDateTime>) -> ETag {
    let revoked = revoked_at.map(|at| at.unix_timestamp_nanos().to_string());
    ETag::of(&(id, revoked))
}

fn missing(id: Uuid) -> Problem {
    Problem::not_found(format!(
        "no agent {id}: it never joined, or was removed; see /api/v1/agents"
    ))
}
