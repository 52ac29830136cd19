//! What handlers take from a request: bodies, paths and queries, each bounded,
//! each with a [`Problem`] for an error. Whoever may do it was asked before
//! (`auth`): the body of a stranger is never read.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidegate_core::document::{Document, Mistake};

use super::Api;
use super::problem::{Kind, Problem};

/// Bytes of a body: a document with thousands of pools.
const BODY: usize = 4 << 20;
/// For a body to arrive.
const ARRIVAL: Duration = Duration::from_secs(20);

/// A JSON body, read as `T`; every mistake in it comes at once.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Api) -> Result<Self, Problem> {
        if media_type(request.headers()) != Some(MediaType::Json) {
            return Err(Problem::new(
                Kind::UnsupportedMediaType,
                "send JSON, and say so: Content-Type: application/json",
            ));
        }
        let text = text(request.into_body(), ARRIVAL).await?;
        let value = json(&text)?;
        let read = Document::part(value).map(Self);
        read.map_err(|mistakes| Problem::mistakes(mistakes.into_iter().map(unquoted).collect()))
    }
}

/// A whole document as text.
pub(super) struct Written {
    pub(super) tree: Value,
}

impl FromRequest<Api> for Written {
    type Rejection = Problem;

    /// YAML, unless it says that it is JSON.
    async fn from_request(request: Request, _: &Api) -> Result<Self, Problem> {
        let is_json = media_type(request.headers()) == Some(MediaType::Json);
        let text = text(request.into_body(), ARRIVAL).await?;
        let tree = if is_json {
            json(&text)?
        } else {
            Document::tree(&text).map_err(unreadable)?
        };
        Ok(Self { tree })
    }
}

/// Names in the path.
pub(super) struct Place<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Place<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let place = Path::<T>::from_request_parts(parts, api).await;
        // A text that cannot be an id or a number names nothing that is there.
        let Path(place) = place.map_err(|_| {
            Problem::not_found("the path names nothing that can be here: look in the list")
        })?;
        Ok(Self(place))
    }
}

/// The query.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, api).await;
        let Query(query) =
            query.map_err(|why| Problem::malformed(format!("the query: {}", why.body_text())))?;
        Ok(Self(query))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MediaType {
    Json,
    Other,
}

fn media_type(headers: &HeaderMap) -> Option<MediaType> {
    let written = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = written.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    Some(
        if essence == "application/json" || essence.ends_with("+json") {
            MediaType::Json
        } else {
            MediaType::Other
        },
    )
}

async fn text(body: Body, arrival: Duration) -> Result<String, Problem> {
    let bytes = tokio::time::timeout(arrival, to_bytes(body, BODY)).await;
    let bytes = bytes.map_err(|_| {
        Problem::malformed(format!(
            "the body did not arrive within {} s",
            arrival.as_secs()
        ))
    })?;
    let bytes = bytes.map_err(|error| {
        let too_long = std::error::Error::source(&error)
            .is_some_and(<dyn std::error::Error>::is::<LengthLimitError>);
        if too_long {
            return Problem::new(
                Kind::TooLarge,
                format!("a body has {} MiB at most", BODY >> 20),
            );
        }
        Problem::malformed("the body broke off")
    })?;
    String::from_utf8(bytes.into()).map_err(|_| Problem::malformed("the body is not UTF-8"))
}

/// Its errors tell line and column, and quote nothing.
fn json(text: &str) -> Result<Value, Problem> {
    serde_json::from_str(text)
        .map_err(|error| Problem::malformed(format!("the body is not JSON: {error}")))
}

fn unreadable(mistakes: Vec<Mistake>) -> Problem {
    let said: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    Problem::malformed(format!(
        "the body is neither YAML nor JSON: {}",
        said.join("; ")
    ))
}

/// serde says `invalid type: string "...", expected a list`. What was sent may be
/// a key in the wrong place: only the second half is told.
fn unquoted(mistake: Mistake) -> Mistake {
    let message = match mistake.message.rsplit_once(", expected ") {
        Some((said, expected)) if said.starts_with("invalid ") => format!("expected {expected}"),
        _ => mistake.message,
    };
    Mistake { message, ..mistake }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_value_is_not_quoted() {
        let read = |value: Value| Document::part::<Vec<u8>>(value).unwrap_err().remove(0);
        let wrong = read(serde_json::json!("MIIsecret, expected nothing"));
        assert!(wrong.message.contains("MIIsecret"));
        assert_eq!(unquoted(wrong).message, "expected a sequence");
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
        let never = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
        let given_up = text(Body::from_stream(never), Duration::ZERO).await;
        assert_eq!(given_up.unwrap_err().kind(), Kind::Malformed);
    }

    #[test]
    fn a_body_is_json_when_it_says_so() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, text.parse().unwrap());
            media_type(&headers) == Some(MediaType::Json)
        };
        assert!(of("application/json"));
        assert!(of("Application/JSON; charset=utf-8"));
        assert!(of("application/merge-patch+json"));
        assert!(!of("application/yaml"));
        assert!(!of("application/x-www-form-urlencoded"));
        assert!(media_type(&HeaderMap::new()).is_none());
    }
}
