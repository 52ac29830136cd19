//! Plain HTTP sent to https: where a request is to go instead, and which path asks
//! for the answer to an ACME challenge (RFC 8555 section 8.3).
//!
//! Pure. The agent reads the request and writes the answer; what it knows of
//! challenges comes from the control plane.

use std::num::NonZeroU16;

use http::Uri;
use http::uri::{Authority, PathAndQuery};

const CHALLENGES: &str = "/.well-known/acme-challenge/";
const HTTPS: u16 = 443;

/// The token that a request for this target asks about.
pub fn challenge(target: &Uri) -> Option<&str> {
    let token = target.path().strip_prefix(CHALLENGES)?;
    // Base64url (RFC 8555 section 8.1): no path leads out of it.
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (!token.is_empty() && token.bytes().all(allowed)).then_some(token)
}

/// The `Location` for a request: the same host and path, by https on `port`.
///
/// `host` is the Host header's text. A target that names its host itself (absolute
/// form) goes before it (RFC 9112 section 3.2.2). `None` when neither names one, or
/// what does is none.
pub fn location(target: &Uri, host: Option<&str>, port: NonZeroU16) -> Option<String> {
    let authority = match target.authority() {
        Some(authority) => authority.clone(),
        None => host?.parse::<Authority>().ok()?,
    };
    let host = authority.host();
    // User and password have no place in what we send back.
    if host.is_empty() || authority.as_str().contains('@') {
        return None;
    }
    let path = target.path_and_query().map_or("/", PathAndQuery::as_str);
    // `OPTIONS *` is about the server as a whole.
    let path = if path.starts_with('/') { path } else { "/" };
    Some(match port.get() {
        HTTPS => format!("https://{host}{path}"),
        port => format!("https://{host}:{port}{path}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent_to(target: &str, host: Option<&str>, port: u16) -> Option<String> {
        location(&target.parse().unwrap(), host, port.try_into().unwrap())
    }

    #[test]
    fn a_request_goes_to_the_same_place_by_https() {
        for (target, host, port, expected) in [
            ("/", Some("example.com"), 443, Some("https://example.com/")),
            (
                "/a/b?c=d",
                Some("example.com:80"),
                443,
                Some("https://example.com/a/b?c=d"),
            ),
            (
                "/",
                Some("example.com"),
                8443,
                Some("https://example.com:8443/"),
            ),
            (
                "/",
                Some("[2001:db8::1]:80"),
                443,
                Some("https://[2001:db8::1]/"),
            ),
            ("/", Some("192.0.2.1"), 443, Some("https://192.0.2.1/")),
            (
                "http://a.example/x",
                Some("b.example"),
                443,
                Some("https://a.example/x"),
            ),
            ("http://a.example", None, 443, Some("https://a.example/")),
            ("*", Some("example.com"), 443, Some("https://example.com/")),
            ("/", None, 443, None),
            ("/", Some(""), 443, None),
            ("/", Some("user@example.com"), 443, None),
            ("/", Some("a b"), 443, None),
            ("/", Some("example.com/evil"), 443, None),
        ] {
            assert_eq!(
                sent_to(target, host, port).as_deref(),
                expected,
                "{target} {host:?}"
            );
        }
    }

    #[test]
    fn only_tokens_are_asked_about() {
        for (target, token) in [
            ("/.well-known/acme-challenge/abc-DEF_09", Some("abc-DEF_09")),
            ("/.well-known/acme-challenge/abc?x=y", Some("abc")),
            ("/.well-known/acme-challenge/", None),
            ("/.well-known/acme-challenge/../../x", None),
            ("/.well-known/acme-challenge/a%2fb", None),
            ("/.well-known/acme-challenge", None),
            ("/", None),
        ] {
            assert_eq!(challenge(&target.parse().unwrap()), token, "{target}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_the_answer_stays_with_the_host(
            path in "/[a-z/?=&%.]{0,20}",
            host in "\\PC{0,30}",
        ) {
            let Ok(target) = path.parse::<Uri>() else { return Ok(()) };
            if let Some(location) = location(&target, Some(&host), NonZeroU16::MAX) {
                let sent: Uri = location.parse().unwrap();
                prop_assert_eq!(sent.scheme_str(), Some("https"));
                let host: Authority = host.parse().unwrap();
                prop_assert_eq!(sent.host(), Some(host.host()));
            }
        }
    }
}
