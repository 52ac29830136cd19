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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidegate_core::document::Role;

    use super::super::testing::{Fixture, get, post, put};

    const STATE: &str = "/pools/node/backends/:3000/state";

    async fn api() -> Fixture {
        let api = Fixture::new().await;
        api.apply(
            "pools: [{ name: node, backends: [{ address: ':3000' }, { address: ':3001' }] }]",
        )
        .await;
        api
    }

    #[tokio::test]
    async fn a_state_is_said_for_all_agents_or_for_one() {
        let api = api().await;
        let agent = api.agent(1, &[Role::Balancer], &[]).await;
        assert_eq!(
            api.get(STATE).await,
            json!({ "state": "ready", "agents": [] })
        );
        let said = api
            .ask(put(STATE).json(json!({ "state": "maintenance", "agent": agent })))
            .await;
        let commit = said.ok();
        assert_eq!(
            (&commit["revision"], &commit["change"]),
            (&json!(1), &json!(3))
        );
        assert_eq!(
            (&commit["changed"], &commit["diff"]),
            (&json!(true), &json!([]))
        );
        let read = api.ask(get(STATE)).await;
        assert_eq!(read.tag(), said.tag());
        let read = read.json();
        assert_eq!(
            (&read["state"], &read["agents"][0]["state"]),
            (&json!("ready"), &json!("maintenance"))
        );

        // For all: what was said for single agents is over.
        api.ask(put(STATE).json(json!({ "state": "drain" })))
            .await
            .ok();
        let read = api.get(STATE).await;
        assert_eq!(
            (&read["state"], &read["agents"]),
            (&json!("drain"), &json!([]))
        );
        assert!(
            read["set_by"]
                .as_str()
                .unwrap()
                .starts_with("token admin (")
        );
        let list = api.get("/pools/node/backends").await;
        assert_eq!(list["items"][0]["admin"], "drain");
        assert_eq!(list["items"][1]["admin"], "ready");
        let audit = api.get("/audit?limit=1").await;
        assert_eq!(audit["items"][0]["action"], "drain");
        assert_eq!(audit["items"][0]["change"], 4);
    }

    #[tokio::test]
    async fn the_same_again_takes_no_number() {
        let api = api().await;
        let agent = api.agent(1, &[Role::Balancer], &[]).await;
        for (saying, changed) in [
            (json!({ "state": "ready" }), false),
            (json!({ "state": "ready", "agent": agent }), false),
            (json!({ "state": "drain" }), true),
            (json!({ "state": "drain" }), false),
            (json!({ "state": "drain", "agent": agent }), false),
            (json!({ "state": "ready", "agent": agent }), true),
            (json!({ "state": "drain" }), true),
        ] {
            let done = api.ask(put(STATE).json(saying.clone())).await.ok();
            assert_eq!(done["changed"], changed, "{saying}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_has_no_state() {
        let api = api().await;
        let agent = api.agent(1, &[Role::Balancer], &[]).await;
        api.ask(post(&format!("/agents/{agent}/revoke"))).await.ok();
        let drain = json!({ "state": "drain" });
        let rows = [
            (
                "/pools/nude/backends/:3000/state",
                drain.clone(),
                "there is node",
            ),
            (
                "/pools/node/backends/:300/state",
                drain.clone(),
                "there is :3000, :3001",
            ),
            (
                STATE,
                json!({ "state": "drain", "agent": agent }),
                "there is none",
            ),
        ];
        for (path, saying, there) in rows {
            let answer = api.ask(put(path).json(saying)).await;
            assert_eq!(answer.problem(), "not-found");
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.ends_with(there), "{detail}");
        }
        let wrong = put(STATE).json(json!({ "state": "off", "agent": "all", "for": "1h" }));
        assert_eq!(
            api.ask(wrong).await.pointers(),
            ["/agent", "/for", "/state"]
        );
        let stale = put(STATE).json(drain).if_match("\"x\"");
        assert_eq!(api.ask(stale).await.problem(), "stale");
    }

    #[tokio::test]
    async fn a_discovered_backend_goes_by_its_agent_until_that_is_revoked() {
        let api = Fixture::new().await;
        let (chain, key) = super::super::pair::tests::certificate("c");
        let upload = json!({ "chain": chain, "private_key": key });
        api.ask(put("/certificates/c").json(upload)).await.ok();
        api.apply(
            "
listeners: [{ name: tls, role: terminator, bind: ':8443', pool: node, accept_proxy: none, tls: { certificates: [c] } }]
pools: [{ name: found, discover: { listener: tls } }, { name: node, backends: [{ address: ':3000' }] }]
",
        )
        .await;
        let agent = api.agent(1, &[Role::Terminator], &[]).await;
        let path = format!("/pools/found/backends/{agent}/state");
        api.ask(put(&path).json(json!({ "state": "drain" })))
            .await
            .ok();
        assert_eq!(api.get(&path).await["state"], "drain");
        api.ask(post(&format!("/agents/{agent}/revoke"))).await.ok();
        assert_eq!(api.ask(get(&path)).await.problem(), "not-found");
    }
}
