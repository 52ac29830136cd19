//! Join tokens: with one an instance becomes an agent. Roles and labels are the
//! token's, since they decide which keys an agent gets.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidegate_core::document::{Labels, Mistake, Role, Timeout};
use tidegate_core::join_token::JoinToken;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::Api;
use super::answer::{Items, Tagged};
use super::auth::{Caller, Operator, Viewer};
use super::extract::{Json, Place};
use super::problem::Problem;
use super::{names, schema};
use crate::clock;
use crate::model::StoredJoinToken;
use crate::seal;

const DEFAULT_EXPIRY: Duration = Duration::from_secs(3600);
/// Agents that join with one token.
const MOST_USES: u32 = 100_000;
/// Labels of an agent, and characters of each half.
const MOST_LABELS: usize = 32;
const LABEL: usize = 63;

/// A token in a list: without its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct JoinTokenInfo {
    id: String,
    /// What agents made with it may do.
    #[schema(value_type = Vec<schema::Role>)]
    roles: Vec<Role>,
    /// What selectors see of agents made with it.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    labels: Labels,
    /// How many agents may join with it.
    uses: u32,
    /// How many have.
    used: u32,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    created_by: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// A token that was made: the only time it is shown.
#[derive(Serialize, ToSchema)]
pub(super) struct NewJoinToken {
    /// Give it to the agent by file, variable or stdin, never as an argument.
    token: String,
    #[serde(flatten)]
    info: JoinTokenInfo,
}

/// What to make.
#[derive(Deserialize, ToSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping with roles, labels, uses and expires_in"
)]
pub(super) struct JoinTokenRequest {
    #[schema(value_type = Vec<schema::Role>)]
    roles: BTreeSet<Role>,
    #[serde(default)]
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    labels: Labels,
    /// 1 unless written.
    uses: Option<u32>,
    /// `1h` unless written, `366d` at most.
    #[schema(value_type = Option<String>, example = "1h")]
    expires_in: Option<Timeout>,
}

/// All join tokens.
#[utoipa::path(
    get,
    path = "/join-tokens",
    tag = "tokens",
    responses((status = 200, description = "Youngest first", body = Items<JoinTokenInfo>))
)]
pub(super) async fn list_join_tokens(
    _: Caller<Viewer>,
    State(api): State<Api>,
) -> Result<Tagged, Problem> {
    let tokens = api.store.join_tokens().await?;
    Tagged::list(tokens.into_iter().map(JoinTokenInfo::from))
}

/// Makes a join token.
#[utoipa::path(
    post,
    path = "/join-tokens",
    tag = "tokens",
    request_body = JoinTokenRequest,
    responses((status = 201, description = "The only time it is shown", body = NewJoinToken))
)]
pub(super) async fn create_join_token(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Json(wanted): Json<JoinTokenRequest>,
) -> Result<Response, Problem> {
    let uses = checked(&wanted).map_err(Problem::mistakes)?;
    let lifetime = wanted.expires_in.map_or(DEFAULT_EXPIRY, Timeout::duration);
    let id = seal::random().map_err(Problem::internal)?;
    let secret = seal::random().map_err(Problem::internal)?;
    let token = JoinToken::new(*id, *secret, api.pin);
    let (author, expires_at) = (&caller.author, clock::now() + lifetime);
    let roles: Vec<Role> = wanted.roles.into_iter().collect();
    let stored = api
        .store
        .add_join_token(author, &token, &roles, &wanted.labels, uses, expires_at);
    let made = NewJoinToken {
        token: token.reveal(),
        info: stored.await?.into(),
    };
    Ok((StatusCode::CREATED, axum::Json(made)).into_response())
}

/// Removes a join token: nobody joins with it any more; who has stays.
#[utoipa::path(
    delete,
    path = "/join-tokens/{id}",
    tag = "tokens",
    params(("id" = String, Path)),
    responses((status = 204, description = "It is gone"))
)]
pub(super) async fn delete_join_token(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place(id): Place<String>,
) -> Result<StatusCode, Problem> {
    if api.store.remove_join_token(&caller.author, &id).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    let tokens = api.store.join_tokens().await?;
    let there = names::there_is(&id, tokens.iter().map(|token| token.id.as_str()));
    Err(Problem::not_found(format!("no join token {id}; {there}")))
}

