//! The fleet as a picture. What stands in it is decided in `picture`.

use axum::extract::State;

use super::Api;
use super::answer::Tagged;
use super::auth::{Caller, Viewer};
use super::problem::Problem;
use crate::picture::{self, Topology};

/// Which listener leads to which pool, which pool to which listener, and what goes
/// through.
#[utoipa::path(
    get,
    path = "/topology",
    tag = "fleet",
    responses((status = 200, description = "As agents reported last", body = Topology))
)]
pub(super) async fn read_topology(
    _: Caller<Viewer>,
    State(api): State<Api>,
) -> Result<Tagged, Problem> {
    let (_, document) = api.store.document().await?;
    let sights = api.store.sights(api.fresh_since()).await?;
    Tagged::of(&picture::topology(&document, &sights))
}
