//! Who did what, and when: a row in the same transaction as what was done.

use axum::extract::State;

use super::Api;
use super::answer::{Items, Tagged};
use super::auth::{Caller, Viewer};
use super::extract::Asked;
use super::problem::Problem;
use super::revisions::Page;
use crate::store::AuditRow;

/// What was done, youngest first.
#[utoipa::path(
    get,
    path = "/audit",
    tag = "history",
    params(Page),
    responses((status = 200, description = "A page", body = Items<AuditRow>))
)]
pub(super) async fn list_audit(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Asked(page): Asked<Page>,
) -> Result<Tagged, Problem> {
    let (before, limit) = page.bounds()?;
    Tagged::list(api.store.audit(before, limit).await?)
}
