//! The REST API.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::snapshot::Fingerprint;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::seal::Kek;
use crate::store::{Store, StoreError};

/// What the API needs of the control plane.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) kek: Arc<Kek>,
    pub(crate) cluster: Uuid,
    pub(crate) pin: Fingerprint,
    pub(crate) replica: Uuid,
    pub(crate) report_interval: Duration,
}

/// All routes.
pub(crate) fn router(_api: Api) -> axum::Router {
    axum::Router::new().route("/healthz", axum::routing::get(async || "ok\n"))
}

/// The first admin's token.
pub(crate) async fn first_token(
    _store: &Store,
    _path: &Path,
    _now: OffsetDateTime,
) -> Result<(), StoreError> {
    Ok(())
}
