//! Logging in: a browser shows an API token once, and has a cookie from then on that
//! no script can read. Programs need none of this.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::Api;
use super::auth::{self, COOKIE, Caller, Proof, Viewer};
use super::extract::Json;
use super::problem::Problem;
use super::schema;
use super::token::{Kind, Token};
use crate::clock;
use crate::model::{ApiRole, Author};
use crate::store::NewSession;

/// Of a session, whatever its browser does. A working day.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// Who asks.
#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    /// As the audit has it.
    author: String,
    /// The token's.
    label: String,
    #[schema(value_type = schema::ApiRole)]
    role: ApiRole,
    /// The session's end, or the token's where no session was begun.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// The proof of who logs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with token")]
pub(super) struct Login {
    /// An API token: `tga1.<id>.<secret>`.
    #[schema(value_type = String)]
    token: Zeroizing<String>,
}

/// Who asks, and until when.
#[utoipa::path(
    get,
    path = "/session",
    tag = "tokens",
    responses((status = 200, description = "By a token or a session's cookie", body = Session))
)]
pub(super) async fn read_session(caller: Caller<Viewer>) -> Response {
    axum::Json(Session {
        author: caller.author.0,
        label: caller.token.label,
        role: caller.token.role,
        expires_at: caller.expires_at,
    })
    .into_response()
}

/// Logs a browser in with an API token: 12 hours at most, and no longer than the token.
/// The cookie does what the token may; it ends with the token.
#[utoipa::path(
    post,
    path = "/session",
    tag = "tokens",
    security(()),
    request_body = Login,
    responses((status = 200, description = "With the cookie `__Host-tidegate`", body = Session))
)]
pub(super) async fn log_in(
    State(api): State<Api>,
    headers: HeaderMap,
    Json(login): Json<Login>,
) -> Result<Response, Problem> {
    // A browser that a stranger's page made ask would be logged in as somebody else.
    if headers.contains_key(header::ORIGIN) {
        auth::from_own_page(&Method::POST, &headers)?;
    }
    let shown = Token::parse(Kind::Api, &login.token)
        .ok_or_else(|| auth::unauthenticated("that is no API token: it begins with tga1."))?;
    let now = clock::now();
    let token = auth::known_token(&api.store, &shown, now).await?;
    let secret = Token::fresh(Kind::Session).map_err(Problem::internal)?;
    let session = NewSession {
        id: secret.id.clone(),
        secret_hash: secret.secret_hash(),
        api_token: token.id.clone(),
        expires_at: token.expires_at.min(now + LIFETIME),
    };
    let author = Author::token(&token.label, &token.id);
    api.store.begin_session(&author, &session).await?;
    let lasts = session.expires_at - now;
    let cookie = Zeroizing::new(format!(
        "{}; Max-Age={}",
        set(&secret.reveal()),
        lasts.whole_seconds()
    ));
    let body = Session {
        author: author.0,
        label: token.label,
        role: token.role,
        expires_at: session.expires_at,
    };
    Ok(with_cookie(axum::Json(body).into_response(), &cookie))
}

/// Logs the browser out: the cookie is worth nothing any more, wherever it is.
#[utoipa::path(
    delete,
    path = "/session",
    tag = "tokens",
    responses((status = 204, description = "The session has ended; a token stays"))
)]
pub(super) async fn log_out(
    caller: Caller<Viewer>,
    State(api): State<Api>,
) -> Result<Response, Problem> {
    if let Proof::Session(id) = &caller.proof {
        api.store.end_session(&caller.author, id).await?;
    }
    let gone = format!("{}; Max-Age=0", set(""));
    Ok(with_cookie(StatusCode::NO_CONTENT.into_response(), &gone))
}

