//! A join token as text: `tg1.<id>.<secret>.<pin>`. The control plane mints and
//! redeems them; an agent reads the pin, by which it knows the right authority
//! before it trusts anybody.
//!
//! The whole text is a secret: no `Debug`, no `Display`, and errors never quote it.

use std::str::FromStr;

use crate::snapshot::Fingerprint;

const PREFIX: &str = "tg1";
/// Bytes of randomness in the secret part.
pub const SECRET_BYTES: usize = 32;
/// Bytes of randomness in the public part, by which it is listed and removed.
pub const ID_BYTES: usize = 8;

/// A join token, read.
#[derive(Clone)]
pub struct JoinToken {
    /// Names it in lists; not secret.
    pub id: String,
    /// Lower-case hexadecimal.
    secret: String,
    /// SHA-256 of the authority's SubjectPublicKeyInfo, DER.
    pub pin: Fingerprint,
}

/// Why a text is no join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It has another form.
    #[error(
        "that is not a join token: it is one line, tg1.<id>.<secret>.<pin>, as \
         `tidegate token create` prints it"
    )]
    Form,
    /// A part is missing or was changed.
    #[error("the join token is damaged: copy it whole, as `tidegate token create` printed it")]
    Damaged,
}

impl JoinToken {
    /// A new token from fresh randomness.
    pub fn new(id: [u8; ID_BYTES], secret: [u8; SECRET_BYTES], pin: Fingerprint) -> Self {
        Self {
            id: hex(&id),
            secret: hex(&secret),
            pin,
        }
    }

    /// What the control plane keeps of the secret. It is random and long, so a
    /// plain hash tells nothing about it.
    pub fn secret_hash(&self) -> Fingerprint {
        Fingerprint::of(self.secret.as_bytes())
    }

    /// The whole text, for the one who is to have it.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}.{}.{}.{}", self.id, self.secret, self.pin)
    }
}

impl FromStr for JoinToken {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [PREFIX, id, secret, pin] = parts.as_slice() else {
            return Err(BadToken::Form);
        };
        let whole = is_hex(id, ID_BYTES) && is_hex(secret, SECRET_BYTES) && is_hex(pin, 32);
        if !whole {
            return Err(BadToken::Damaged);
        }
        Ok(Self {
            id: (*id).to_owned(),
            secret: (*secret).to_owned(),
            pin: (*pin)
                .to_owned()
                .try_into()
                .map_err(|_| BadToken::Damaged)?,
        })
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
    use super::*;
    use proptest::prelude::*;

    fn token() -> JoinToken {
        JoinToken::new([7; ID_BYTES], [9; SECRET_BYTES], Fingerprint::of(b"ca"))
    }

    #[test]
    fn a_token_survives_its_text() {
        let text = token().reveal();
        let read: JoinToken = format!("  {text}\n").parse().ok().unwrap();
        assert_eq!(read.reveal(), text);
        assert_eq!(read.secret_hash(), token().secret_hash());
    }

    #[test]
    fn what_is_no_token_is_told_apart_from_a_damaged_one() {
        let text = token().reveal();
        for form in ["", "x", "tg2.a.b.c", "tg1.a.b", &format!("{text}.x")] {
            assert_eq!(form.parse::<JoinToken>().err(), Some(BadToken::Form));
        }
        let upper = text.to_uppercase().replace("TG1", "tg1");
        for damaged in [&text[..text.len() - 1], &text.replace("07", "7"), &upper] {
            assert_eq!(damaged.parse::<JoinToken>().err(), Some(BadToken::Damaged));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_written_the_same(text in "[tg1-2.a-f0-9G ]{0,200}") {
            if let Ok(token) = text.parse::<JoinToken>() {
                prop_assert_eq!(token.reveal(), text.trim());
            }
        }
    }
}