impl From<StoredJoinToken> for JoinTokenInfo {
    fn from(stored: StoredJoinToken) -> Self {
        Self {
            id: stored.id,
            roles: stored.roles.into_iter().collect(),
            labels: stored.labels,
            uses: stored.uses.unsigned_abs(),
            used: stored.used.unsigned_abs(),
            expires_at: stored.expires_at,
            created_by: stored.created_by,
            created_at: stored.created_at,
        }
    }
}

/// How often it may be used, unless something is wrong.
fn checked(wanted: &JoinTokenRequest) -> Result<i32, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    if wanted.roles.is_empty() {
        mistakes.push(Mistake::new(
            "/roles",
            "empty: write balancer, terminator or both",
        ));
    }
    let uses = wanted.uses.unwrap_or(1);
    if !(1..=MOST_USES).contains(&uses) {
        mistakes.push(Mistake::new("/uses", format!("write 1 to {MOST_USES}")));
    }
    if wanted.labels.len() > MOST_LABELS {
        mistakes.push(Mistake::new(
            "/labels",
            format!("{MOST_LABELS} labels at most"),
        ));
    }
    let fits = |text: &str| text.len() <= LABEL && !text.contains(char::is_control);
    for (key, value) in &wanted.labels {
        if key.is_empty() || !fits(key) || !fits(value) {
            let at = key.replace('~', "~0").replace('/', "~1");
            mistakes.push(Mistake::new(
                format!("/labels/{at}"),
                format!("a label is KEY: VALUE, each with {LABEL} bytes at most"),
            ));
        }
    }
    match i32::try_from(uses) {
        Ok(uses) if mistakes.is_empty() => Ok(uses),
        _ => Err(mistakes),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tidegate_core::document::Document;

    use super::super::testing::{Fixture, delete, get, post};
    use super::*;

    fn places(body: Value) -> Vec<String> {
        let checked = Document::part::<JoinTokenRequest>(body).and_then(|w| checked(&w));
        let mistakes = checked.err().unwrap_or_default();
        mistakes.into_iter().map(|m| m.pointer).collect()
    }

    #[test]
    fn what_no_agent_can_be_made_of_is_refused_all_at_once() {
        let long = "x".repeat(64);
        let many: serde_json::Map<_, _> = (0..33).map(|n| (n.to_string(), "".into())).collect();
        let table = [
            (json!({ "roles": ["balancer"] }), vec![]),
            (
                json!({ "roles": ["balancer"], "labels": { "tier": "edge" }, "uses": 3, "expires_in": "10m" }),
                vec![],
            ),
            (json!({}), vec![""]),
            (json!({ "roles": [], "uses": 0 }), vec!["/roles", "/uses"]),
            (
                json!({ "roles": ["admin"], "expires_in": "soon", "count": 1 }),
                vec!["/count", "/expires_in", "/roles/0"],
            ),
            (
                json!({ "roles": ["balancer"], "labels": { "a/b": long, "": "x" } }),
                vec!["/labels/", "/labels/a~1b"],
            ),
            (
                json!({ "roles": ["balancer"], "labels": many, "uses": 100_001 }),
                vec!["/uses", "/labels"],
            ),
        ];
        for (body, expected) in table {
            let mut found = places(body.clone());
            found.sort();
            let mut expected = expected;
            expected.sort_unstable();
            assert_eq!(found, expected, "{body}");
        }
    }

    #[tokio::test]
    async fn a_join_token_is_shown_once_and_gone_when_deleted() {
        let api = Fixture::new().await;
        let wanted =
            json!({ "roles": ["terminator"], "labels": { "app": "game" }, "expires_in": "10m" });
        let made = api.ask(post("/join-tokens").json(wanted)).await;
        assert_eq!(made.status, 201);
        let made = made.ok();
        let text = made["token"].as_str().unwrap();
        let token: JoinToken = text.parse().ok().unwrap();
        assert_eq!(token.id, made["id"]);

        let list = api.ask(get("/join-tokens")).await;
        let secret = text.split('.').nth(2).unwrap();
        assert!(!String::from_utf8_lossy(&list.body).contains(secret));
        let mut expected = made.clone();
        expected.as_object_mut().unwrap().remove("token");
        assert_eq!(list.json()["items"], json!([expected]));

        let path = format!("/join-tokens/{}", token.id);
        assert_eq!(api.ask(delete(&path)).await.status, 204);
        assert_eq!(api.ask(delete(&path)).await.problem(), "not-found");
        assert_eq!(api.get("/join-tokens").await, json!({ "items": [] }));
    }
}
