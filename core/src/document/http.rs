//! What a terminator's listener in HTTP mode takes of its clients: versions, bounds,
//! and whose word about others it takes. `check` looks at where it is written, the
//! agent acts on it.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::bounded::Bounded;
use super::is_default;
use super::value::{Cidr, Timeout};

/// HTTP on one listener. Every field has a default, and `{}` is all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a mapping such as { versions: [h1, h2], max_body_bytes: 10485760 }, or {}"
)]
pub struct Http {
    /// Versions that are spoken, and offered by ALPN (RFC 7301); both unless written.
    #[serde(skip_serializing_if = "is_default")]
    pub versions: Versions,
    /// The head of a request in bytes, request line included; more is answered with
    /// 431. HTTP/2 counts it as RFC 9113 section 6.5.2 does (uncompressed, 32 more
    /// for each field).
    #[serde(skip_serializing_if = "is_default")]
    pub max_header_bytes: MaxHeaderBytes,
    /// Fields in the head of a request; more are answered with 431.
    #[serde(skip_serializing_if = "is_default")]
    pub max_headers: MaxHeaders,
    /// The body of a request in bytes; more is answered with 413. Absent = no bound:
    /// bodies are streamed and cost no memory here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<NonZeroU64>,
    /// For a whole head, from its first byte; after it comes 408.
    #[serde(skip_serializing_if = "is_header_timeout")]
    pub header_timeout: Timeout,
    /// For the app to begin its answer, once it has the whole request; after it comes
    /// 504.
    #[serde(skip_serializing_if = "is_response_timeout")]
    pub response_timeout: Timeout,
    /// Who forwards for others: their X-Forwarded-*, Forwarded and X-Request-Id are
    /// kept, and appended to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<Cidr>,
    /// Whether every request gets an X-Request-Id.
    #[serde(skip_serializing_if = "is_true")]
    pub request_id: bool,
    /// HTTP/2 requests of one connection at once (SETTINGS_MAX_CONCURRENT_STREAMS).
    #[serde(skip_serializing_if = "is_default")]
    pub max_concurrent_streams: MaxConcurrentStreams,
}

/// From what hyper needs for a buffer to what no browser sends.
pub type MaxHeaderBytes = Bounded<8192, 1_048_576>;
/// 1 to 1,000.
pub type MaxHeaders = Bounded<1, 1000>;
/// 1 to 1,000.
pub type MaxConcurrentStreams = Bounded<1, 1000>;

const HEADER_TIMEOUT: Timeout = Timeout::from_secs(10);
const RESPONSE_TIMEOUT: Timeout = Timeout::from_secs(60);

impl Default for Http {
    fn default() -> Self {
        Self {
            versions: Versions::default(),
            max_header_bytes: MaxHeaderBytes::default(),
            max_headers: MaxHeaders::default(),
            max_body_bytes: None,
            header_timeout: HEADER_TIMEOUT,
            response_timeout: RESPONSE_TIMEOUT,
            trusted_proxies: Vec::new(),
            request_id: true,
            max_concurrent_streams: MaxConcurrentStreams::default(),
        }
    }
}

impl Default for MaxHeaderBytes {
    /// Four times what Node.js takes, so that the app is the one to refuse.
    fn default() -> Self {
        Self::near(64 << 10)
    }
}

impl Default for Bounded<1, 1000> {
    /// As nginx and Envoy have it, near enough.
    fn default() -> Self {
        Self::near(100)
    }
}

fn is_header_timeout(written: &Timeout) -> bool {
    *written == HEADER_TIMEOUT
}

fn is_response_timeout(written: &Timeout) -> bool {
    *written == RESPONSE_TIMEOUT
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_true(written: &bool) -> bool {
    *written
}

/// A version of HTTP, named as ALPN and operators do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpVersion {
    /// HTTP/1.1, and HTTP/1.0 of clients that speak it.
    H1,
    /// HTTP/2 (RFC 9113).
    H2,
}

/// At least one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<HttpVersion>", into = "Vec<HttpVersion>")]
pub struct Versions {
    h1: bool,
    h2: bool,
}

impl Versions {
    /// Whether HTTP/1.1 is spoken.
    pub fn h1(self) -> bool {
        self.h1
    }

    /// Whether HTTP/2 is spoken.
    pub fn h2(self) -> bool {
        self.h2
    }
}

impl Default for Versions {
    fn default() -> Self {
        Self { h1: true, h2: true }
    }
}

impl TryFrom<Vec<HttpVersion>> for Versions {
    type Error = super::value::BadValue;

    fn try_from(written: Vec<HttpVersion>) -> Result<Self, Self::Error> {
        let has = |version| written.contains(&version);
        let (h1, h2) = (has(HttpVersion::H1), has(HttpVersion::H2));
        if h1 || h2 {
            return Ok(Self { h1, h2 });
        }
        Err(super::value::BadValue(
            "empty: name at least one of h1 and h2, or take this out".to_owned(),
        ))
    }
}

impl From<Versions> for Vec<HttpVersion> {
    fn from(versions: Versions) -> Self {
        let (h1, h2) = (versions.h1, versions.h2);
        let h1 = h1.then_some(HttpVersion::H1);
        h1.into_iter()
            .chain(h2.then_some(HttpVersion::H2))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Http, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_written_has_its_default() {
        assert_eq!(read("{}"), Ok(Http::default()));
        assert_eq!(serde_json::to_string(&Http::default()).unwrap(), "{}");
    }

    #[test]
    fn what_is_written_survives() {
        let text = r#"{"versions":["h2"],"max_header_bytes":8192,"max_headers":1,"max_body_bytes":1,"header_timeout":"1s","response_timeout":"2s","trusted_proxies":["10.0.0.0/8"],"request_id":false,"max_concurrent_streams":1000}"#;
        assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), text);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_mend() {
        for (written, mend) in [
            ("{versions: []}", "at least one of h1 and h2"),
            ("{versions: [h3]}", "h3"),
            ("{max_header_bytes: 8191}", "write 8192 to 1048576"),
            ("{max_headers: 0}", "write 1 to 1000"),
            ("{max_concurrent_streams: 1001}", "write 1 to 1000"),
            ("{max_body_bytes: 0}", "nonzero"),
            ("{header_timeout: 0s}", "0"),
            ("{trusted_proxies: [10.0.0.1/8]}", "10.0.0.0/8"),
            ("{trusted: []}", "trusted_proxies"),
        ] {
            let refused = read(written).unwrap_err();
            assert!(refused.contains(mend), "{written}: {refused}");
        }
    }
}
