//! What the API says instead of doing it: one shape, `application/problem+json`
//! (RFC 9457), that every error becomes. The text of a problem is bounded, and
//! ours to choose: what went wrong inside stays in the log.
//!
//! A handler returns a [`Problem`]; `layers` writes it down, since only there the
//! request's id is known.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidegate_core::document::Mistake;
use utoipa::ToSchema;

use super::etag::ETag;
use crate::store::{StoreError, WriteError};

/// Characters of any text in a problem: what is refused may be huge.
const TEXT: usize = 500;
/// Mistakes told at once. Whoever has more has made one mistake many times.
const MISTAKES: usize = 500;

/// What kind of problem it is: the end of its `type`, and its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    InvalidDocument,
    Malformed,
    Unauthenticated,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    Stale,
    TooLarge,
    UnsupportedMediaType,
    Unavailable,
    Internal,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::InvalidDocument => "invalid-document",
            Self::Malformed => "malformed",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Conflict => "conflict",
            Self::Stale => "stale",
            Self::TooLarge => "too-large",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::InvalidDocument => "What was sent has mistakes",
            Self::Malformed => "The request cannot be read",
            Self::Unauthenticated => "The token is missing, unknown or expired",
            Self::Forbidden => "The token's role does not allow this",
            Self::NotFound => "There is no such thing",
            Self::MethodNotAllowed => "This cannot be done there",
            Self::Conflict => "Something else stands against it",
            Self::Stale => "It was changed in between",
            Self::TooLarge => "The body is too large",
            Self::UnsupportedMediaType => "The body has the wrong type",
            Self::Unavailable => "The control plane cannot answer now",
            Self::Internal => "The control plane made a mistake",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::InvalidDocument => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Stale => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Why a request was not done.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<Place>,
    /// What the resource's tag is now.
    current: Option<ETag>,
    /// For the log alone.
    cause: Option<String>,
}

/// A problem as it is sent.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Sent<'a> {
    /// `urn:tidegate:problem:<kind>`.
    #[schema(example = "urn:tidegate:problem:invalid-document")]
    r#type: String,
    /// The kind in words.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What is wrong here, and the mend.
    detail: &'a str,
    /// What the log knows the request by.
    request_id: &'a str,
    /// Every mistake at once.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [Place],
}

/// One mistake, and where it is.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ProblemPlace)]
pub(super) struct Place {
    /// A JSON pointer (RFC 6901) into the body; into the whole document where it
    /// begins with `/config` and the body was not the document.
    pointer: String,
    /// What is wrong there, and the mend.
    detail: String,
}

