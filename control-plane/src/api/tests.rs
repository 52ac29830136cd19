//! What holds for every route: who may use it, how its problems look, that it is
//! described, and that no answer holds a key. To add a route, add its row.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};

use super::openapi;
use super::pair::tests::certificate;
use super::testing::{Fixture, ROLES, add_token, ask, get, put};
use crate::model::ApiRole::{self, Admin, Operator, Viewer};

const UUID: &str = "00000000-0000-7000-8000-000000000000";

/// Every route, with the least role that may use it.
const ROUTES: [(Method, &str, ApiRole); 55] = [
    (Method::GET, "/config", Viewer),
    (Method::PUT, "/config", Operator),
    (Method::GET, "/listeners", Viewer),
    (Method::GET, "/listeners/{name}", Viewer),
    (Method::PUT, "/listeners/{name}", Operator),
    (Method::DELETE, "/listeners/{name}", Operator),
    (Method::GET, "/pools", Viewer),
    (Method::GET, "/pools/{name}", Viewer),
    (Method::PUT, "/pools/{name}", Operator),
    (Method::DELETE, "/pools/{name}", Operator),
    (Method::GET, "/pools/{name}/agents", Viewer),
    (Method::GET, "/pools/{name}/backends", Viewer),
    (Method::GET, "/pools/{name}/backends/{backend}", Viewer),
    (Method::PUT, "/pools/{name}/backends/{backend}", Operator),
    (Method::DELETE, "/pools/{name}/backends/{backend}", Operator),
    (
        Method::GET,
        "/pools/{name}/backends/{backend}/state",
        Viewer,
    ),
    (
        Method::PUT,
        "/pools/{name}/backends/{backend}/state",
        Operator,
    ),
    (
        Method::POST,
        "/pools/{name}/backends/{backend}/kill",
        Operator,
    ),
    (Method::GET, "/policies", Viewer),
    (Method::GET, "/policies/{name}", Viewer),
    (Method::PUT, "/policies/{name}", Operator),
    (Method::DELETE, "/policies/{name}", Operator),
    (Method::GET, "/certificates", Viewer),
    (Method::GET, "/certificates/{name}", Viewer),
    (Method::PUT, "/certificates/{name}", Operator),
    (Method::DELETE, "/certificates/{name}", Operator),
    (Method::GET, "/agents", Viewer),
    (Method::GET, "/agents/{id}", Viewer),
    (Method::DELETE, "/agents/{id}", Operator),
    (Method::POST, "/agents/{id}/revoke", Operator),
    (Method::GET, "/join-tokens", Viewer),
    (Method::POST, "/join-tokens", Operator),
    (Method::DELETE, "/join-tokens/{id}", Operator),
    (Method::GET, "/api-tokens", Admin),
    (Method::POST, "/api-tokens", Admin),
    (Method::DELETE, "/api-tokens/{id}", Admin),
    (Method::GET, "/revisions", Viewer),
    (Method::GET, "/revisions/{number}", Viewer),
    (Method::GET, "/revisions/{number}/diff", Viewer),
    (Method::POST, "/revisions/{number}/rollback", Operator),
    (Method::GET, "/ticket-keys", Viewer),
    (Method::POST, "/ticket-keys/rotate", Operator),
    (Method::GET, "/ip-stats/top", Viewer),
    (Method::GET, "/ip-stats/{ip}", Viewer),
    (Method::GET, "/status", Viewer),
    (Method::GET, "/session", Viewer),
    (Method::DELETE, "/session", Viewer),
    (Method::GET, "/topology", Viewer),
    (Method::GET, "/attention", Viewer),
    (Method::GET, "/series", Viewer),
    (Method::GET, "/series/agents/{id}", Viewer),
    (Method::GET, "/series/listeners/{name}", Viewer),
    (Method::GET, "/series/pools/{name}", Viewer),
    (
        Method::GET,
        "/series/pools/{name}/backends/{backend}",
        Viewer,
    ),
    (Method::GET, "/audit", Viewer),
];

/// Routes for those who have yet to say who they are, or that never end. Their own
/// tests are beside them.
const OTHERS: [(Method, &str); 2] = [(Method::POST, "/session"), (Method::GET, "/events")];

/// A path with these in its places.
fn filled(path: &str, name: &str, backend: &str, id: &str) -> String {
    path.replace("{name}", name)
        .replace("{backend}", backend)
        .replace("{id}", id)
        .replace("{number}", "1")
        .replace("{ip}", "192.0.2.7")
}

