//! Keys of session tickets: which there are, never what they are, and a new one
//! out of turn. They rotate by themselves (`rotation`).

use axum::extract::State;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::Api;
use super::answer::{Items, Tagged};
use super::auth::{Caller, Operator, Viewer};
use super::extract::Asked;
use super::problem::Problem;
use crate::store::TicketKeyRow;

/// A key of a listener's session tickets.
#[derive(Serialize, ToSchema)]
pub(super) struct TicketKey {
    /// 16 hexadecimal digits; the head of each ticket made with it.
    id: String,
    listener: String,
    /// `next` opens tickets and makes none yet, `encrypting` makes them, `previous` made
    /// them.
    stage: &'static str,
    /// Connected terminators that do not hold it yet.
    lacking: u64,
    #[serde(with = "time::serde::rfc3339")]
    made_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    encrypting_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    replaced_at: Option<OffsetDateTime>,
}

impl From<TicketKeyRow> for TicketKey {
    fn from(row: TicketKeyRow) -> Self {
        Self {
            id: format!("{:016x}", row.id),
            listener: row.listener,
            stage: row.stage.as_str(),
            lacking: row.lacking,
            made_at: row.made_at,
            encrypting_at: row.encrypting_at,
            replaced_at: row.replaced_at,
        }
    }
}

/// Of what, and how.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RotateQuery {
    /// Of this listener only; of all that end TLS when absent.
    listener: Option<String>,
    /// Deletes all keys there are at once, everywhere: for keys that somebody may have
    /// stolen. Clients resume no older session then.
    #[serde(default)]
    drop_old: bool,
}

/// What came of it.
#[derive(Serialize, ToSchema)]
pub(super) struct Rotated {
    /// Listeners with a new key. It makes tickets when every connected terminator holds
    /// it, after 10 minutes at most.
    listeners: Vec<String>,
}

/// The keys of session tickets, without their bytes.
#[utoipa::path(
    get,
    path = "/ticket-keys",
    tag = "fleet",
    responses((status = 200, description = "By listener, youngest first", body = Items<TicketKey>))
)]
pub(super) async fn list_ticket_keys(
    _: Caller<Viewer>,
    State(api): State<Api>,
) -> Result<Tagged, Problem> {
    let rows = api.store.ticket_keys().await?;
    Tagged::list(rows.into_iter().map(TicketKey::from))
}

