//! API tokens: who may use this API, and as what. The first one is made by the
//! control plane itself, into a file for its owner.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidegate_core::document::{Mistake, Timeout};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::Api;
use super::answer::{Items, Tagged};
use super::auth::{Admin, Caller};
use super::extract::{Json, Place};
use super::problem::Problem;
use super::token::{Kind, Token};
use super::{names, schema};
use crate::clock;
use crate::model::ApiRole;
use crate::seal::{self, SealError};
use crate::store::{NewApiToken, Store, StoreError, StoredApiToken};

const DEFAULT_EXPIRY: Duration = Duration::from_secs(90 * 86_400);
const FIRST_EXPIRY: Duration = Duration::from_secs(365 * 86_400);
/// Characters of a label: it stands in every audit row.
const LABEL: usize = 63;

/// A token in a list: without its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct ApiTokenInfo {
    id: String,
    #[schema(value_type = schema::ApiRole)]
    role: ApiRole,
    /// Who has it.
    label: String,
    created_by: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// A token that was made: the only time it is shown.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedApiToken {
    /// For `Authorization: Bearer`.
    token: String,
    #[serde(flatten)]
    info: ApiTokenInfo,
}

/// What to make.
#[derive(Deserialize, ToSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping with role, label and expires_in"
)]
pub(super) struct ApiTokenRequest {
    #[schema(value_type = schema::ApiRole)]
    role: ApiRole,
    /// Who has it; stands in the audit.
    label: String,
    /// `90d` unless written, `366d` at most.
    #[schema(value_type = Option<String>, example = "90d")]
    expires_in: Option<Timeout>,
}

/// Why there is no first token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirstTokenError {
    /// The database's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It cannot be handed over.
    #[error("the first API token cannot be written to {path}: {source}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Makes an admin's token where none is valid, into a file that only its owner can
/// read; whether it did. Of several control planes that start at once one does. The
/// file is written before the token counts: a token that nobody has would lock
/// everybody out.
///
/// # Errors
/// When the file cannot be written; then there is no token either.
pub(crate) async fn first_token(
    store: &Store,
    path: &Path,
    now: OffsetDateTime,
) -> Result<bool, FirstTokenError> {
    let Some(mut place) = store.first_api_token(now).await? else {
        return Ok(false);
    };
    let token = Token::fresh(Kind::Api)?;
    place
        .add(&NewApiToken {
            id: token.id.clone(),
            secret_hash: token.secret_hash(),
            role: ApiRole::Admin,
            label: "first".to_owned(),
            expires_at: now + FIRST_EXPIRY,
        })
        .await?;
    let text = zeroize::Zeroizing::new(format!("{}\n", token.reveal()));
    seal::write_secret(path, text.as_bytes()).map_err(|source| FirstTokenError::File {
        path: path.to_owned(),
        source,
    })?;
    place.commit().await?;
    Ok(true)
}

/// All API tokens.
#[utoipa::path(
    get,
    path = "/api-tokens",
    tag = "tokens",
    responses((status = 200, description = "Youngest first", body = Items<ApiTokenInfo>))
)]
pub(super) async fn list_api_tokens(
    _: Caller<Admin>,
    State(api): State<Api>,
) -> Result<Tagged, Problem> {
    let tokens = api.store.api_tokens().await?;
    Tagged::list(tokens.into_iter().map(ApiTokenInfo::from))
}

/// Makes an API token.
#[utoipa::path(
    post,
    path = "/api-tokens",
    tag = "tokens",
    request_body = ApiTokenRequest,
    responses((status = 201, description = "The only time it is shown", body = CreatedApiToken))
)]
pub(super) async fn create_api_token(
    caller: Caller<Admin>,
    State(api): State<Api>,
    Json(wanted): Json<ApiTokenRequest>,
) -> Result<Response, Problem> {
    is_label(&wanted.label).map_err(|mistake| Problem::mistakes(vec![mistake]))?;
    let token = Token::fresh(Kind::Api).map_err(Problem::internal)?;
    let lifetime = wanted.expires_in.map_or(DEFAULT_EXPIRY, Timeout::duration);
    let new = NewApiToken {
        id: token.id.clone(),
        secret_hash: token.secret_hash(),
        role: wanted.role,
        label: wanted.label,
        expires_at: clock::now() + lifetime,
    };
    let stored = api.store.add_api_token(&caller.author, &new).await?;
    let made = CreatedApiToken {
        token: token.reveal(),
        info: stored.into(),
    };
    Ok((StatusCode::CREATED, axum::Json(made)).into_response())
}

