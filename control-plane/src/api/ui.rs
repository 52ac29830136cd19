//! The dashboard's files, as `build.rs` has embedded them. Each path that is neither
//! the API's nor a file's is a place in the dashboard, and gets its one page.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use tidegate_core::snapshot::Fingerprint;

use super::problem::{Kind, Problem};
use crate::seal;

include!(concat!(env!("OUT_DIR"), "/ui.rs"));

/// Where the page says what its styles are allowed by.
const NONCE: &str = "__TIDEGATE_NONCE__";
/// Their names hold a hash of what is in them.
const HASHED: &str = "/assets/";

/// One file of the dashboard.
struct File {
    path: &'static str,
    content_type: &'static str,
    plain: &'static [u8],
    brotli: Option<&'static [u8]>,
    gzip: Option<&'static [u8]>,
}

/// Answers what is no part of the API.
pub(super) async fn serve(request: Request) -> Response {
    let path = request.uri().path();
    let is_api = path == "/api" || path.starts_with("/api/");
    if is_api {
        return Problem::not_found("nothing is at this path: see /api/v1/openapi.json")
            .into_response();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let detail = "a page is read with GET: the API is under /api/v1";
        return Problem::new(Kind::MethodNotAllowed, detail).into_response();
    }
    match FILES.iter().find(|file| file.path == path) {
        Some(file) => file.answer(request.headers()),
        // A file that an older page asks for: its page must not come in its place.
        None if path.starts_with(HASHED) => {
            Problem::not_found("this file is of another version: load the page again")
                .into_response()
        }
        None => page(INDEX),
    }
}

/// The page. Nothing in it is executed but our own files, and nothing of another host
/// is loaded; the component library's styles carry the nonce.
fn page(index: &str) -> Response {
    let nonce = match seal::random::<16>() {
        Ok(bytes) => BASE64_STANDARD_NO_PAD.encode(bytes.as_slice()),
        Err(error) => return Problem::internal(error).into_response(),
    };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; \
         img-src 'self' data:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    let mut response = index.replace(NONCE, &nonce).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, html);
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

impl File {
    fn answer(&self, headers: &HeaderMap) -> Response {
        let tag = format!("\"{}\"", Fingerprint::of(self.plain));
        let known = headers.get_all(header::IF_NONE_MATCH).iter();
        let known = known.filter_map(|value| value.to_str().ok());
        let mut tags = known.flat_map(|line| line.split(','));
        let cached = match self.path.starts_with(HASHED) {
            true => "public, max-age=31536000, immutable",
            false => "no-cache",
        };
        let fixed = [
            (header::CACHE_CONTROL, cached),
            (header::VARY, "accept-encoding"),
            (header::CONTENT_TYPE, self.content_type),
        ];
        let (encoding, bytes) = self.encoded(headers);
        let mut response = if tags.any(|known| known.trim() == tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            Body::from(bytes).into_response()
        };
        let set = |headers: &mut HeaderMap, name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        let headers = response.headers_mut();
        for (name, value) in fixed {
            set(headers, name, value);
        }
        set(headers, header::ETAG, &tag);
        if let Some(encoding) = encoding {
            set(headers, header::CONTENT_ENCODING, encoding);
        }
        response
    }

