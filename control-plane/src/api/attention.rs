//! What needs somebody's attention. What that is is decided in `attention`.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::answer::Tagged;
use super::auth::{Caller, Viewer};
use super::problem::Problem;
use crate::attention::{self, Item, Known};
use crate::clock;

/// Of what is told at once; the worst comes first.
const MOST: usize = 200;
/// Rows that are looked at for one kind of trouble.
const ROWS: u32 = 5000;

/// What needs attention.
#[derive(Serialize, ToSchema)]
pub(super) struct Attention {
    /// How many there are, also of those that are not in the list.
    total: usize,
    /// Worst first; 200 at most.
    items: Vec<Item>,
}

/// What needs attention, worst first, each with what to do about it.
#[utoipa::path(
    get,
    path = "/attention",
    tag = "fleet",
    responses((status = 200, description = "Empty when all is well", body = Attention))
)]
pub(super) async fn read_attention(
    _: Caller<Viewer>,
    State(api): State<Api>,
) -> Result<Tagged, Problem> {
    let (now, fresh_since) = (clock::now(), api.fresh_since());
    let (_, document) = api.store.document().await?;
    let certificates = api.store.certificates().await?;
    let certificates = certificates.into_iter();
    let known = Known {
        sights: api.store.sights(fresh_since).await?,
        out: api.store.backends_out(fresh_since, ROWS).await?,
        said: api.store.said_before(now - attention::LONG, ROWS).await?,
        certificates: certificates.map(|one| (one.name, one.not_after)).collect(),
    };
    let mut items = attention::of(&document, &known, now);
    let total = items.len();
    items.truncate(MOST);
    Tagged::of(&Attention { total, items })
}