#[tokio::test]
async fn who_may_not_is_told_before_anything_else_is_looked_at() {
    let api = Fixture::new().await;
    let expired = add_token(&api.store, Admin, Duration::ZERO).await;
    let unknown = format!("tga1.{}.{}", "0".repeat(16), "0".repeat(64));
    let forged = {
        let token = api.token(Admin);
        let (public, secret) = token.rsplit_once('.').unwrap();
        let turned = if secret.starts_with('0') { "1" } else { "0" };
        format!("{public}.{turned}{}", &secret[1..])
    };
    for (method, path, least) in ROUTES {
        let path = filled(path, "x", "y", UUID);
        let asked = || ask(method.clone(), &path).body("text/plain", "not { even JSON");
        for token in [
            None,
            Some("x"),
            Some(&unknown),
            Some(&forged),
            Some(&expired),
        ] {
            let answer = api.ask_as(token, asked()).await;
            assert_eq!(
                answer.problem(),
                "unauthenticated",
                "{method} {path} {token:?}"
            );
            assert!(answer.headers.contains_key(header::WWW_AUTHENTICATE));
        }
        for role in ROLES {
            let answer = api.ask_as(Some(api.token(role)), asked()).await;
            let refused = answer.status == StatusCode::FORBIDDEN;
            assert_eq!(refused, role < least, "{method} {path} as {role:?}");
            assert_ne!(answer.status, StatusCode::UNAUTHORIZED);
            assert_ne!(
                answer.status,
                StatusCode::INTERNAL_SERVER_ERROR,
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn a_token_that_was_removed_is_refused_at_once() {
    let api = Fixture::new().await;
    let token = add_token(&api.store, Viewer, Duration::from_secs(60)).await;
    assert_eq!(api.ask_as(Some(&token), get("/status")).await.status, 200);
    let id = token.split('.').nth(1).unwrap();
    api.ask(ask(Method::DELETE, &format!("/api-tokens/{id}")))
        .await;
    let answer = api.ask_as(Some(&token), get("/status")).await;
    assert_eq!(answer.problem(), "unauthenticated");
}

#[tokio::test]
async fn every_answer_is_neither_kept_nor_guessed_at() {
    let api = Fixture::new().await;
    let health = Request::get("/healthz").body(Body::empty()).unwrap();
    let health = api.answer(health).await;
    assert_eq!(health.status, 200);
    let description = api.ask_as(None, get("/openapi.json")).await;
    assert_eq!(description.ok()["openapi"], "3.1.0");
    for answer in [
        health,
        description,
        api.ask(get("/pools")).await,
        api.ask(get("/x")).await,
    ] {
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(
            answer.headers[header::CONTENT_SECURITY_POLICY],
            "default-src 'none'; frame-ancestors 'none'"
        );
        assert!(answer.headers.contains_key("x-request-id"));
    }
}

#[tokio::test]
async fn every_kind_of_problem_has_its_status() {
    let api = Fixture::new().await;
    let large = vec![b' '; (4 << 20) + 1];
    let rows = [
        (get("/nothing"), 404, "not-found"),
        (ask(Method::PATCH, "/config"), 405, "method-not-allowed"),
        (get("/pools/x"), 404, "not-found"),
        (get("/agents/x"), 404, "not-found"),
        (get("/revisions/one"), 404, "not-found"),
        (
            put("/pools/x").body("application/json", "{"),
            400,
            "malformed",
        ),
        (
            put("/pools/x").body("application/json", b"\xff"),
            400,
            "malformed",
        ),
        (put("/config").yaml("a: [b"), 400, "malformed"),
        (
            put("/config?dryrun=true").yaml("pools: []"),
            400,
            "malformed",
        ),
        (
            put("/config?wait=applied&timeout=6m").yaml("{}"),
            400,
            "malformed",
        ),
        (put("/config").yaml("{}").if_match("x"), 400, "malformed"),
        (get("/audit?limit=0"), 400, "malformed"),
        (get("/ip-stats/top?by=name"), 400, "malformed"),
        (get("/ip-stats/nobody"), 400, "malformed"),
        (
            put("/pools/x").body("text/plain", "{}"),
            415,
            "unsupported-media-type",
        ),
        (put("/pools/x"), 415, "unsupported-media-type"),
        (
            put("/pools/x").body("application/json", large.clone()),
            413,
            "too-large",
        ),
        (
            put("/config").body("application/yaml", large),
            413,
            "too-large",
        ),
        (put("/pools/x").json(json!({})), 422, "invalid-document"),
        (
            put("/pools/x").json(json!({})).if_match("\"1\""),
            412,
            "stale",
        ),
    ];
    for (asked, status, kind) in rows {
        let answer = api.ask(asked).await;
        assert_eq!(answer.problem(), kind, "{}", answer.json());
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn what_can_be_done_at_a_path_is_told() {
    let api = Fixture::new().await;
    let answer = api.ask(ask(Method::POST, "/agents/x")).await;
    assert_eq!(answer.problem(), "method-not-allowed");
    let allowed = answer.headers[header::ALLOW].to_str().unwrap();
    let allowed: BTreeSet<&str> = allowed.split(',').map(str::trim).collect();
    assert_eq!(allowed, BTreeSet::from(["DELETE", "GET", "HEAD"]));
}

#[tokio::test]
async fn what_went_wrong_inside_is_not_told() {
    let api = Fixture::new().await;
    api.store
        .execute("alter table pools rename to pools_away")
        .await;
    let answer = api.ask(get("/pools")).await;
    assert_eq!(answer.problem(), "internal");
    assert!(
        !String::from_utf8_lossy(&answer.body).contains("pools"),
        "{}",
        answer.json()
    );
}

#[tokio::test]
async fn a_database_that_is_away_is_no_mistake_of_ours() {
    let api = Fixture::new().await;
    api.store.close().await;
    for asked in [get("/config"), put("/config").yaml("{}")] {
        let answer = api.ask(asked).await;
        assert_eq!(answer.problem(), "unavailable");
        assert_eq!(answer.headers[header::RETRY_AFTER], "1");
    }
}

#[tokio::test]
async fn no_answer_holds_a_key() {
    let api = Fixture::new().await;
    let (chain, key) = certificate("play.example.com");
    let upload = json!({ "chain": chain, "private_key": key });
    api.ask(put("/certificates/play").json(upload)).await.ok();
    api.apply(
        "listeners: [{ name: play, role: terminator, bind: ':1', pool: play, tls: { certificates: [play] } }]
         \npools: [{ name: play, backends: [{ name: play, address: ':2' }] }]
         \npolicies: [{ name: play }]",
    )
    .await;
    let agent = api
        .agent(1, &[tidegate_core::document::Role::Terminator], &[])
        .await;
    let secrets: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
    let gets = ROUTES
        .into_iter()
        .filter(|(method, ..)| method == Method::GET);
    for (_, path, _) in gets {
        let answer = api
            .ask(get(&filled(path, "play", "play", &agent.to_string())))
            .await;
        assert_eq!(answer.status, 200, "{path}");
        let text = String::from_utf8(answer.body).unwrap();
        assert!(!text.contains("PRIVATE KEY"), "{path}");
        assert!(!secrets.iter().any(|line| text.contains(line)), "{path}");
    }
    // Sent to the wrong place, it does not come back in the problem either.
    let wrong = [
        put("/pools/x").json(json!({ "balance": key, "backends": key })),
        put("/certificates/x").json(json!(key)),
        put("/certificates/x").json(json!({ "chain": key, "private_key": [key] })),
        put("/config").yaml(&format!("pools: |\n  {}", key.replace('\n', "\n  "))),
        put("/config").body("application/json", format!("{{\"pools\": \"{}", secrets[0])),
    ];
    for asked in wrong {
        let answer = api.ask(asked).await;
        assert!(answer.status.is_client_error());
        let text = String::from_utf8(answer.body).unwrap();
        assert!(!secrets.iter().any(|line| text.contains(line)), "{text}");
    }
}

#[test]
fn every_route_is_described_and_nothing_else_is() {
    let description = serde_json::to_value(openapi()).unwrap();
    assert_eq!(description["openapi"], "3.1.0");
    let mut described = BTreeSet::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let path = path.strip_prefix("/api/v1").unwrap();
            assert!(operation["summary"].is_string(), "{method} {path}");
            let problem = "/responses/default/content/application~1problem+json/schema/$ref";
            assert_eq!(
                operation.pointer(problem),
                Some(&json!("#/components/schemas/Problem"))
            );
            described.insert((method.to_uppercase(), path.to_owned()));
        }
    }
    let there = ROUTES
        .into_iter()
        .map(|(method, path, _)| (method, path))
        .chain(OTHERS)
        .map(|(method, path)| (method.to_string(), path.to_owned()));
    assert_eq!(described, there.collect());
}

#[test]
fn every_reference_of_the_description_leads_somewhere() {
    let description = serde_json::to_value(openapi()).unwrap();
    let mut references = Vec::new();
    collect_references(&description, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(description.pointer(pointer).is_some(), "{reference}");
    }
    let ids = description["paths"].as_object().unwrap().values();
    let ids: Vec<&Value> = ids
        .flat_map(|item| item.as_object().unwrap().values())
        .map(|operation| &operation["operationId"])
        .collect();
    let unique: BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(unique.len(), ids.len());
}

fn collect_references(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|v| collect_references(v, references)),
        Value::Object(fields) => {
            for (key, field) in fields {
                match field.as_str() {
                    Some(text) if key == "$ref" => references.push(text.to_owned()),
                    _ => collect_references(field, references),
                }
            }
        }
        _ => {}
    }
}

/// `make openapi` writes it.
#[test]
fn the_description_is_checked_in_as_it_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    let text = openapi().to_pretty_json().unwrap();
    assert!(
        format!("{text}\n") == checked_in,
        "stale: run `make openapi`"
    );
}
