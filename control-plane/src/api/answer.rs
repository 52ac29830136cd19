//! What handlers answer: JSON with its tag, lists, and what came of a write.

use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use tidegate_core::diff::{self, ResourceChange};
use utoipa::ToSchema;

use super::etag::ETag;
use super::problem::Problem;
use super::wait::{self, Applied};
use crate::model::Commit;
use crate::store::Store;

/// A list.
#[derive(Serialize, ToSchema)]
pub(super) struct Items<T> {
    /// All of them, or a page.
    pub(super) items: Vec<T>,
}

/// JSON and its tag.
pub(super) struct Tagged {
    body: Vec<u8>,
    tag: ETag,
}

impl Tagged {
    /// A value that goes by the hash of its JSON.
    pub(super) fn of(value: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_vec(value).map_err(Problem::internal)?;
        Ok(Self::of_json(body))
    }

    /// JSON that was made before.
    pub(super) fn of_json(body: Vec<u8>) -> Self {
        let tag = ETag::of_bytes(&body);
        Self { body, tag }
    }

    /// A value with a tag of its own.
    pub(super) fn with(value: &impl Serialize, tag: ETag) -> Result<Self, Problem> {
        let body = serde_json::to_vec(value).map_err(Problem::internal)?;
        Ok(Self { body, tag })
    }

    /// A list.
    pub(super) fn list<T: Serialize>(items: impl IntoIterator<Item = T>) -> Result<Self, Problem> {
        let items: Vec<T> = items.into_iter().collect();
        Self::of(&Items { items })
    }
}

impl IntoResponse for Tagged {
    fn into_response(self) -> Response {
        let json = HeaderValue::from_static("application/json");
        let mut response = self.body.into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        let tag = self.tag.header();
        response.headers_mut().insert(header::ETAG, tag);
        response
    }
}

/// What came of a write, as it is sent.
#[derive(Serialize, ToSchema)]
#[schema(as = Commit)]
pub(super) struct Committed {
    /// Of the document, after it.
    revision: u64,
    /// Of document and facts, after it.
    change: u64,
    /// Whether anything changed; if not, no number was taken.
    changed: bool,
    /// What changed in the document.
    diff: Vec<Difference>,
    /// What was done all the same, and may not be what was meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<String>,
    /// With `?wait=applied`: which agents run it.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<Applied>,
}

/// One resource that differs between two documents.
#[derive(Serialize, ToSchema)]
pub(super) struct Difference {
    /// `listeners`, `pools`, `policies` or `certificates`.
    kind: &'static str,
    name: String,
    change: Change,
    /// The fields that differ; of an added or removed resource all it has.
    fields: Vec<FieldDifference>,
}

/// What happened to a resource.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    Added,
    Removed,
    Changed,
}

/// One field that differs.
#[derive(Serialize, ToSchema)]
pub(super) struct FieldDifference {
    /// JSON pointer inside the resource; a pool's backends go by their name.
    pointer: String,
    /// Before; absent when it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Value>,
    /// After; absent when it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Value>,
}

impl From<ResourceChange> for Difference {
    fn from(changed: ResourceChange) -> Self {
        let fields = changed.fields.into_iter().map(|field| FieldDifference {
            pointer: field.pointer,
            from: field.from,
            to: field.to,
        });
        Self {
            kind: changed.kind,
            name: changed.name,
            change: match changed.change {
                diff::Kind::Added => Change::Added,
                diff::Kind::Removed => Change::Removed,
                diff::Kind::Changed => Change::Changed,
            },
            fields: fields.collect(),
        }
    }
}

/// What came of a write, with what belongs to its answer.
pub(super) struct Written {
    pub(super) commit: Commit,
    /// Of the resource as it is now; `None` when it is gone.
    pub(super) tag: Option<ETag>,
    pub(super) warnings: Vec<String>,
}

impl Written {
    /// Without anything to warn of.
    pub(super) fn new(commit: Commit, tag: Option<ETag>) -> Self {
        Self {
            commit,
            tag,
            warnings: Vec::new(),
        }
    }

    /// The answer, after the agents' where somebody waits for that.
    pub(super) async fn answer(
        mut self,
        store: &Store,
        patience: Option<Duration>,
    ) -> Result<Response, Problem> {
        let tag = self.tag.take();
        Ok(tagged(self.committed(store, patience).await?, tag))
    }

    /// The same for an answer that says more.
    pub(super) async fn committed(
        self,
        store: &Store,
        patience: Option<Duration>,
    ) -> Result<Committed, Problem> {
        let applied = match patience {
            Some(patience) => Some(wait::until_applied(store, patience).await?),
            None => None,
        };
        let Commit {
            numbers,
            changed,
            diff,
        } = self.commit;
        Ok(Committed {
            revision: numbers.revision,
            change: numbers.change,
            changed,
            diff: diff.into_iter().map(Into::into).collect(),
            warnings: self.warnings,
            applied,
        })
    }
}

/// What came of a write, with the tag of what it wrote where that is still there.
pub(super) fn tagged(body: impl Serialize, tag: Option<ETag>) -> Response {
    let mut response = axum::Json(body).into_response();
    if let Some(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag.header());
    }
    response
}
