//! The whole document, read and applied at once.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Api;
use super::answer::{Committed, Tagged, Written};
use super::auth::{Caller, Operator, Viewer};
use super::etag::{ETag, IfMatch, Precondition};
use super::extract::{self, Asked};
use super::problem::Problem;
use super::wait::{End, WriteQuery};
use super::{resource, schema};
use crate::store::Writing;

/// The body is the document itself: pointers lead into it as they are.
const WHOLE: Option<&str> = Some("");

/// The whole document; YAML with `Accept: application/yaml`.
#[utoipa::path(
    get,
    path = "/config",
    tag = "document",
    responses((
        status = 200,
        description = "As written, with what was left out",
        content((schema::Document = "application/json"), (String = "application/yaml"))
    ))
)]
pub(super) async fn read_config(
    _: Caller<Viewer>,
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (numbers, document) = api.store.document().await?;
    let tag = ETag::of_document(numbers);
    let mut response = if wants_yaml(&headers) {
        yaml(&document, &tag)?
    } else {
        Tagged::with(&document, tag)?.into_response()
    };
    let vary = HeaderValue::from_static("accept");
    response.headers_mut().insert(header::VARY, vary);
    Ok(response)
}

/// Applies a whole document: everything in it, or nothing.
#[utoipa::path(
    put,
    path = "/config",
    tag = "document",
    params(WriteQuery, Precondition),
    request_body(content(
        (schema::Document = "application/json"),
        (String = "application/yaml")
    )),
    responses((status = 200, description = "What changed, or would", body = Committed))
)]
pub(super) async fn put_config(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Asked(query): Asked<WriteQuery>,
    if_match: IfMatch,
    extract::Written { tree }: extract::Written,
) -> Result<Response, Problem> {
    let end = query.end()?;
    let mut writing = api.store.write(&caller.author).await?;
    if_match.check(Some(&ETag::of_document(writing.numbers())))?;
    let document = resource::in_fleet(&mut writing, tree, WHOLE).await?;
    writing.set_document(document, "apply", "config");
    let written = ended(writing, end, WHOLE).await?;
    written.answer(&api.store, end.patience()).await
}

/// Ends a write of the whole document, of which the body was `place`.
pub(super) async fn ended(
    writing: Writing,
    end: End,
    place: Option<&str>,
) -> Result<Written, Problem> {
    let before = ETag::of_document(writing.numbers());
    let commit = resource::end(writing, end, place).await?;
    let tag = match end {
        End::DryRun => before,
        End::Commit(_) => ETag::of_document(commit.numbers),
    };
    Ok(Written::new(commit, Some(tag)))
}

/// Whether somebody asks for YAML instead of JSON.
pub(super) fn wants_yaml(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut types = accepted
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    types.any(|written| {
        let essence = written.split(';').next().unwrap_or_default().trim();
        ["application/yaml", "text/yaml"]
            .iter()
            .any(|yaml| essence.eq_ignore_ascii_case(yaml))
    })
}

