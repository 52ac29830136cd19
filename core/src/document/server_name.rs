//! Server names as TLS carries them (RFC 6066 section 3): one DNS name, and the
//! pattern of a route, which may stand for all names below one. Both are folded
//! to lower case where they are read; which pattern wins is `route`'s.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::value::{BadValue, excerpt, written_as_string};

/// A DNS name in lower case, without the dot at its end: labels of `a-z 0-9 - _`,
/// 63 each and 253 in all at most (RFC 1035 section 2.3.4). Never an address:
/// those are no server names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerName(Arc<str>);

impl ServerName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerName {
    type Err = BadValue;

    fn from_str(written: &str) -> Result<Self, BadValue> {
        match fault(written) {
            None => Ok(Self(written.to_ascii_lowercase().into())),
            Some(fault) => Err(bad(written, fault, "play.example.com")),
        }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_string!(ServerName);

/// A server name, or `*.` and a name: all those below it, at any depth, and not
/// that name itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerPattern(Arc<str>);

impl ServerPattern {
    /// The text, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerPattern {
    type Err = BadValue;

    fn from_str(written: &str) -> Result<Self, BadValue> {
        match fault(written.strip_prefix("*.").unwrap_or(written)) {
            None => Ok(Self(written.to_ascii_lowercase().into())),
            Some(fault) => Err(bad(written, fault, "play.example.com or *.example.com")),
        }
    }
}

impl fmt::Display for ServerPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_string!(ServerPattern);

fn bad(written: &str, fault: &str, such_as: &str) -> BadValue {
    BadValue(format!(
        "{:?} is not a server name ({fault}): write a DNS name such as {such_as}",
        excerpt(written)
    ))
}

/// Why a text is no DNS name.
fn fault(written: &str) -> Option<&'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if written.contains('*') {
        return Some("* only stands for whole labels in front, and only in a route");
    }
    if !written.is_ascii() {
        return Some("clients ask for it in its ASCII form, which begins with xn--");
    }
    if written.ends_with('.') {
        return Some("without the dot at the end");
    }
    if written.contains(':') {
        return Some("without a port, and not an address");
    }
    if written.len() > 253 || !written.split('.').all(is_label) {
        return Some("labels are 1 to 63 of a-z, 0-9, '-', '_', and 253 in all");
    }
    // As in URLs, whose last label is a number are addresses: 10.0.0.1, 10.1.
    let last = written.rsplit('.').next().unwrap_or(written);
    last.chars()
        .all(|c| c.is_ascii_digit())
        .then_some("clients name no server when they connect to an address")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_folded_and_only_patterns_have_a_star() {
        let pattern = |written: &str| written.parse::<ServerPattern>().map(String::from);
        assert_eq!(pattern("Play.Example.COM").unwrap(), "play.example.com");
        assert_eq!(pattern("*.Example.com").unwrap(), "*.example.com");
        assert_eq!(pattern("_sip.localhost").unwrap(), "_sip.localhost");
        assert!("*.example.com".parse::<ServerName>().is_err());
        assert_eq!("A.b".parse::<ServerName>().unwrap().as_str(), "a.b");
    }

    #[test]
    fn what_no_client_can_ask_for_is_refused() {
        let long_label = "a".repeat(64);
        let long = format!("{}a", "a.".repeat(127));
        for (bad, why) in [
            ("", "labels"),
            ("*", "*"),
            ("*.", "labels"),
            ("a.*.com", "*"),
            ("*.*.com", "*"),
            ("play.example.com.", "dot"),
            ("play..com", "labels"),
            ("-a.com", "labels"),
            ("a-.com", "labels"),
            ("a b.com", "labels"),
            ("a.com:443", "port"),
            ("[::1]", "port"),
            ("10.0.0.1", "address"),
            ("*.0.0.1", "address"),
            ("bücher.example", "xn--"),
            (long_label.as_str(), "labels"),
            (long.as_str(), "labels"),
        ] {
            let refused = bad.parse::<ServerPattern>().unwrap_err().to_string();
            assert!(refused.contains(why), "{bad}: {refused}");
            assert!(bad.parse::<ServerName>().is_err(), "{bad}");
        }
    }

    /// The fuzz function: what is taken is what a ClientHello may carry, is in lower
    /// case, and is read again as itself.
    fn fuzz(bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(pattern) = text.parse::<ServerPattern>() {
            assert_eq!(pattern.as_str(), text.to_ascii_lowercase());
            assert_eq!(
                pattern.as_str().parse::<ServerPattern>(),
                Ok(pattern.clone())
            );
            let name = pattern.as_str().strip_prefix("*.");
            assert_eq!(text.parse::<ServerName>().is_ok(), name.is_none());
            let name = name.unwrap_or(pattern.as_str());
            assert!(name.parse::<ServerName>().is_ok());
            assert!(name.parse::<std::net::IpAddr>().is_err());
            assert!(name.len() <= 253 && !name.contains(['*', ':', ' ']));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_server_name_or_refused(
            text in "[a-zA-Z0-9_*.:é -]{0,24}",
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            fuzz(text.as_bytes());
            fuzz(&bytes);
        }
    }
}