/// Makes a new key now, as after a suspected theft of one.
#[utoipa::path(
    post,
    path = "/ticket-keys/rotate",
    tag = "fleet",
    params(RotateQuery),
    responses((status = 200, description = "It is on its way", body = Rotated))
)]
pub(super) async fn rotate_ticket_keys(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Asked(asked): Asked<RotateQuery>,
) -> Result<axum::Json<Rotated>, Problem> {
    let listener = asked.listener.as_deref();
    let rotated = api
        .store
        .rotate_ticket_keys(&caller.author, &api.kek, listener, asked.drop_old);
    let missing = || Problem::not_found("no listener of that name hands out session tickets");
    let listeners = rotated.await?.ok_or_else(missing)?;
    Ok(axum::Json(Rotated { listeners }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use tidegate_core::document::Role;
    use tidegate_core::tickets::{Step, Timing};
    use uuid::Uuid;

    use super::super::pair::tests::certificate;
    use super::super::testing::{Fixture, post, put};
    use crate::model::AgentId;

    const APPS: &[(&str, &str)] = &[("app", "game")];

    /// One terminator listener, and a pool for it.
    async fn api() -> Fixture {
        let api = Fixture::new().await;
        let (chain, key) = certificate("play.example.com");
        let material = json!({ "chain": chain, "private_key": key });
        api.ask(put("/certificates/play").json(material)).await.ok();
        api.apply(
            "listeners: [{ name: game, role: terminator, agents: { app: game }, bind: ':8443',
               tls: { certificates: [play] }, mode: tcp, client_ip: none, pool: node }]
pools: [{ name: node, backends: [{ address: ':3000' }] }]
certificates: [{ name: play }]",
        )
        .await;
        api
    }

    async fn keep(api: &Fixture) -> Vec<Step> {
        let timing = Timing::default();
        let kept = api.store.keep_ticket_keys(&api.kek, &timing);
        kept.await
            .unwrap()
            .into_iter()
            .map(|(_, step)| step)
            .collect()
    }

    async fn keys(api: &Fixture) -> Vec<Value> {
        let keys = api.get("/ticket-keys").await["items"].clone();
        keys.as_array().unwrap().clone()
    }

    fn stages(keys: &[Value]) -> Vec<&str> {
        keys.iter()
            .map(|key| key["stage"].as_str().unwrap())
            .collect()
    }

    async fn holds(api: &Fixture, agent: Uuid, session: Uuid, key: &Value) {
        let id = i64::from_str_radix(key["id"].as_str().unwrap(), 16).unwrap();
        let (store, keys) = (&api.store, [id]);
        let held = store.agent_holds(AgentId(agent), session, &keys).await;
        held.unwrap();
    }

    #[tokio::test]
    async fn a_key_makes_tickets_when_every_connected_terminator_holds_it() {
        let api = api().await;
        let one = api.agent(1, &[Role::Terminator], APPS).await;
        let two = api.agent(2, &[Role::Terminator], APPS).await;
        let other = api.agent(3, &[Role::Terminator], &[]).await;
        let away = api.agent(4, &[Role::Terminator], APPS).await;
        let older = api.connect(one, 1).await;
        let its = api.connect(two, 2).await;
        api.connect(other, 3).await;
        assert_eq!(keep(&api).await, [Step::Make]);
        let made = keys(&api).await;
        assert_eq!(
            (stages(&made), &made[0]["lacking"]),
            (vec!["next"], &json!(2))
        );
        assert_eq!(keep(&api).await, []);
        holds(&api, one, older, &made[0]).await;
        assert_eq!(keep(&api).await, []);
        // Who connects anew holds nothing until it says so again.
        holds(&api, two, its, &made[0]).await;
        let newer = api.connect(one, 1).await;
        assert_eq!(keep(&api).await, []);
        holds(&api, one, older, &made[0]).await;
        assert_eq!(keep(&api).await, [], "an older session says nothing");
        holds(&api, one, newer, &made[0]).await;
        assert!(matches!(keep(&api).await[..], [Step::Promote(_)]));
        assert_eq!(stages(&keys(&api).await), ["encrypting"]);
        assert_eq!(
            keep(&api).await,
            [],
            "{away} is not connected and is not waited for"
        );
    }

    #[tokio::test]
    async fn who_does_not_answer_is_waited_for_ten_minutes_and_keys_are_retired() {
        let api = api().await;
        let silent = api.agent(1, &[Role::Terminator], APPS).await;
        api.connect(silent, 1).await;
        keep(&api).await;
        let older = |column: &str, by: &str| {
            format!("update ticket_keys set {column} = {column} - interval '{by}'")
        };
        api.store
            .execute(&older("made_at", "9 minutes 50 seconds"))
            .await;
        assert_eq!(keep(&api).await, []);
        api.store.execute(&older("made_at", "11 seconds")).await;
        assert!(matches!(keep(&api).await[..], [Step::Promote(_)]));
        api.store.execute(&older("encrypting_at", "12 hours")).await;
        assert_eq!(keep(&api).await, [Step::Make]);
        assert_eq!(stages(&keys(&api).await), ["next", "encrypting"]);
        api.store.execute("update agents set session = null").await;
        assert!(matches!(keep(&api).await[..], [Step::Promote(_)]));
        assert_eq!(stages(&keys(&api).await), ["encrypting", "previous"]);
        api.store
            .execute("update ticket_keys set encrypting_at = now() - interval '48 hours' where replaced_at is not null")
            .await;
        assert!(matches!(keep(&api).await[..], [Step::Retire(_)]));
        assert_eq!(stages(&keys(&api).await), ["encrypting"]);
    }

    #[tokio::test]
    async fn a_rotation_out_of_turn_is_one_more_key_or_drops_all_and_is_in_the_audit() {
        let api = api().await;
        keep(&api).await;
        keep(&api).await;
        let number = api.store.ticket_number().await.unwrap().number;
        let before = api.store.numbers().await.unwrap();
        let rotated = api.ask(post("/ticket-keys/rotate?listener=game")).await;
        assert_eq!(rotated.ok(), json!({ "listeners": ["game"] }));
        assert_eq!(stages(&keys(&api).await), ["next", "encrypting"]);
        // Asked again: the one that waits is replaced, not joined by another.
        api.ask(post("/ticket-keys/rotate")).await.ok();
        let two = keys(&api).await;
        assert_eq!(stages(&two), ["next", "encrypting"]);
        api.ask(post("/ticket-keys/rotate?drop_old=true"))
            .await
            .ok();
        let left = keys(&api).await;
        assert_eq!(stages(&left), ["next"]);
        assert!(two.iter().all(|key| key["id"] != left[0]["id"]));
        assert_eq!(api.store.ticket_number().await.unwrap().number, number + 3);
        assert_eq!(
            api.store.numbers().await.unwrap(),
            before,
            "no snapshot changes"
        );
        let audit = api.get("/audit?limit=3").await["items"].clone();
        let actions = audit
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["action"].clone());
        assert_eq!(
            actions.collect::<Vec<_>>(),
            ["rotate, drop old", "rotate", "rotate"]
        );
        assert_eq!(audit[0]["subject"], "ticket-keys/game");
        for nobody in ["edge", "node"] {
            let place = format!("/ticket-keys/rotate?listener={nobody}");
            assert_eq!(api.ask(post(&place)).await.problem(), "not-found");
        }
    }

    #[tokio::test]
    async fn snapshots_from_before_the_migration_have_their_listeners() {
        let api = api().await;
        let agent = api.agent(1, &[Role::Terminator], APPS).await;
        api.connect(agent, 1).await;
        keep(&api).await;
        api.store
            .execute("update snapshots set terminates = '{}'")
            .await;
        assert_eq!(keys(&api).await[0]["lacking"], 0);
        let migration = include_str!("../../../migrations/0006_ticket_keys.sql");
        let at = migration.find("update snapshots").unwrap();
        api.store.execute(&migration[at..]).await;
        assert_eq!(keys(&api).await[0]["lacking"], 1);
    }

    #[tokio::test]
    async fn several_control_planes_at_once_make_one_key() {
        let api = api().await;
        let all = tokio::join!(keep(&api), keep(&api), keep(&api), keep(&api));
        // Who looked later may have promoted it, since nobody is connected.
        let steps = [all.0, all.1, all.2, all.3].concat();
        let made = steps.iter().filter(|step| **step == Step::Make);
        assert_eq!(made.count(), 1, "{steps:?}");
        assert_eq!(keys(&api).await.len(), 1);
    }

    #[tokio::test]
    async fn keys_are_sealed_for_their_place_and_go_with_their_listener() {
        let api = api().await;
        keep(&api).await;
        let set = api.store.ticket_set().await.unwrap();
        let key = &set.listeners["game"][0];
        let open = |listener: &str, id| {
            let purpose = crate::seal::ticket_key_purpose(listener, id);
            api.kek.open(&purpose, &key.sealed).map(|key| key.len())
        };
        assert_eq!(open("game", key.epoch.id).unwrap(), 32);
        assert!(open("other", key.epoch.id).is_err());
        assert!(open("game", key.epoch.id ^ 1).is_err());
        assert!(set.now() > Duration::from_hours(24 * 365 * 50));
        api.apply("listeners: []").await;
        keep(&api).await;
        assert_eq!(keys(&api).await, Vec::<Value>::new());
    }
}
