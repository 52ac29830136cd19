//! Answers of our own: short, and silent about what is behind us.

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

use super::body::Download;

/// A page that says so much.
pub(super) fn plain(status: StatusCode, why: &'static str) -> Response<Download> {
    let text = Full::from(format!("{status}: {why}\n"));
    let mut response = Response::new(Download::Page(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// No body.
pub(super) fn nothing() -> Download {
    Download::Page(Full::default())
}
