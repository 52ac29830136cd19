//! What somebody proves with who they are, as text: `tga1.<id>.<secret>` is an API
//! token, `tgs1.<id>.<secret>` the session of a browser. The id is public and finds
//! the row; the secret is kept only as its hash.
//!
//! The whole text is a secret: no `Debug`, no `Display`, and errors never quote it.

use tidegate_core::snapshot::Fingerprint;
use zeroize::Zeroizing;

use crate::seal::{self, SealError};

/// What a text is the proof of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// For programs and for logging in.
    Api,
    /// In a browser's cookie.
    Session,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Api => "tga1",
            Self::Session => "tgs1",
        }
    }
}

/// Bytes of randomness in the public part.
const ID: usize = 8;
/// Bytes of randomness in the secret part.
const SECRET: usize = 32;

/// A token, read.
pub(super) struct Token {
    kind: Kind,
    /// Names it in lists; not secret.
    pub(super) id: String,
    /// Lower-case hexadecimal.
    secret: Zeroizing<String>,
}

impl Token {
    /// A new one from fresh randomness.
    ///
    /// # Errors
    /// When the system gives none.
    pub(super) fn fresh(kind: Kind) -> Result<Self, SealError> {
        Ok(Self {
            kind,
            id: hex(seal::random::<ID>()?.as_slice()),
            secret: Zeroizing::new(hex(seal::random::<SECRET>()?.as_slice())),
        })
    }

    /// Reads the text; `None` for any other form.
    pub(super) fn parse(kind: Kind, text: &str) -> Option<Self> {
        let mut parts = text.trim().split('.');
        let (prefix, id, secret) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = prefix == kind.prefix() && parts.next().is_none();
        let whole = whole && is_hex(id, ID) && is_hex(secret, SECRET);
        whole.then(|| Self {
            kind,
            id: id.to_owned(),
            secret: Zeroizing::new(secret.to_owned()),
        })
    }

    /// What is kept of the secret. It is random and long, so a plain hash tells
    /// nothing about it.
    pub(super) fn secret_hash(&self) -> Fingerprint {
        Fingerprint::of(self.secret.as_bytes())
    }

    /// The whole text, for the one who is to have it.
    pub(super) fn reveal(&self) -> String {
        let prefix = self.kind.prefix();
        format!("{prefix}.{}.{}", self.id, self.secret.as_str())
    }
}

fn is_hex(text: &str, bytes: usize) -> bool {
    let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    text.len() == 2 * bytes && text.bytes().all(digit)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_survives_its_text() {
        for kind in [Kind::Api, Kind::Session] {
            let token = Token::fresh(kind).ok().unwrap();
            let read = Token::parse(kind, &format!(" {}\n", token.reveal())).unwrap();
            assert_eq!(read.reveal(), token.reveal());
            assert_eq!(read.secret_hash(), token.secret_hash());
        }
        let token = Token::fresh(Kind::Api).ok().unwrap();
        let other = Token::fresh(Kind::Api).ok().unwrap();
        assert_ne!(other.id, token.id);
        assert_ne!(other.secret_hash(), token.secret_hash());
    }

    #[test]
    fn another_form_is_no_token() {
        let text = Token::fresh(Kind::Api).ok().unwrap().reveal();
        let join = text.replace("tga1", "tg1");
        let session = text.replace("tga1", "tgs1");
        let long = format!("{text}.x");
        let short = &text[..text.len() - 1];
        for wrong in [
            "",
            "x",
            "..",
            "tga1..",
            &join,
            &session,
            &long,
            short,
            &text.to_uppercase(),
        ] {
            assert!(Token::parse(Kind::Api, wrong).is_none(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_written_the_same(text in "(tga1)?[.a-f0-9G]{0,100}") {
            if let Some(token) = Token::parse(Kind::Api, &text) {
                prop_assert_eq!(token.reveal(), text);
            }
        }
    }
}
