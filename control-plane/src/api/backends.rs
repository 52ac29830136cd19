//! Backends of a pool: how each agent sees them, and those listed by hand, one by
//! one. What operators say of one is in `states`.

use std::collections::HashMap;
use std::net::SocketAddr;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use tidegate_core::document::{self, AdminState, BackendName, Document, Pool};
use tidegate_core::plan;
use utoipa::ToSchema;

use super::Api;
use super::answer::{Committed, Items, Tagged, Written};
use super::auth::{Caller, Operator, Viewer};
use super::etag::{ETag, IfMatch, Precondition};
use super::extract::{Asked, Json, Place};
use super::problem::Problem;
use super::resource::{self, Kind};
use super::wait::{End, WriteQuery};
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
    params(("name" = String, Path), ("backend" = String, Path), WriteQuery, Precondition),
    request_body = schema::Backend,
    responses((status = 200, description = "What changed", body = Committed))
)]
pub(super) async fn put_backend(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place((name, backend)): Place<(String, String)>,
    Asked(query): Asked<WriteQuery>,
    if_match: IfMatch,
    Json(body): Json<Value>,
) -> Result<Response, Problem> {
    let end = query.end()?;
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
    let commit = resource::end(writing, end, place).await?;
    let is_there = commit.changed && end != End::DryRun;
    let written = Written::new(commit, if is_there { after } else { before });
    written.answer(&api.store, end.patience()).await
}

