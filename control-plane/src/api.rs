//! The REST API, `/api/v1`: the only axum. A handler takes what it needs from the
//! request, asks the store once, and answers; one file per resource.
//!
//! - `auth`: who asks · `extract`, `etag`, `wait`: what a request says · `layers`:
//!   what surrounds it · `problem`, `answer`: what comes back
//! - `resource`, `tree`: one resource of the document, written inside the whole
//! - `describe`, `schema`: the OpenAPI description, from the handlers themselves
//! - `ui`: the dashboard's files, for every path that is not the API's
//!
//! To add a resource: a file with its handlers (`#[utoipa::path]` on each, a
//! [`auth::Caller`] as first argument), its routes in [`routes()`], its rows in the
//! table of `tests`.

mod agents;
mod answer;
mod api_tokens;
mod attention;
mod audit;
mod auth;
mod backends;
mod certificates;
mod config;
mod describe;
mod etag;
mod events;
mod extract;
mod ip_stats;
mod join_tokens;
mod kill;
mod layers;
mod listeners;
mod names;
mod pace;
mod pair;
mod policies;
mod pools;
mod problem;
mod resource;
mod revisions;
mod schema;
mod series;
mod session;
mod states;
mod status;
mod ticket_keys;
mod token;
mod topology;
mod tree;
mod ui;
mod wait;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tidegate_core::snapshot::Fingerprint;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::clock;
use crate::ingest;
use crate::journal::Journal;
use crate::seal::Kek;
use crate::series::Series;
use crate::store::Store;
use problem::{Kind, Problem};

pub(crate) use api_tokens::first_token;

/// What handlers need.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) store: Store,
    /// Seals the keys that are uploaded.
    pub(crate) kek: Arc<Kek>,
    pub(crate) cluster: Uuid,
    /// Of the authority: what join tokens pin.
    pub(crate) pin: Fingerprint,
    /// This control plane.
    pub(crate) replica: Uuid,
    pub(crate) version: &'static str,
    /// How often agents report.
    pub(crate) report_interval: Duration,
    /// The last hour, in numbers.
    pub(crate) series: Arc<Series>,
    /// What happens.
    pub(crate) journal: Arc<Journal>,
    /// When answers that go on for long have to end.
    pub(crate) stop: CancellationToken,
}

impl Api {
    /// Since when what agents report says something about now.
    fn fresh_since(&self) -> OffsetDateTime {
        clock::now() - ingest::fresh_for(self.report_interval)
    }
}

/// The API over HTTP; TLS is around it.
pub(crate) fn router(api: Api) -> Router {
    let (router, description) = routes().split_for_parts();
    let description = describe::finished(description);
    router
        .route(
            describe::PATH,
            get(async move || describe::answer(&description)),
        )
        .route("/healthz", get(async || "ok\n"))
        .fallback(ui::serve)
        .method_not_allowed_fallback(async || {
            Problem::new(
                Kind::MethodNotAllowed,
                "the path is right, the method is not: see /api/v1/openapi.json",
            )
        })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(axum::middleware::from_fn(layers::surround))
        .with_state(api)
}

/// The description of the API.
pub(crate) fn openapi() -> OpenApi {
    describe::finished(routes().into_openapi())
}

fn routes() -> OpenApiRouter<Api> {
    let v1 = OpenApiRouter::default()
        .routes(routes!(config::read_config, config::put_config))
        .routes(routes!(listeners::list_listeners))
        .routes(routes!(
            listeners::read_listener,
            listeners::put_listener,
            listeners::delete_listener
        ))
        .routes(routes!(pools::list_pools))
        .routes(routes!(
            pools::read_pool,
            pools::put_pool,
            pools::delete_pool
        ))
        .routes(routes!(pools::list_pool_agents))
        .routes(routes!(backends::list_backends))
        .routes(routes!(
            backends::read_backend,
            backends::put_backend,
            backends::delete_backend
        ))
        .routes(routes!(states::read_state, states::put_state))
        .routes(routes!(kill::kill_backend))
        .routes(routes!(policies::list_policies))
        .routes(routes!(
            policies::read_policy,
            policies::put_policy,
            policies::delete_policy
        ))
        .routes(routes!(certificates::list_certificates))
        .routes(routes!(
            certificates::read_certificate,
            certificates::put_certificate,
            certificates::delete_certificate
        ))
        .routes(routes!(agents::list_agents))
        .routes(routes!(agents::read_agent, agents::remove_agent))
        .routes(routes!(agents::revoke_agent))
        .routes(routes!(
            join_tokens::list_join_tokens,
            join_tokens::create_join_token
        ))
        .routes(routes!(join_tokens::delete_join_token))
        .routes(routes!(
            api_tokens::list_api_tokens,
            api_tokens::create_api_token
        ))
        .routes(routes!(api_tokens::delete_api_token))
        .routes(routes!(revisions::list_revisions))
        .routes(routes!(revisions::read_revision))
        .routes(routes!(revisions::diff_revision))
        .routes(routes!(revisions::roll_back))
        .routes(routes!(
            session::read_session,
            session::log_in,
            session::log_out
        ))
        .routes(routes!(ticket_keys::list_ticket_keys))
        .routes(routes!(ticket_keys::rotate_ticket_keys))
        .routes(routes!(ip_stats::top_clients))
        .routes(routes!(ip_stats::read_client))
        .routes(routes!(status::read_status))
        .routes(routes!(topology::read_topology))
        .routes(routes!(attention::read_attention))
        .routes(routes!(series::of_fleet))
        .routes(routes!(series::of_agent))
        .routes(routes!(series::of_listener))
        .routes(routes!(series::of_pool))
        .routes(routes!(series::of_backend))
        .routes(routes!(events::follow))
        .routes(routes!(audit::list_audit));
    OpenApiRouter::with_openapi(describe::head()).nest("/api/v1", v1)
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    Problem::internal(format!("panicked: {}", said.unwrap_or("?"))).into_response()
}
