//! What operators say of a backend, outside the document: drain, maintenance,
//! ready, on all agents or on one. How fast a drain goes is in `pace`.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tidegate_core::document::{AdminState, Backend, BackendName, Document, Mistake, Name};
use tidegate_core::plan::{self, Admin};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Api;
use super::answer::{Committed, Tagged, Written, tagged};
use super::auth::{Caller, Operator, Viewer};
use super::backends;
use super::etag::{ETag, IfMatch, Precondition};
use super::extract::{Asked, Json, Place};
use super::names;
use super::pace::{self, Pace, PaceRequest, Remaining};
use super::problem::Problem;
use super::schema;
use super::wait::WaitQuery;
use crate::model::{self, AgentId};
use crate::store::AdminRow;

/// What operators say of a backend.
#[derive(Serialize, ToSchema)]
pub(super) struct Said {
    /// On all agents.
    #[schema(value_type = schema::AdminState)]
    state: AdminState,
    /// Absent = its connections end by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pace: Option<Pace>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pace: Option<Pace>,
    set_by: String,
    #[serde(with = "time::serde::rfc3339")]
    set_at: OffsetDateTime,
}

/// What is said of a backend, and what that has come to. The ETag stands for what
/// is said.
#[derive(Serialize, ToSchema)]
pub(super) struct BackendState {
    #[serde(flatten)]
    said: Said,
    remaining: Remaining,
}

/// What came of saying it.
#[derive(Serialize, ToSchema)]
pub(super) struct StateCommit {
    #[serde(flatten)]
    commit: Committed,
    remaining: Remaining,
}

/// What an operator has to say.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping with state, pace, and agent where it is for one alone"
)]
pub(super) struct Saying {
    #[schema(value_type = schema::AdminState)]
    state: AdminState,
    /// How its live connections are closed, with `drain` and `maintenance`; by
    /// themselves when absent.
    pace: Option<PaceRequest>,
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
    responses((status = 200, description = "`ready` unless said", body = BackendState))
)]
pub(super) async fn read_state(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Place((name, backend)): Place<(String, String)>,
) -> Result<Tagged, Problem> {
    let (_, document) = api.store.document().await?;
    let fleet = api.store.fleet().await?;
    known(&document, &fleet, &name, &backend)?;
    let said = Known::of(api.store.admin_states(&name).await?, &backend).shown();
    let tag = ETag::of(&said);
    let remaining = remaining(&api, &name, &backend).await?;
    Tagged::with(&BackendState { said, remaining }, tag)
}

/// Says it: takes a backend out of use, or back. With a pace its live connections are
/// closed as well; one that ends begins anew each time it is said.
#[utoipa::path(
    put,
    path = "/pools/{name}/backends/{backend}/state",
    tag = "fleet",
    params(("name" = String, Path), ("backend" = String, Path), WaitQuery, Precondition),
    request_body = Saying,
    responses((status = 200, description = "The revision stays, the change is new", body = StateCommit))
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
    let wanted = saying.read().map_err(Problem::mistakes)?;
    let mut writing = api.store.write(&caller.author).await?;
    let fleet = writing.fleet().await?;
    let (pool, of) = known(writing.document(), &fleet, &name, &backend)?;
    let agent = known_agent(&fleet, saying.agent)?;
    let before = Known::of(writing.admin_states(&name).await?, &backend);
    let is_so = before.is_so(wanted, saying.agent);
    if_match.check(Some(&ETag::of(&before.shown())))?;
    if !is_so {
        writing.set_admin_state(&pool, &of, agent, wanted).await?;
    }
    let after = Known::of(writing.admin_states(&name).await?, &backend).shown();
    let written = Written::new(writing.commit().await?, None);
    let body = StateCommit {
        commit: written.committed(&api.store, patience).await?,
        remaining: remaining(&api, &name, &backend).await?,
    };
    Ok(tagged(body, Some(ETag::of(&after))))
}

impl Saying {
    fn read(&self) -> Result<model::Saying, Vec<Mistake>> {
        let pace = self.pace.map(|pace| pace.read(self.state));
        Ok(model::Saying {
            state: self.state,
            pace: pace.transpose()?,
        })
    }
}

/// What was said of one backend.
#[derive(Default)]
struct Known {
    on_all: Option<AdminRow>,
    on_one: Vec<(Uuid, AdminRow)>,
}

impl Known {
    /// Of the rows of a pool those of a backend.
    fn of(rows: Vec<AdminRow>, backend: &str) -> Self {
        let mut known = Self::default();
        for row in rows.into_iter().filter(|row| row.backend == backend) {
            match row.agent {
                Some(agent) => known.on_one.push((agent, row)),
                None => known.on_all = Some(row),
            }
        }
        known
    }

