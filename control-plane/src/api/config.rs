//! The whole document, read and applied at once.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tidegate_core::document::{Document, Timeout};

use super::Api;
use super::answer::{Committed, Tagged, Written};
use super::auth::{Caller, Operator, Viewer};
use super::etag::{ETag, IfMatch, Precondition};
use super::extract::{self, Asked};
use super::problem::Problem;
use super::wait::{WaitFor, WaitQuery};
use super::{resource, schema};
use crate::store::Writing;

/// The body is the document itself: pointers lead into it as they are.
const WHOLE: Option<&str> = Some("");

/// The query of an apply.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ApplyQuery {
    /// Answer what would change, and change nothing. The ETag is that of the
    /// document as it is: in If-Match it makes sure that what was shown is what
    /// is done.
    dry_run: bool,
    /// Answer only when every connected agent has applied this, or has failed to.
    wait: Option<WaitFor>,
    /// For how long at most: `30s` unless written, `5m` at most. Then `pending` is
    /// not empty; the answer is 200 all the same.
    #[param(value_type = Option<String>, example = "30s")]
    timeout: Option<Timeout>,
}

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
    params(ApplyQuery, Precondition),
    request_body(content(
        (schema::Document = "application/json"),
        (String = "application/yaml")
    )),
    responses((status = 200, description = "What changed, or would", body = Committed))
)]
pub(super) async fn put_config(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Asked(query): Asked<ApplyQuery>,
    if_match: IfMatch,
    extract::Written { tree }: extract::Written,
) -> Result<Response, Problem> {
    let patience = WaitQuery::of(query.wait, query.timeout).patience()?;
    let mut writing = api.store.write(&caller.author).await?;
    let before = ETag::of_document(writing.numbers());
    if_match.check(Some(&before))?;
    let document = resource::in_fleet(&mut writing, tree, WHOLE).await?;
    writing.set_document(document, "apply", "config");
    if query.dry_run {
        let commit = writing.dry_run().await;
        let commit = commit.map_err(|error| resource::refused(error, WHOLE))?;
        return Written::new(commit, Some(before))
            .answer(&api.store, None)
            .await;
    }
    let written = committed(writing, WHOLE).await?;
    written.answer(&api.store, patience).await
}

/// Ends a write of the whole document, of which the body was `place`.
pub(super) async fn committed(writing: Writing, place: Option<&str>) -> Result<Written, Problem> {
    let commit = writing.commit().await;
    let commit = commit.map_err(|error| resource::refused(error, place))?;
    let tag = ETag::of_document(commit.numbers);
    Ok(Written::new(commit, Some(tag)))
}

fn wants_yaml(headers: &HeaderMap) -> bool {
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

fn yaml(document: &Document, tag: &ETag) -> Result<Response, Problem> {
    let text = serde_saphyr::to_string(document).map_err(Problem::internal)?;
    let mut response = text.into_response();
    let headers = response.headers_mut();
    let yaml = HeaderValue::from_static("application/yaml");
    headers.insert(header::CONTENT_TYPE, yaml);
    headers.insert(header::ETAG, tag.header());
    Ok(response)
}
