//! Revisions: every document there was, what each changed, and the way back.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::Api;
use super::answer::{Committed, Difference, Items, Tagged};
use super::auth::{Caller, Operator, Viewer};
use super::config;
use super::etag::{ETag, IfMatch, Precondition};
use super::extract::{Asked, Place};
use super::problem::Problem;
use super::wait::WriteQuery;
use super::{resource, schema};
use crate::store::{self, Revision};

/// A page of what grows.
#[derive(Clone, Copy, Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// How many: 50 unless written, 1000 at most.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: u32,
    /// Only those with a smaller number: the last of the page before.
    before: Option<u64>,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            limit: 50,
            before: None,
        }
    }
}

impl Page {
    /// Where it begins, and how long it is.
    pub(super) fn bounds(self) -> Result<(Option<u64>, u32), Problem> {
        if !(1..=1000).contains(&self.limit) {
            return Err(Problem::malformed("the query: limit is 1 to 1000"));
        }
        Ok((self.before, self.limit))
    }
}

/// A revision in a list.
#[derive(Serialize, ToSchema)]
pub(super) struct RevisionInfo {
    number: u64,
    author: String,
    /// What was done: `apply config`, `put pools/game`, `rollback revisions/7`.
    action: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// A revision with its document.
#[derive(Serialize, ToSchema)]
pub(super) struct RevisionDocument {
    #[serde(flatten)]
    info: RevisionInfo,
    #[schema(value_type = schema::Document)]
    document: Value,
}

/// What differs between two revisions.
#[derive(Serialize, ToSchema)]
pub(super) struct RevisionDiff {
    from: u64,
    to: u64,
    diff: Vec<Difference>,
}

/// The query of a comparison.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Against {
    /// The other revision: the one before when absent; 0 is the empty document.
    against: Option<u64>,
}

/// Revisions, youngest first.
#[utoipa::path(
    get,
    path = "/revisions",
    tag = "history",
    params(Page),
    responses((status = 200, description = "A page", body = Items<RevisionInfo>))
)]
pub(super) async fn list_revisions(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Asked(page): Asked<Page>,
) -> Result<Tagged, Problem> {
    let (before, limit) = page.bounds()?;
    let revisions = api.store.revisions(before, limit).await?;
    Tagged::list(revisions.into_iter().map(RevisionInfo::from))
}

/// One revision, with its document as it was; with `Accept: application/yaml` the
/// document alone, as YAML.
#[utoipa::path(
    get,
    path = "/revisions/{number}",
    tag = "history",
    params(("number" = u64, Path)),
    responses((
        status = 200,
        description = "It never changes",
        content((RevisionDocument = "application/json"), (String = "application/yaml"))
    ))
)]
pub(super) async fn read_revision(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Place(number): Place<u64>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if config::wants_yaml(&headers) {
        // As people write it: stored, the fields of a resource have no order.
        let both = api.store.two_revisions(0, number).await?;
        let (_, document) = both.ok_or_else(|| missing(number))?;
        return config::yaml(&document, &ETag::of(&document));
    }
    let found = api.store.revision(number).await?;
    let (info, document) = found.ok_or_else(|| missing(number))?;
    let whole = Tagged::of(&RevisionDocument {
        info: info.into(),
        document,
    })?;
    Ok(whole.into_response())
}

/// What a revision changed, against another one.
#[utoipa::path(
    get,
    path = "/revisions/{number}/diff",
    tag = "history",
    params(("number" = u64, Path), Against),
    responses((status = 200, description = "From the other one to this", body = RevisionDiff))
)]
pub(super) async fn diff_revision(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Place(to): Place<u64>,
    Asked(Against { against }): Asked<Against>,
) -> Result<Tagged, Problem> {
    let from = against.unwrap_or(to.saturating_sub(1));
    let both = api.store.two_revisions(from, to).await?;
    let (old, new) = both.ok_or_else(|| {
        Problem::not_found(format!(
            "no revisions {from} and {to}: see /api/v1/revisions"
        ))
    })?;
    let diff = store::difference(&old, &new);
    Tagged::of(&RevisionDiff {
        from,
        to,
        diff: diff.into_iter().map(Into::into).collect(),
    })
}

/// Applies the document of an old revision again, as a new one. Mistakes, such as a
/// certificate that was deleted since, point into that document: `/config/...`.
#[utoipa::path(
    post,
    path = "/revisions/{number}/rollback",
    tag = "history",
    params(("number" = u64, Path), WriteQuery, Precondition),
    responses((status = 200, description = "What changed", body = Committed))
)]
pub(super) async fn roll_back(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place(number): Place<u64>,
    Asked(query): Asked<WriteQuery>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let end = query.end()?;
    let mut writing = api.store.write(&caller.author).await?;
    if_match.check(Some(&ETag::of_document(writing.numbers())))?;
    let tree = writing.past(number).await?;
    let tree = tree.ok_or_else(|| missing(number))?;
    let document = resource::in_fleet(&mut writing, tree, None).await?;
    writing.set_document(document, "rollback", &format!("revisions/{number}"));
    let written = config::ended(writing, end, None).await?;
    written.answer(&api.store, end.patience()).await
}

impl From<Revision> for RevisionInfo {
    fn from(revision: Revision) -> Self {
        Self {
            number: revision.number,
            author: revision.author,
            action: revision.action,
            created_at: revision.created_at,
        }
    }
}

