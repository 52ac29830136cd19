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

/// Refuses an id that no agent has.
pub(super) async fn known(api: &Api, id: Uuid) -> Result<(), Problem> {
    let agents = api
        .store
        .agents(Some(AgentId(id)), api.fresh_since())
        .await?;
    agents.first().map(|_| ()).ok_or_else(|| missing(id))
}

fn missing(id: Uuid) -> Problem {
    Problem::not_found(format!(
        "no agent {id}: it never joined, or was removed; see /api/v1/agents"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidegate_core::document::Mistake;

    use super::super::testing::{Fixture, delete, get, post, put};
    use super::*;
    use crate::model::Outcome;

    #[tokio::test]
    async fn an_agent_is_told_whole() {
        let api = Fixture::new().await;
        let id = api
            .agent(1, &[Role::Balancer, Role::Terminator], &[("tier", "edge")])
            .await;
        let path = format!("/agents/{id}");
        let joined = api.get(&path).await;
        assert_eq!(joined["roles"], json!(["balancer", "terminator"]));
        assert_eq!(joined["labels"], json!({ "tier": "edge" }));
        assert_eq!(
            (&joined["address"], &joined["connected"]),
            (&json!("10.0.0.1"), &json!(false))
        );
        assert_eq!(
            (&joined["state"], &joined["in_sync"]),
            (&json!("none"), &json!(false))
        );
        assert_eq!(joined["desired"]["change"], 1);
        assert_eq!(joined.get("applied"), None);

        api.connect(id, 1).await;
        api.says(id, Outcome::Applied).await;
        api.store
            .execute(&format!(
                "insert into observed_listeners values ('{id}', 'edge', 'balancer', 3, 2, 10, 100, 200, 0, 0, 0, 0,
                 1, 0.5, 30, 0, now() - interval '20 seconds')"
            ))
            .await;
        let runs = api.get(&path).await;
        assert_eq!(
            (&runs["connected"], &runs["in_sync"]),
            (&json!(true), &json!(true))
        );
        assert_eq!(runs["applied"]["hash"], runs["desired"]["hash"]);
        let listener = &runs["listeners"][0];
        assert_eq!(
            (&listener["live"], &listener["stale"]),
            (&json!(3), &json!(true))
        );

        let mistake = Mistake::new("/listeners/edge/bind", "taken");
        api.says(id, Outcome::Failed(vec![mistake])).await;
        let failed = api.get(&path).await;
        assert_eq!(failed["state"], "failed");
        assert_eq!(
            failed["mistakes"],
            json!([{ "pointer": "/listeners/edge/bind", "message": "taken" }])
        );
        assert_eq!(api.get("/agents").await["items"], json!([failed]));
    }

    #[tokio::test]
    async fn a_revoked_agent_stays_in_the_list_and_a_removed_one_does_not() {
        let api = Fixture::new().await;
        let (one, two) = (
            api.agent(1, &[Role::Balancer], &[]).await,
            api.agent(2, &[Role::Balancer], &[]).await,
        );
        let revoke = |agent| post(&format!("/agents/{agent}/revoke"));
        let seen = api.ask(get(&format!("/agents/{one}"))).await.tag();
        assert_eq!(
            api.ask(revoke(one).if_match("\"x\"")).await.problem(),
            "stale"
        );
        let revoked = api.ask(revoke(one).if_match(&seen)).await;
        assert_eq!(revoked.ok()["change"], 3);
        let read = api.ask(get(&format!("/agents/{one}"))).await;
        assert_eq!(read.tag(), revoked.tag());
        assert!(read.json()["revoked_at"].is_string());
        assert_eq!(read.json().get("desired"), None);
        assert_eq!(api.ask(revoke(one)).await.ok()["changed"], false);

        // One that is removed is revoked as well.
        let gone = api.ask(delete(&format!("/agents/{two}"))).await;
        assert_eq!(gone.ok()["change"], 4);
        for asked in [
            get(&format!("/agents/{two}")),
            delete(&format!("/agents/{two}")),
            revoke(two),
        ] {
            assert_eq!(api.ask(asked).await.problem(), "not-found");
        }
        let state = api.store.agent_state(AgentId(two)).await.unwrap();
        assert_eq!(state, crate::store::AgentState::Revoked);
        let status = api.get("/status").await;
        assert_eq!(
            (&status["agents"]["total"], &status["agents"]["revoked"]),
            (&json!(0), &json!(1))
        );
    }

    #[tokio::test]
    async fn a_write_waits_until_the_agents_have_said_what_became_of_it() {
        let api = Fixture::new().await;
        let (quick, slow, broken, away) = (
            api.agent(1, &[Role::Balancer], &[]).await,
            api.agent(2, &[Role::Balancer], &[]).await,
            api.agent(3, &[Role::Balancer], &[]).await,
            api.agent(4, &[Role::Balancer], &[]).await,
        );
        for (agent, number) in [(quick, 1), (slow, 2), (broken, 3)] {
            api.connect(agent, number).await;
        }
        let document = "
listeners: [{ name: edge, role: balancer, bind: ':443', pool: p }]
pools: [{ name: p, backends: [{ address: '10.0.0.9:1' }] }]
";
        let wait = |time: &str| put(&format!("/config?wait=applied&timeout={time}")).yaml(document);
        // Nobody says anything: the time ends it, and the commit stands.
        let pending = api.ask(wait("1ms")).await.ok();
        assert_eq!(pending["applied"]["pending"], json!([quick, slow, broken]));
        assert_eq!(pending["applied"]["offline"], json!([away]));

        api.says(quick, Outcome::Applied).await;
        api.says(
            broken,
            Outcome::Failed(vec![Mistake::new("/listeners/edge", "no")]),
        )
        .await;
        let slow_one = api.says(slow, Outcome::Applied);
        let (answer, ()) = tokio::join!(api.ask(wait("5m")), slow_one);
        let applied = &answer.ok()["applied"];
        assert_eq!(applied["applied"], json!([quick, slow]));
        assert_eq!(applied["failed"][0]["agent"], json!(broken));
        assert_eq!(applied["failed"][0]["mistakes"][0]["message"], "no");
        assert_eq!(
            (&applied["pending"], &applied["offline"]),
            (&json!([]), &json!([away]))
        );
    }
}
