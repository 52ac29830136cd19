//! What a reader saw, in a word: the entity tags of RFC 9110. A writer gives one
//! back in If-Match, and under the cluster's lock it is compared with the state
//! that is about to be replaced.
//!
//! The document's tag is its revision. Anything else goes by the hash of its JSON,
//! or, where most of that is only observed, of the part that writes can change.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use serde::Serialize;
use tidegate_core::snapshot::Fingerprint;

use super::Api;
use super::problem::Problem;
use crate::model::Numbers;

/// A strong entity tag, without its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ETag(String);

impl ETag {
    /// Of what is sent: the first half of its SHA-256.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        let hash = Fingerprint::of(bytes).to_string();
        Self(hash.chars().take(32).collect())
    }

    /// Of a value, by its JSON. Field order is the type's, so equal values have
    /// equal tags.
    pub(super) fn of(value: &impl Serialize) -> Self {
        // Our own plain structs into memory: there is no failing case.
        Self::of_bytes(&serde_json::to_vec(value).unwrap_or_default())
    }

    /// Of the document.
    pub(super) fn of_document(numbers: Numbers) -> Self {
        let epoch = numbers.epoch.simple().to_string();
        let epoch: String = epoch.chars().take(8).collect();
        Self(format!("{epoch}-{}", numbers.revision))
    }

    /// As the ETag header has it.
    pub(super) fn header(&self) -> HeaderValue {
        // Hexadecimal digits and a dash.
        HeaderValue::from_str(&format!("\"{}\"", self.0))
            .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
    }
}

/// The header of writes, for the description.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only described; IfMatch reads the header")]
pub(super) struct Precondition {
    /// The ETag of what is to be replaced: when it is in another state by now,
    /// nothing is done and the answer is 412.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
}

/// What a write expects to replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum IfMatch {
    /// Whatever is there, or nothing.
    Anything,
    /// Something.
    Something,
    /// One of these. Weak ones are left out: they match nothing here.
    OneOf(Vec<ETag>),
}

impl IfMatch {
    /// # Errors
    /// When `current` is not what was expected.
    pub(super) fn check(&self, current: Option<&ETag>) -> Result<(), Problem> {
        let holds = match self {
            Self::Anything => true,
            Self::Something => current.is_some(),
            Self::OneOf(tags) => current.is_some_and(|current| tags.contains(current)),
        };
        if holds {
            return Ok(());
        }
        Err(Problem::stale(current.cloned()))
    }

    fn parse(text: &str) -> Option<Self> {
        if text.trim() == "*" {
            return Some(Self::Something);
        }
        let mut tags = Vec::new();
        for written in text.split(',') {
            let (weak, quoted) = match written.trim().strip_prefix("W/") {
                Some(quoted) => (true, quoted),
                None => (false, written.trim()),
            };
            let tag = quoted.strip_prefix('"')?.strip_suffix('"')?;
            if tag.contains('"') {
                return None;
            }
            if !weak {
                tags.push(ETag(tag.to_owned()));
            }
        }
        Some(Self::OneOf(tags))
    }
}

impl FromRequestParts<Api> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        let mut lines = Vec::new();
        for line in parts.headers.get_all(header::IF_MATCH) {
            lines.push(line.to_str().unwrap_or("?"));
        }
        if lines.is_empty() {
            return Ok(Self::Anything);
        }
        Self::parse(&lines.join(",")).ok_or_else(|| {
            Problem::malformed("If-Match: write the ETag of an answer as it came, quotes included")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_is_read_as_rfc_9110_has_it() {
        let tag = |text: &str| ETag(text.to_owned());
        let table = [
            ("*", Some(IfMatch::Something)),
            ("\"a\"", Some(IfMatch::OneOf(vec![tag("a")]))),
            (
                " \"a\" ,\"b\"",
                Some(IfMatch::OneOf(vec![tag("a"), tag("b")])),
            ),
            ("W/\"a\"", Some(IfMatch::OneOf(vec![]))),
            ("a", None),
            ("\"a", None),
            ("\"a\"b\"", None),
            ("\"", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(IfMatch::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_there_matches_nothing_that_was_seen() {
        let (one, other) = (ETag::of(&1), ETag::of(&2));
        assert!(IfMatch::Anything.check(None).is_ok());
        assert!(IfMatch::Something.check(None).is_err());
        assert!(IfMatch::Something.check(Some(&one)).is_ok());
        let expected = IfMatch::OneOf(vec![one.clone()]);
        assert!(expected.check(Some(&one)).is_ok());
        assert!(expected.check(Some(&other)).is_err());
        assert!(expected.check(None).is_err());
    }

    #[test]
    fn numbers_of_two_epochs_are_two_tags() {
        let numbers = |epoch: u128| Numbers {
            epoch: uuid::Uuid::from_u128(epoch << 96),
            change: 9,
            revision: 7,
        };
        let (one, other) = (numbers(1), numbers(2));
        assert_eq!(ETag::of_document(one).header(), "\"00000001-7\"");
        assert_ne!(ETag::of_document(one), ETag::of_document(other));
    }
}
