//! What surrounds every request: an id, a deadline, and the end of its answer:
//! problems are written down here (and logged, once), and headers are set that
//! every answer has.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;
use uuid::Uuid;

use super::problem::{Kind, Problem};
use super::wait;

/// For a request that waits for nothing but the database.
const DEADLINE: Duration = Duration::from_secs(30);
/// Nobody else's page shows what is answered here, nor holds a window of ours.
const CROSS_ORIGIN_RESOURCES: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const CROSS_ORIGIN_OPENERS: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Runs a request, and finishes its answer.
pub(super) async fn surround(request: Request, next: Next) -> Response {
    // Never the client's: it stands in the log.
    let id = Uuid::now_v7().to_string();
    let deadline = DEADLINE + wait::asked_for(request.uri());
    finished(within(deadline, next.run(request)).await, &id)
}

async fn within(deadline: Duration, answer: impl Future<Output = Response>) -> Response {
    let answer = timeout(deadline, answer).await;
    answer.unwrap_or_else(|_| overdue().into_response())
}

/// Writes down a problem, and sets what every answer has.
fn finished(mut response: Response, id: &str) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        log(&problem, id);
        *response.body_mut() = Body::from(problem.body(id));
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    let headers = response.headers_mut();
    // Where a handler has said something else, that holds.
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
        (CROSS_ORIGIN_RESOURCES, "same-origin"),
        (CROSS_ORIGIN_OPENERS, "same-origin"),
    ] {
        let value = HeaderValue::from_static(value);
        headers.entry(name).or_insert(value);
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

fn overdue() -> Problem {
    Problem::unavailable(
        "this took too long and was given up: read what is there before you try again",
        Some("a request took too long".to_owned()),
    )
}

fn log(problem: &Problem, request_id: &str) {
    let Some(cause) = problem.cause() else {
        return;
    };
    if problem.kind() == Kind::Internal {
        tracing::error!(request_id, cause, "a request failed");
    } else {
        tracing::warn!(request_id, cause, "a request could not be served");
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn body(response: Response) -> String {
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(bytes.into()).unwrap()
    }

    #[tokio::test]
    async fn a_request_that_takes_too_long_is_given_up() {
        let answer = within(Duration::ZERO, std::future::pending()).await;
        assert_eq!(answer.status(), 503);
        let said = body(finished(answer, "id-1")).await;
        assert!(said.contains("\"request_id\":\"id-1\""), "{said}");
        assert!(said.contains("urn:tidegate:problem:unavailable"), "{said}");
    }

    #[tokio::test]
    async fn what_a_panic_says_is_for_the_log_alone() {
        let answer = super::super::panicked(Box::new("MIIsecret"));
        assert_eq!(answer.status(), 500);
        let said = body(finished(answer, "id-2")).await;
        assert!(
            said.contains("id-2") && !said.contains("MIIsecret"),
            "{said}"
        );
    }
}