/// Removes an API token: it is refused from now on.
#[utoipa::path(
    delete,
    path = "/api-tokens/{id}",
    tag = "tokens",
    params(("id" = String, Path)),
    responses((status = 204, description = "It is gone"))
)]
pub(super) async fn delete_api_token(
    caller: Caller<Admin>,
    State(api): State<Api>,
    Place(id): Place<String>,
) -> Result<StatusCode, Problem> {
    if api.store.remove_api_token(&caller.author, &id).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    let tokens = api.store.api_tokens().await?;
    let there = names::there_is(&id, tokens.iter().map(|token| token.id.as_str()));
    Err(Problem::not_found(format!("no API token {id}; {there}")))
}

impl From<StoredApiToken> for ApiTokenInfo {
    fn from(stored: StoredApiToken) -> Self {
        Self {
            id: stored.id,
            role: stored.role,
            label: stored.label,
            created_by: stored.created_by,
            created_at: stored.created_at,
            expires_at: stored.expires_at,
        }
    }
}

fn is_label(written: &str) -> Result<(), Mistake> {
    let allowed = |c: char| c.is_alphanumeric() || " -._@+".contains(c);
    let fits = (1..=LABEL).contains(&written.chars().count());
    if fits && written.chars().all(allowed) {
        return Ok(());
    }
    Err(Mistake::new(
        "/label",
        format!("write 1 to {LABEL} letters, digits, spaces and '-', '.', '_', '@', '+'"),
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::super::testing::{Fixture, delete, get, post};
    use super::*;

    #[tokio::test]
    async fn an_api_token_is_shown_once_works_and_is_gone_when_deleted() {
        let api = Fixture::new().await;
        let wanted = json!({ "role": "viewer", "label": "dashboard" });
        let made = api.ask(post("/api-tokens").json(wanted)).await;
        assert_eq!(made.status, 201);
        let made = made.ok();
        let token = made["token"].as_str().unwrap();
        assert_eq!(api.ask_as(Some(token), get("/pools")).await.status, 200);
        let list = api.ask(get("/api-tokens")).await;
        let secret = token.rsplit('.').next().unwrap();
        assert!(!String::from_utf8_lossy(&list.body).contains(secret));
        assert_eq!(list.json()["items"][0]["id"], made["id"]);
        assert_eq!(list.json()["items"][0]["label"], "dashboard");
        let path = format!("/api-tokens/{}", made["id"].as_str().unwrap());
        assert_eq!(api.ask(delete(&path)).await.status, 204);
        assert_eq!(api.ask(delete(&path)).await.problem(), "not-found");
    }

    #[tokio::test]
    async fn a_token_without_a_right_label_is_not_made() {
        let api = Fixture::new().await;
        for (body, places) in [
            (json!({ "role": "viewer", "label": "" }), vec!["/label"]),
            (json!({ "role": "viewer", "label": "a\nb" }), vec!["/label"]),
            (
                json!({ "role": "viewer", "label": "x".repeat(64) }),
                vec!["/label"],
            ),
            (
                json!({ "role": "root", "expires_in": "9y", "label": "x" }),
                vec!["/expires_in", "/role"],
            ),
        ] {
            assert_eq!(
                api.ask(post("/api-tokens").json(body)).await.pointers(),
                places
            );
        }
    }

    #[tokio::test]
    async fn the_first_token_is_made_once_by_whoever_comes_first() {
        let api = Fixture::new().await;
        api.store.execute("delete from api_tokens").await;
        let paths = ["one", "two"].map(|name| api.folder.path().join(name));
        let now = clock::now();
        let (one, two) = tokio::join!(
            first_token(&api.store, &paths[0], now),
            first_token(&api.store, &paths[1], now)
        );
        let made = [one.unwrap(), two.unwrap()];
        assert_eq!(made.iter().filter(|made| **made).count(), 1);
        assert_eq!(paths.each_ref().map(|path| path.exists()), made);

        let path = if made[0] { &paths[0] } else { &paths[1] };
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            api.ask_as(Some(text.trim()), get("/api-tokens"))
                .await
                .status,
            200
        );

        // Another start leaves it alone; a file that was lost is not made again.
        assert!(!first_token(&api.store, path, now).await.unwrap());
        assert_eq!(std::fs::read_to_string(path).unwrap(), text);
        // A year later nobody could make tokens any more.
        let later = now + FIRST_EXPIRY;
        assert!(first_token(&api.store, path, later).await.unwrap());
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_handed_over_is_none() {
        let api = Fixture::new().await;
        api.store.execute("delete from api_tokens").await;
        let nowhere = api.folder.path().join("missing/token");
        let failed = first_token(&api.store, &nowhere, clock::now()).await;
        assert!(matches!(failed, Err(FirstTokenError::File { .. })));
        assert_eq!(api.store.api_tokens().await.unwrap().len(), 0);
    }
}