impl Problem {
    /// One with a text: what is wrong here, and the mend.
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: bounded(detail.into()),
            errors: Vec::new(),
            current: None,
            cause: None,
        }
    }

    /// There is no such thing.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, detail)
    }

    /// Something in the request cannot be read.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Kind::Malformed, detail)
    }

    /// All mistakes, each with its place.
    pub(super) fn mistakes(mistakes: Vec<Mistake>) -> Self {
        let count = mistakes.len();
        let detail = match count {
            1 => "1 mistake, and nothing was changed".to_owned(),
            _ if count > MISTAKES => {
                format!("{count} mistakes, of which these are the first, and nothing was changed")
            }
            _ => format!("{count} mistakes, and nothing was changed"),
        };
        let place = |mistake: Mistake| Place {
            pointer: bounded(mistake.pointer),
            detail: bounded(mistake.message),
        };
        Self {
            errors: mistakes.into_iter().take(MISTAKES).map(place).collect(),
            ..Self::new(Kind::InvalidDocument, detail)
        }
    }

    /// The resource is another one than the writer saw.
    pub(super) fn stale(current: Option<ETag>) -> Self {
        let detail = match &current {
            Some(_) => {
                "If-Match names another state than this is in (see ETag): read it again, and \
                        decide anew"
            }
            None => "If-Match names a state, but there is no such thing (any more): read the list",
        };
        Self {
            current,
            ..Self::new(Kind::Stale, detail)
        }
    }

    /// Ours to find out: the cause is logged, and not told.
    pub(super) fn internal(cause: impl ToString) -> Self {
        Self {
            cause: Some(cause.to_string()),
            ..Self::new(
                Kind::Internal,
                "nothing you can mend: the control plane's log says more under this request_id",
            )
        }
    }

    /// Nobody's fault, and not for ever.
    pub(super) fn unavailable(detail: &str, cause: Option<String>) -> Self {
        Self {
            cause,
            ..Self::new(Kind::Unavailable, detail)
        }
    }

    /// What it is.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// What the log is to know and the asker is not.
    pub(super) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// The body to send, as JSON.
    pub(super) fn body(&self, request_id: &str) -> Vec<u8> {
        let sent = Sent {
            r#type: format!("urn:tidegate:problem:{}", self.kind.name()),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            request_id,
            errors: &self.errors,
        };
        // Strings and numbers into memory: there is no failing case.
        serde_json::to_vec(&sent).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    /// Status and headers; the body is written by `layers`, which finds the
    /// problem among the extensions.
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        match self.kind {
            Kind::Unauthenticated => {
                let scheme = HeaderValue::from_static("Bearer realm=\"tidegate\"");
                headers.insert(header::WWW_AUTHENTICATE, scheme);
            }
            Kind::Unavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        if let Some(tag) = &self.current {
            headers.insert(header::ETAG, tag.header());
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if is_away(&error) {
            return Self::unavailable(
                "the database does not answer: agents go on with what they have; try again later",
                Some(error.to_string()),
            );
        }
        Self::internal(error)
    }
}

impl From<WriteError> for Problem {
    /// Of a write that is not the document's own: its mistakes lie elsewhere.
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Store(error) => error.into(),
            WriteError::Mistakes(mistakes) => {
                Self::mistakes(super::tree::as_seen_from(mistakes, None))
            }
        }
    }
}

/// Whether it is a database that is away, and not one that refuses.
fn is_away(error: &StoreError) -> bool {
    use sqlx::Error;
    match error {
        StoreError::Database(Error::Database(error)) => {
            // Connection exceptions, insufficient resources, operator intervention;
            // and a standby that was asked to write.
            error.code().is_some_and(|code| {
                ["08", "53", "57"]
                    .iter()
                    .any(|class| code.starts_with(class))
                    || code == "25006"
            })
        }
        StoreError::Database(error) => matches!(
            error,
            Error::Io(_) | Error::Tls(_) | Error::PoolTimedOut | Error::PoolClosed
        ),
        _ => false,
    }
}

fn bounded(text: String) -> String {
    match text.char_indices().nth(TEXT) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_comes_back_bounded() {
        let huge = "ä".repeat(100_000);
        let many = (0..1000).map(|_| Mistake::new(huge.clone(), huge.clone()));
        let body = Problem::mistakes(many.collect()).body("1");
        assert!(body.len() < 2_200 * MISTAKES, "{}", body.len());
        assert!(Problem::malformed(huge).body("1").len() < 2_000);
    }

    #[test]
    fn a_database_that_is_away_is_told_apart_from_our_mistakes() {
        let of = |error: sqlx::Error| Problem::from(StoreError::from(error)).kind();
        assert_eq!(of(sqlx::Error::PoolTimedOut), Kind::Unavailable);
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(of(sqlx::Error::Io(refused)), Kind::Unavailable);
        assert_eq!(of(sqlx::Error::RowNotFound), Kind::Internal);
        let broken = Problem::from(StoreError::Broken("the document: secret".into()));
        assert_eq!(broken.kind(), Kind::Internal);
        let body = String::from_utf8(broken.body("1")).unwrap();
        assert!(!body.contains("secret"), "{body}");
        assert!(broken.cause().unwrap().contains("secret"));
    }
}