/// Strict: no link of another site opens the dashboard as its user.
fn set(value: &str) -> String {
    format!("{COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Strict")
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(mut value) = HeaderValue::from_str(cookie) {
        value.set_sensitive(true);
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Answer, Ask, Fixture, delete, get, post, put};
    use super::*;

    const HOST: &str = "gate.example.com:7443";

    async fn logged_in(api: &Fixture, role: ApiRole) -> (Answer, String) {
        let login = json!({ "token": api.token(role) });
        let answer = api.ask_as(None, post("/session").json(login)).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        let set = answer.headers[header::SET_COOKIE].to_str().unwrap();
        let cookie = set.split(';').next().unwrap().to_owned();
        (answer, cookie)
    }

    fn with(cookie: &str, ask: Ask) -> Ask {
        ask.with(header::COOKIE, &format!("theme=dark; {cookie}"))
            .with(header::HOST, HOST)
    }

    fn from_here(ask: Ask) -> Ask {
        ask.with(header::ORIGIN, &format!("https://{HOST}"))
    }

    #[tokio::test]
    async fn a_browser_logs_in_once_and_does_what_its_token_may() {
        let api = Fixture::new().await;
        let (answer, cookie) = logged_in(&api, ApiRole::Operator).await;
        let set = answer.headers[header::SET_COOKIE].to_str().unwrap();
        for part in [
            "__Host-tidegate=tgs1.",
            "Path=/",
            "Secure",
            "HttpOnly",
            "SameSite=Strict",
        ] {
            assert!(set.contains(part), "{part}: {set}");
        }
        let lasts = set.split("Max-Age=").nth(1).unwrap();
        let lasts: u64 = lasts.split(';').next().unwrap().parse().unwrap();
        // The token's hour; a moment of it is over.
        assert!((3590..=3600).contains(&lasts), "{set}");
        assert!(!set.contains("Domain"), "{set}");
        assert_eq!(answer.json()["role"], "operator");
        let secret = api.token(ApiRole::Operator).rsplit('.').next().unwrap();
        assert!(!String::from_utf8_lossy(&answer.body).contains(secret));

        let who = api.ask_as(None, with(&cookie, get("/session"))).await;
        assert_eq!(who.ok(), answer.json());
        let write = put("/policies/p").json(json!({}));
        let written = api.ask_as(None, from_here(with(&cookie, write))).await;
        assert_eq!(written.status, 200, "{}", written.json());
        let tokens = api.ask_as(None, with(&cookie, get("/api-tokens"))).await;
        assert_eq!(tokens.problem(), "forbidden");
        let audit = api.get("/audit?limit=2").await;
        assert_eq!(audit["items"][1]["action"], "log in");
        assert_eq!(audit["items"][0]["author"], audit["items"][1]["author"]);
    }

    #[tokio::test]
    async fn what_a_strangers_page_makes_a_browser_send_is_refused() {
        let api = Fixture::new().await;
        let (_, cookie) = logged_in(&api, ApiRole::Admin).await;
        let write = || with(&cookie, put("/policies/p").json(json!({})));
        let foreign = [
            write(),
            write().with(header::ORIGIN, "null"),
            write().with(header::ORIGIN, "https://evil.example.com"),
            // The same site, so that SameSite lets the cookie through.
            write().with(header::ORIGIN, "https://gate.example.com:8443"),
            write().with(header::ORIGIN, "https://example.com"),
            write().with(header::ORIGIN, "http://gate.example.com:7443"),
        ];
        for ask in foreign {
            assert_eq!(api.ask_as(None, ask).await.problem(), "forbidden");
        }
        let login = json!({ "token": api.token(ApiRole::Admin) });
        let login = post("/session").json(login).with(header::HOST, HOST);
        let login = login.with(header::ORIGIN, "https://evil.example.com");
        assert_eq!(api.ask_as(None, login).await.problem(), "forbidden");
        assert_eq!(api.get("/policies").await["items"], json!([]));
    }

    #[tokio::test]
    async fn a_session_ends_by_log_out_with_its_token_and_in_time() {
        let api = Fixture::new().await;
        let ended = async |cookie: &str| {
            let answer = api.ask_as(None, with(cookie, get("/session"))).await;
            assert_eq!(answer.problem(), "unauthenticated");
        };
        let (_, out) = logged_in(&api, ApiRole::Viewer).await;
        let (_, other) = logged_in(&api, ApiRole::Viewer).await;
        let left = api
            .ask_as(None, from_here(with(&out, delete("/session"))))
            .await;
        assert_eq!(left.status, 204);
        assert!(
            left.headers[header::SET_COOKIE]
                .to_str()
                .unwrap()
                .contains("Max-Age=0")
        );
        ended(&out).await;
        assert_eq!(
            api.ask_as(None, with(&other, get("/session"))).await.status,
            200
        );

        let id = api
            .token(ApiRole::Viewer)
            .split('.')
            .nth(1)
            .unwrap()
            .to_owned();
        api.ask(delete(&format!("/api-tokens/{id}"))).await;
        ended(&other).await;

        let (_, late) = logged_in(&api, ApiRole::Admin).await;
        api.store
            .execute("update sessions set expires_at = now()")
            .await;
        ended(&late).await;
        for forged in ["__Host-tidegate=", "__Host-tidegate=tgs1.x.y"] {
            ended(forged).await;
        }
        let id = late.split('.').nth(1).unwrap();
        let guessed = format!("__Host-tidegate=tgs1.{id}.{}", "0".repeat(64));
        api.store
            .execute("update sessions set expires_at = now() + interval '1h'")
            .await;
        ended(&guessed).await;
    }

    #[tokio::test]
    async fn who_has_no_token_is_not_logged_in() {
        let api = Fixture::new().await;
        let unknown = format!("tga1.{}.{}", "0".repeat(16), "0".repeat(64));
        for token in ["", "x", &unknown] {
            let asked = post("/session").json(json!({ "token": token }));
            let answer = api.ask_as(None, asked).await;
            assert_eq!(answer.problem(), "unauthenticated");
            assert!(!answer.headers.contains_key(header::SET_COOKIE));
        }
    }

    #[tokio::test]
    async fn one_token_has_a_bounded_number_of_sessions_and_the_oldest_end() {
        let api = Fixture::new().await;
        let (_, oldest) = logged_in(&api, ApiRole::Viewer).await;
        for _ in 0..64 {
            logged_in(&api, ApiRole::Viewer).await;
        }
        let answer = api.ask_as(None, with(&oldest, get("/session"))).await;
        assert_eq!(answer.problem(), "unauthenticated");
    }
}