/// A document as YAML.
pub(super) fn yaml(document: &impl Serialize, tag: &ETag) -> Result<Response, Problem> {
    let text = serde_saphyr::to_string(document).map_err(Problem::internal)?;
    let mut response = text.into_response();
    let headers = response.headers_mut();
    let yaml = HeaderValue::from_static("application/yaml");
    headers.insert(header::CONTENT_TYPE, yaml);
    headers.insert(header::ETAG, tag.header());
    Ok(response)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{Fixture, get, put};
    use super::*;

    const POOLS: &str = "
pools:
- { name: a, backends: [{ address: ':3000' }] }
- { name: b, balance: round_robin, backends: [{ address: ':3001', weight: 2 }] }
";

    #[tokio::test]
    async fn a_document_is_applied_whole_and_answers_what_changed() {
        let api = Fixture::new().await;
        let commit = api.apply(POOLS).await;
        assert_eq!(commit["changed"], true);
        assert_eq!(
            (&commit["revision"], &commit["change"]),
            (&json!(1), &json!(1))
        );
        let names = commit.pointer("/diff/1/name");
        assert_eq!(
            (commit.pointer("/diff/0/name"), names),
            (Some(&json!("a")), Some(&json!("b")))
        );
        assert_eq!(commit.pointer("/diff/0/change"), Some(&json!("added")));
        assert_eq!(commit.get("applied"), None);

        let less = api
            .apply("pools: [{ name: a, backends: [{ address: ':3009' }] }]")
            .await;
        let changes: Vec<_> = less["diff"].as_array().unwrap().iter().collect();
        assert_eq!(changes[0]["change"], "changed");
        let fields = changes[0]["fields"].as_array().unwrap();
        assert!(
            fields
                .iter()
                .any(|f| f["pointer"] == "/backends/:3000/address" && f.get("to").is_none())
        );
        assert!(
            fields
                .iter()
                .any(|f| f["pointer"] == "/backends/:3009/address" && f.get("from").is_none())
        );
        assert_eq!(
            (&changes[1]["name"], &changes[1]["change"]),
            (&json!("b"), &json!("removed"))
        );
    }

    #[tokio::test]
    async fn ten_mistakes_have_ten_places_and_change_nothing() {
        let api = Fixture::new().await;
        api.apply(POOLS).await;
        let before = api.ask(get("/config")).await;
        let wrong = put("/config").yaml(
            "
listeners:
- { name: Edge, role: balancer, bind: ':443', pool: a }
- { name: edge, role: boss, bind: ':444', pool: a }
- { name: tls, role: terminator, bind: ':8443', pool: gone, tls: { certificates: [never] } }
pools:
- { name: a, balance: best, backends: [{ address: ':3000', weight: 257 }, { address: nowhere }] }
- { name: a, backends: [{ address: ':3000' }] }
- { name: c }
certificates: [{ name: c, chain: x }]
users: []
",
        );
        let answer = api.ask(wrong).await;
        assert_eq!(
            answer.pointers(),
            [
                "/certificates/0",
                "/listeners/0/name",
                "/listeners/1/role",
                "/listeners/2/pool",
                "/listeners/2/tls/certificates/0",
                "/pools/0/backends/0/weight",
                "/pools/0/backends/1/address",
                "/pools/0/balance",
                "/pools/1/name",
                "/pools/2",
                "/users",
            ]
        );
        let after = api.ask(get("/config")).await;
        assert_eq!((before.tag(), before.body), (after.tag(), after.body));
        assert_eq!(
            api.get("/audit").await["items"].as_array().unwrap().len(),
            1 + 3
        );
    }

    #[tokio::test]
    async fn what_is_impossible_on_an_agent_is_a_mistake_of_the_document() {
        let api = Fixture::new().await;
        api.agent(1, &[tidegate_core::document::Role::Balancer], &[])
            .await;
        let twice = put("/config").yaml(
            "
listeners:
- { name: a, role: balancer, bind: ':443', pool: p }
- { name: b, role: balancer, bind: ':443', pool: p }
pools: [{ name: p, backends: [{ address: '10.0.0.9:1' }] }]
",
        );
        assert_eq!(api.ask(twice).await.pointers(), ["/listeners/1/bind"]);
        assert_eq!(api.get("/revisions").await, json!({ "items": [] }));
    }

    #[tokio::test]
    async fn a_dry_run_answers_the_same_and_changes_nothing() {
        let api = Fixture::new().await;
        api.apply(POOLS).await;
        let before = api.ask(get("/config")).await.tag();
        let more = POOLS.replace("weight: 2", "weight: 3");
        let dry = api.ask(put("/config?dry_run=true").yaml(&more)).await;
        assert_eq!(dry.tag(), before, "of the document as it is");
        assert_eq!(api.ask(get("/config")).await.tag(), before);
        let done = api
            .ask(put("/config").yaml(&more).if_match(&dry.tag()))
            .await;
        assert_eq!(dry.ok(), done.ok());
        assert_eq!(done.tag(), api.ask(get("/config")).await.tag());
        assert_ne!(done.tag(), before);
    }

    #[tokio::test]
    async fn the_same_again_takes_no_number() {
        let api = Fixture::new().await;
        let first = api.ask(put("/config").yaml(POOLS)).await;
        let turned = "
pools:
- { name: b, balance: round_robin, backends: [{ address: ':3001', weight: 2 }] }
- { name: a, balance: least_connections, backends: [{ address: ':3000', weight: 1 }] }
";
        for same in [POOLS, turned] {
            let again = api.ask(put("/config").yaml(same)).await;
            assert_eq!(again.tag(), first.tag());
            let again = again.ok();
            assert_eq!(again["changed"], false);
            assert_eq!(again["diff"], json!([]));
            assert_eq!(again["revision"], 1);
        }
        assert_eq!(
            api.get("/revisions").await["items"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
    }

    #[tokio::test]
    async fn what_was_changed_in_between_is_not_overwritten() {
        let api = Fixture::new().await;
        api.apply(POOLS).await;
        let seen = api.ask(get("/config")).await.tag();
        let write = |weight: u16| {
            let text = POOLS.replace("weight: 2", &format!("weight: {weight}"));
            put("/config").yaml(&text).if_match(&seen)
        };
        let (one, other) = tokio::join!(api.ask(write(7)), api.ask(write(8)));
        let mut kinds = [one.status.as_u16(), other.status.as_u16()];
        kinds.sort_unstable();
        assert_eq!(kinds, [200, 412]);
        let (done, refused) = if one.status == 200 {
            (one, other)
        } else {
            (other, one)
        };
        assert_eq!(refused.problem(), "stale");
        assert_eq!(refused.tag(), done.tag(), "what it is now");
        let star = put("/config").yaml(POOLS).if_match("*");
        assert_eq!(api.ask(star).await.status, 200);
    }

    #[tokio::test]
    async fn yaml_and_json_say_the_same() {
        let api = Fixture::new().await;
        api.apply(POOLS).await;
        let json = api.ask(get("/config")).await;
        let yaml = api
            .ask(get("/config").with(header::ACCEPT, "text/html, application/yaml;q=0.9"))
            .await;
        assert_eq!(yaml.headers[header::CONTENT_TYPE], "application/yaml");
        assert_eq!(yaml.tag(), json.tag());
        let read: Value = serde_saphyr::from_slice(&yaml.body).unwrap();
        assert_eq!(read, json.json());
        // What was read is what can be written.
        for (content_type, body) in [
            ("application/yaml", yaml.body),
            ("application/json", json.body),
        ] {
            let again = api.ask(put("/config").body(content_type, body)).await;
            assert_eq!(again.ok()["changed"], false);
        }
    }
}