fn missing(number: u64) -> Problem {
    Problem::not_found(format!("no revision {number}: see /api/v1/revisions"))
}

#[cfg(test)]
mod tests {
    use axum::http::header;
    use serde_json::json;

    use super::super::testing::{Fixture, delete, get, post, put};

    fn document(port: u16) -> String {
        format!("pools: [{{ name: p, backends: [{{ address: ':{port}' }}] }}]")
    }

    #[tokio::test]
    async fn a_roll_back_is_a_new_revision_with_the_old_content() {
        let api = Fixture::new().await;
        let first = api.ask(put("/config").yaml(&document(1))).await;
        api.apply(&document(2)).await;
        let stale = post("/revisions/1/rollback").if_match(&first.tag());
        assert_eq!(api.ask(stale).await.problem(), "stale");
        let back = api.ask(post("/revisions/1/rollback")).await;
        assert_eq!(
            (&back.ok()["revision"], &back.ok()["changed"]),
            (&json!(3), &json!(true))
        );
        assert_eq!(back.tag(), api.ask(get("/config")).await.tag());
        let now = api.get("/config").await;
        assert_eq!(now, api.get("/revisions/1").await["document"]);
        assert_eq!(now, api.get("/revisions/3").await["document"]);
        let info = api.get("/revisions/3").await;
        assert_eq!(info["action"], "rollback revisions/1");
        assert!(
            info["author"]
                .as_str()
                .unwrap()
                .starts_with("token admin (")
        );
        // To what is: nothing.
        let same = api.ask(post("/revisions/1/rollback")).await.ok();
        assert_eq!(
            (&same["revision"], &same["changed"]),
            (&json!(3), &json!(false))
        );
        assert_eq!(
            api.ask(post("/revisions/9/rollback")).await.problem(),
            "not-found"
        );
    }

    #[tokio::test]
    async fn what_a_revision_changed_is_told_against_the_one_before_or_any() {
        let api = Fixture::new().await;
        for port in [1, 2, 3] {
            api.apply(&document(port)).await;
        }
        let diff = api.get("/revisions/3/diff").await;
        assert_eq!((&diff["from"], &diff["to"]), (&json!(2), &json!(3)));
        assert_eq!(
            diff["diff"][0]["fields"][0]["pointer"],
            "/backends/:2/address"
        );
        let diff = api.get("/revisions/1/diff?against=3").await;
        assert_eq!(
            diff["diff"][0]["fields"][0]["pointer"],
            "/backends/:1/address"
        );
        let first = api.get("/revisions/1/diff").await;
        assert_eq!(first["diff"][0]["change"], "added");
        for path in ["/revisions/9/diff", "/revisions/1/diff?against=9"] {
            assert_eq!(api.ask(get(path)).await.problem(), "not-found");
        }
    }

    #[tokio::test]
    async fn revisions_come_in_pages_youngest_first() {
        let api = Fixture::new().await;
        for port in 1..=5 {
            api.apply(&document(port)).await;
        }
        let numbers = async |path: &str| -> Vec<u64> {
            let page = api.get(path).await;
            let items = page["items"].as_array().unwrap();
            items
                .iter()
                .map(|i| i["number"].as_u64().unwrap())
                .collect()
        };
        assert_eq!(numbers("/revisions").await, [5, 4, 3, 2, 1]);
        assert_eq!(numbers("/revisions?limit=2").await, [5, 4]);
        assert_eq!(numbers("/revisions?limit=2&before=4").await, [3, 2]);
        assert_eq!(numbers("/revisions?before=1").await, [] as [u64; 0]);
        assert_eq!(numbers("/audit?limit=2").await.len(), 2);
    }

    #[tokio::test]
    async fn a_certificate_that_is_gone_keeps_an_old_revision_from_coming_back() {
        let api = Fixture::new().await;
        let (chain, key) = super::super::pair::tests::certificate("c");
        let upload = json!({ "chain": chain, "private_key": key });
        api.ask(put("/certificates/c").json(upload)).await.ok();
        api.apply(
            "
listeners: [{ name: l, role: terminator, bind: ':1', pool: p, tls: { certificates: [c] } }]
pools: [{ name: p, backends: [{ address: ':2' }] }]
",
        )
        .await;
        api.apply(&document(1)).await;
        api.ask(delete("/certificates/c")).await.ok();
        let back = api.ask(post("/revisions/1/rollback")).await;
        assert_eq!(back.pointers(), ["/config/listeners/0/tls/certificates/0"]);
        assert_eq!(
            api.get("/revisions/1/diff").await["to"],
            1,
            "it can still be read"
        );
    }

    #[tokio::test]
    async fn a_revision_as_yaml_is_written_as_the_document_was() {
        let api = Fixture::new().await;
        api.apply("pools: [{ name: a, backends: [{ address: ':1', weight: 3 }] }]")
            .await;
        let yaml = |path: &str| get(path).with(header::ACCEPT, "application/yaml");
        let then = api.ask(yaml("/revisions/1")).await;
        let now = api.ask(yaml("/config")).await;
        assert_eq!(then.headers[header::CONTENT_TYPE], "application/yaml");
        assert_eq!(then.body, now.body);
        assert!(then.body.starts_with(b"listeners:"));
        assert_eq!(api.ask(yaml("/revisions/9")).await.problem(), "not-found");
    }
}