    /// Whether nothing would change: saying it again takes no number.
    fn is_so(&self, wanted: model::Saying, agent: Option<Uuid>) -> bool {
        let same = |said: Admin| said.state == wanted.state && pace::is_so(said.pace, wanted.pace);
        let on_all = self
            .on_all
            .as_ref()
            .map_or(Admin::default(), |row| row.said);
        let Some(agent) = agent else {
            return same(on_all) && self.on_one.is_empty();
        };
        let own = self.on_one.iter().find(|(on, _)| *on == agent);
        same(own.map_or(on_all, |(_, row)| row.said))
    }

    /// Put together for people.
    fn shown(self) -> Said {
        let on_one = self.on_one.into_iter();
        let on_all = self.on_all;
        let said = on_all.as_ref().map_or(Admin::default(), |row| row.said);
        Said {
            state: said.state,
            pace: said.pace.map(Pace::from),
            set_at: on_all.as_ref().map(|row| row.set_at),
            set_by: on_all.map(|row| row.set_by),
            agents: on_one
                .map(|(agent, row)| SaidOnAgent {
                    agent,
                    state: row.said.state,
                    pace: row.said.pace.map(Pace::from),
                    set_by: row.set_by,
                    set_at: row.set_at,
                })
                .collect(),
        }
    }
}

async fn remaining(api: &Api, pool: &str, backend: &str) -> Result<Remaining, Problem> {
    let live = api.store.live_to(pool, backend, api.fresh_since()).await?;
    Ok(live.into())
}