    /// The smallest form that the asker takes (RFC 9110 section 12.5.3).
    fn encoded(&self, headers: &HeaderMap) -> (Option<&'static str>, &'static [u8]) {
        let lines = headers.get_all(header::ACCEPT_ENCODING).iter();
        let written = lines.filter_map(|line| line.to_str().ok());
        let accepted: Vec<&str> = written.flat_map(|line| line.split(',')).collect();
        let takes = |name: &str| {
            accepted.iter().any(|one| {
                let (coding, weight) = one.split_once(';').unwrap_or((one, ""));
                let refused = matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
                coding.trim().eq_ignore_ascii_case(name) && !refused
            })
        };
        match (self.brotli, self.gzip) {
            (Some(bytes), _) if takes("br") => (Some("br"), bytes),
            (_, Some(bytes)) if takes("gzip") => (Some("gzip"), bytes),
            _ => (None, self.plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use serde_json::Value;

    use super::*;

    static FILE: File = File {
        path: "/assets/a.js",
        content_type: "text/javascript; charset=utf-8",
        plain: b"plain",
        brotli: Some(b"br"),
        gzip: Some(b"gz"),
    };

    async fn body(response: Response) -> String {
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        String::from_utf8(bytes.unwrap().into()).unwrap()
    }

    async fn get(path: &str) -> Response {
        serve(Request::get(path).body(Body::empty()).unwrap()).await
    }

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[tokio::test]
    async fn every_place_of_the_dashboard_is_its_one_page() {
        for path in ["/", "/pools/game", "/agents/x.y", "/apis"] {
            let response = get(path).await;
            assert_eq!(response.status(), 200, "{path}");
            let html = &response.headers()[header::CONTENT_TYPE];
            assert_eq!(html, "text/html; charset=utf-8");
        }
        for path in ["/api", "/api/v1/nothing", "/assets/gone.js"] {
            assert_eq!(get(path).await.status(), 404, "{path}");
        }
        let posted = Request::post("/").body(Body::empty()).unwrap();
        assert_eq!(serve(posted).await.status(), 405);
    }

    #[tokio::test]
    async fn no_two_pages_allow_the_same_styles_and_none_an_inline_script() {
        let index = "<meta name=\"csp-nonce\" content=\"__TIDEGATE_NONCE__\">";
        let (one, two) = (page(index), page(index));
        let policy = |page: &Response| {
            let policy = &page.headers()[header::CONTENT_SECURITY_POLICY];
            policy.to_str().unwrap().to_owned()
        };
        let (first, second) = (policy(&one), policy(&two));
        assert_ne!(first, second);
        assert!(first.contains("script-src 'self';"), "{first}");
        for forbidden in ["unsafe", "*", "http", "data: ;"] {
            assert!(!first.contains(forbidden), "{first}");
        }
        let html = body(one).await;
        let nonce = html.split('"').nth(3).unwrap();
        assert!(
            first.contains(&format!("'nonce-{nonce}'")),
            "{first} {html}"
        );
    }

    #[tokio::test]
    async fn a_file_comes_in_the_smallest_form_that_is_taken() {
        for (accepted, encoding, bytes) in [
            ("gzip, deflate, br, zstd", Some("br"), "br"),
            ("gzip;q=1.0, br;q=0", Some("gzip"), "gz"),
            ("GZIP", Some("gzip"), "gz"),
            ("identity", None, "plain"),
            ("brotli", None, "plain"),
        ] {
            let response = FILE.answer(&headers(header::ACCEPT_ENCODING, accepted));
            let sent = response.headers().get(header::CONTENT_ENCODING);
            assert_eq!(sent.map(|v| v.to_str().unwrap()), encoding, "{accepted}");
            assert_eq!(response.headers()[header::VARY], "accept-encoding");
            assert_eq!(body(response).await, bytes);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_there_already_is_not_sent_again() {
        let first = FILE.answer(&HeaderMap::new());
        let cached = first.headers()[header::CACHE_CONTROL].to_str().unwrap();
        assert!(cached.contains("immutable"), "{cached}");
        let tag = first.headers()[header::ETAG].to_str().unwrap();
        let known = headers(header::IF_NONE_MATCH, &format!("\"x\", {tag}"));
        let again = FILE.answer(&known);
        assert_eq!(again.status(), 304);
        assert_eq!(body(again).await, "");
        let other = FILE.answer(&headers(header::IF_NONE_MATCH, "\"x\""));
        assert_eq!(other.status(), 200);
    }

    #[tokio::test]
    async fn what_is_not_of_the_dashboard_is_a_problem() {
        let response = get("/api/v2/pools").await;
        let problem: Problem = response.extensions().get().cloned().unwrap();
        let said: Value = serde_json::from_slice(&problem.body("id")).unwrap();
        assert_eq!(said["type"], "urn:tidegate:problem:not-found");
    }
}