/// Takes a backend out of its pool. Connections it has live until they end.
#[utoipa::path(
    delete,
    path = "/pools/{name}/backends/{backend}",
    tag = "document",
    params(("name" = String, Path), ("backend" = String, Path), WriteQuery, Precondition),
    responses((status = 200, description = "What changed", body = Committed))
)]
pub(super) async fn delete_backend(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place((name, backend)): Place<(String, String)>,
    Asked(query): Asked<WriteQuery>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let end = query.end()?;
    let mut writing = api.store.write(&caller.author).await?;
    let tree = resource::whole(writing.document())?;
    let Some(rest) = tree::take_backend(tree, &name, &backend) else {
        return Err(missing(pool(writing.document(), &name)?, &backend));
    };
    let before = tag(writing.document(), &name, &backend);
    if_match.check(before.as_ref())?;
    let document = resource::in_fleet(&mut writing, rest, None).await?;
    writing.set_document(
        document,
        "delete",
        &format!("pools/{name}/backends/{backend}"),
    );
    let commit = resource::end(writing, end, None).await?;
    let written = Written::new(commit, before.filter(|_| end == End::DryRun));
    written.answer(&api.store, end.patience()).await
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
        let there = names::there_is(name, there.iter().map(BackendName::as_str));
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
        let weight = Some(backend.weight.get());
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
    found.map_or(AdminState::Ready, |row| row.said.state)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidegate_core::document::Role;

    use super::super::testing::{Fixture, delete, get, put};

    const DOCUMENT: &str = "
listeners:
- { name: tls, role: terminator, agents: { app: game }, bind: ':8443', pool: node, accept_proxy: none, tls: { certificates: [c] } }
pools:
- { name: found, discover: { listener: tls } }
- { name: node, backends: [{ address: '127.0.0.1:3000' }, { name: two, address: ':3001', weight: 7 }] }
";

    async fn api() -> Fixture {
        let api = Fixture::new().await;
        let (chain, key) = super::super::pair::tests::certificate("c");
        let upload = json!({ "chain": chain, "private_key": key });
        api.ask(put("/certificates/c").json(upload)).await.ok();
        api.apply(DOCUMENT).await;
        api
    }

    #[tokio::test]
    async fn a_listed_backend_is_read_written_and_deleted_by_name_or_address() {
        let api = api().await;
        let path = "/pools/node/backends/127.0.0.1:3000";
        let read = api.ask(get(path)).await;
        assert_eq!(
            read.json(),
            json!({ "address": "127.0.0.1:3000", "weight": 1 })
        );
        let heavier = json!({ "address": "127.0.0.1:3000", "weight": 3 });
        let written = api
            .ask(put(path).json(heavier.clone()).if_match(&read.tag()))
            .await;
        let field = &written.ok()["diff"][0]["fields"][0];
        assert_eq!(field["pointer"], "/backends/127.0.0.1:3000/weight");
        assert_eq!(api.ask(get(path)).await.tag(), written.tag());
        assert_eq!(
            api.ask(put(path).json(heavier).if_match(&read.tag()))
                .await
                .problem(),
            "stale"
        );

        let moved = json!({ "address": "127.0.0.1:4000" });
        api.ask(put("/pools/node/backends/two").json(moved))
            .await
            .ok();
        let two = api.get("/pools/node/backends/two").await;
        assert_eq!(
            two,
            json!({ "name": "two", "address": "127.0.0.1:4000", "weight": 1 })
        );

        assert_eq!(
            api.ask(delete("/pools/node/backends/two")).await.status,
            200
        );
        let last = api.ask(delete(path)).await;
        assert_eq!(
            last.pointers(),
            ["/config/pools/1"],
            "nothing to balance to"
        );
    }

    #[tokio::test]
    async fn mistakes_of_a_backend_lead_into_it_or_into_the_document() {
        let api = api().await;
        let new = "/pools/node/backends/new";
        let rows = [
            (
                put(new).json(json!({ "address": "nowhere", "weight": 257 })),
                vec!["/address", "/weight"],
            ),
            (
                put(new).json(json!({ "name": "old", "address": ":1" })),
                vec!["/name"],
            ),
            (
                put("/pools/found/backends/new").json(json!({ "address": ":1" })),
                vec!["/config/pools/0/discover"],
            ),
        ];
        for (row, (asked, expected)) in rows.into_iter().enumerate() {
            let answer = api.ask(asked).await;
            assert_eq!(answer.pointers(), expected, "row {row}: {}", answer.json());
        }
        for asked in [
            get("/pools/gone/backends"),
            get("/pools/node/backends/:3001"),
            get("/pools/found/backends/x"),
            put("/pools/gone/backends/x").json(json!({ "address": ":1" })),
            delete("/pools/node/backends/x"),
            delete("/pools/found/backends/x"),
        ] {
            assert_eq!(api.ask(asked).await.problem(), "not-found");
        }
    }

    #[tokio::test]
    async fn a_pool_tells_what_each_agent_sees_of_each_backend() {
        let api = api().await;
        let game = [("app", "game")];
        let (one, two) = (
            api.agent(1, &[Role::Terminator], &game).await,
            api.agent(2, &[Role::Terminator], &game).await,
        );
        api.agent(3, &[Role::Terminator], &[]).await;
        api.store
            .execute(&format!(
                "insert into observed_backends values
                 ('{one}', 'node', 'two', '10.0.0.1:3001', true, 'ready', 5, 9, 1, 0.5, true, '200 OK', now(), now()),
                 ('{two}', 'node', 'two', '10.0.0.2:3001', false, 'ready', 0, 0, 0, 0, null, null, null,
                  now() - interval '16 seconds'),
                 ('{two}', 'node', 'gone', '10.0.0.2:1', true, 'ready', 1, 1, 0, 0, null, null, null, now());
                 update observed_backends set ejected = true, weight = 1.5 where agent = '{one}'"
            ))
            .await;
        let node = api.get("/pools/node/backends").await;
        let items = node["items"].as_array().unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!(items[0]["name"], "127.0.0.1:3000");
        assert_eq!(items[0]["agents"], json!([]));
        assert_eq!(
            (&items[1]["weight"], &items[1]["discovered"]),
            (&json!(7), &json!(false))
        );
        let seen = items[1]["agents"].as_array().unwrap();
        assert_eq!(seen[0]["agent"], one.to_string());
        assert_eq!(seen[0]["last_check"]["words"], "200 OK");
        assert_eq!(
            (&seen[0]["in_flight"], &seen[0]["stale"]),
            (&json!(5), &json!(false))
        );
        assert_eq!(
            (&seen[1]["up"], &seen[1]["stale"]),
            (&json!(false), &json!(true))
        );
        assert_eq!(seen[1].get("last_check"), None);
        assert_eq!(
            (&seen[0]["ejected"], &seen[0]["weight"]),
            (&json!(true), &json!(1.5))
        );
        assert_eq!(seen[1]["ejected"], false);
        assert_eq!(seen[1].get("weight"), None);

        let found = api.get("/pools/found/backends").await;
        let names: Vec<_> = found["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|b| (&b["name"], &b["address"]))
            .collect();
        assert_eq!(
            names,
            [
                (&json!(one.to_string()), &json!("10.0.0.1:8443")),
                (&json!(two.to_string()), &json!("10.0.0.2:8443")),
            ]
        );
        assert_eq!(found["items"][0]["discovered"], true);
    }
}