/// The backend's place, when there is one: listed by the document, or an agent that
/// serves the listener the pool discovers.
pub(super) fn known(
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

/// An agent of the fleet, where one is wanted.
pub(super) fn known_agent(
    fleet: &[plan::Agent],
    wanted: Option<Uuid>,
) -> Result<Option<AgentId>, Problem> {
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
    use std::num::NonZeroU32;

    use serde_json::{Value, json};
    use tidegate_core::document::Role;
    use tidegate_core::snapshot::{DrainPace, Snapshot};
    use time::format_description::well_known::Rfc3339;

    use super::super::testing::{Fixture, get, post, put};
    use super::*;
    use crate::clock;

    const STATE: &str = "/pools/node/backends/:3000/state";

    async fn api() -> Fixture {
        let api = Fixture::new().await;
        api.apply(
            "
listeners: [{ name: edge, role: balancer, bind: ':443', pool: node }]
pools: [{ name: node, backends: [{ address: ':3000' }, { address: ':3001' }] }]
",
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
            json!({
                "state": "ready",
                "agents": [],
                "remaining": { "connections": 0, "agents": [] },
            })
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

    /// How the first backend is drained on an agent, as that is to run it.
    async fn planned(api: &Fixture, agent: Uuid) -> Option<DrainPace> {
        let desired = api.store.desired(AgentId(agent)).await.unwrap().unwrap();
        let snapshot = api.store.snapshot(desired.hash).await.unwrap();
        let snapshot = Snapshot::decode(&snapshot.unwrap().0).unwrap();
        snapshot.pools[0].backends[0].drain
    }

    #[tokio::test]
    async fn a_rate_is_planned_for_all_agents_or_for_one_and_ends_with_the_state() {
        let api = api().await;
        let one = api.agent(1, &[Role::Balancer], &[]).await;
        let other = api.agent(2, &[Role::Balancer], &[]).await;
        let rate = |n| Some(DrainPace::PerSecond(NonZeroU32::new(n).unwrap()));
        let pace = |n: u32| json!({ "per_second": n });
        let on_all = json!({ "state": "drain", "pace": pace(5) });
        let on_one = json!({ "state": "maintenance", "pace": pace(7), "agent": one });
        for (saying, changed, planned_on) in [
            (on_all.clone(), true, (rate(5), rate(5))),
            (on_all, false, (rate(5), rate(5))),
            (on_one.clone(), true, (rate(7), rate(5))),
            (on_one, false, (rate(7), rate(5))),
            (
                json!({ "state": "maintenance", "agent": one }),
                true,
                (None, rate(5)),
            ),
            (json!({ "state": "ready" }), true, (None, None)),
        ] {
            let done = api.ask(put(STATE).json(saying.clone())).await.ok();
            assert_eq!(done["changed"], changed, "{saying}");
            let planned = (planned(&api, one).await, planned(&api, other).await);
            assert_eq!(planned, planned_on, "{saying}");
            let read = api.get(STATE).await;
            let shown = planned_on.1.map_or(Value::Null, |_| pace(5));
            assert_eq!(read.get("pace").cloned().unwrap_or_default(), shown);
        }
        let audit = api.get("/audit?limit=4").await;
        assert_eq!(audit["items"][2]["action"], "maintenance 7 per second");
    }

    #[tokio::test]
    async fn a_time_begins_when_it_is_said_and_planning_again_does_not_move_it() {
        let api = api().await;
        let agent = api.agent(1, &[Role::Balancer], &[]).await;
        let drain = json!({ "state": "drain", "pace": { "within": "10m" } });
        let mut said = Vec::new();
        for _ in 0..2 {
            let before = clock::now();
            let done = api.ask(put(STATE).json(drain.clone())).await.ok();
            assert_eq!(done["changed"], true, "it begins anew");
            let Some(DrainPace::Until { since, until }) = planned(&api, agent).await else {
                panic!("no end is planned");
            };
            assert_eq!(until - since, 600_000);
            let millis = |at: OffsetDateTime| at.unix_timestamp_nanos() / 1_000_000;
            // Postgres' clock is this machine's.
            let around = millis(before)..=millis(clock::now());
            assert!(around.contains(&i128::from(since)), "{since} in {around:?}");
            said.push((since, until));
            let read = api.get(STATE).await;
            let shown = |at: &str| {
                let at = OffsetDateTime::parse(read["pace"][at].as_str().unwrap(), &Rfc3339);
                u64::try_from(millis(at.unwrap())).unwrap()
            };
            assert_eq!((shown("since"), shown("until")), (since, until));
        }
        assert!(said[0] <= said[1]);
        let other = json!({ "address": ":3001", "weight": 3 });
        api.ask(put("/pools/node/backends/:3001").json(other))
            .await
            .ok();
        let (since, until) = said[1];
        let still = Some(DrainPace::Until { since, until });
        assert_eq!(planned(&api, agent).await, still);
    }

    #[tokio::test]
    async fn a_pace_that_says_nothing_or_two_things_is_refused_and_one_of_a_ready_backend() {
        let api = api().await;
        let rows = [
            (json!({ "state": "drain", "pace": {} }), "/pace"),
            (
                json!({ "state": "drain", "pace": { "per_second": 1, "within": "1s" } }),
                "/pace",
            ),
            (
                json!({ "state": "ready", "pace": { "per_second": 1 } }),
                "/pace",
            ),
            (
                json!({ "state": "drain", "pace": { "per_second": 0 } }),
                "/pace/per_second",
            ),
            (
                json!({ "state": "drain", "pace": { "within": "0s" } }),
                "/pace/within",
            ),
            (
                json!({ "state": "drain", "pace": { "until": "noon" } }),
                "/pace/until",
            ),
        ];
        for (saying, pointer) in rows {
            let answer = api.ask(put(STATE).json(saying.clone())).await;
            assert_eq!(answer.pointers(), [pointer], "{saying}");
        }
        assert_eq!(api.get(STATE).await["state"], "ready");
    }

    #[tokio::test]
    async fn what_remains_is_the_sum_of_what_agents_said_last_and_moves_no_tag() {
        let api = api().await;
        let drain = json!({ "state": "drain", "pace": { "per_second": 5 } });
        let said = api.ask(put(STATE).json(drain.clone())).await;
        let nothing = json!({ "connections": 0, "agents": [] });
        assert_eq!(said.ok()["remaining"], nothing);
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        api.store
            .execute(&format!(
                "insert into observed_backends (agent, pool, backend, address, up, admin, in_flight,
                                                connects, connects_failed, connect_rate, at) values
                 ('{one}', 'node', ':3000', '10.0.0.1:3000', true, 'drain', 5, 9, 1, 0.5, now()),
                 ('{one}', 'node', ':3001', '10.0.0.1:3001', true, 'ready', 50, 9, 1, 0.5, now()),
                 ('{two}', 'node', ':3000', '10.0.0.2:3000', true, 'drain', 7, 9, 1, 0.5,
                  now() - interval '16 seconds')"
            ))
            .await;
        let read = api.ask(get(STATE)).await;
        assert_eq!(read.tag(), said.tag());
        let again = api.ask(put(STATE).json(drain).if_match(&read.tag())).await;
        for remaining in [&read.ok()["remaining"], &again.ok()["remaining"]] {
            assert_eq!(remaining["connections"], 12);
            let agents = remaining["agents"].as_array().unwrap();
            let seen = agents.iter().map(|a| (&a["connections"], &a["stale"]));
            assert_eq!(
                seen.collect::<Vec<_>>(),
                [(&json!(5), &json!(false)), (&json!(7), &json!(true))]
            );
            assert_eq!(remaining["oldest_at"], agents[1]["at"]);
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
