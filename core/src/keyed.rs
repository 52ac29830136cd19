//! Hashes under a key: of client and backend names, so that nobody outside can
//! choose whom a client collides with or which backend it meets.
//!
//! Owns the function and its domains. Where the key comes from (all balancers of
//! a fleet share one) and how long it lives are the agent's. Called by `pick` for
//! backends, and by the agent once per connection for its client.

use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

use crate::addr::ClientKey;

/// The key: 16 secret bytes; in a snapshot 32 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HashKey([u8; 16]);

/// What is hashed, so that hashes of different things are unrelated.
#[derive(Clone, Copy)]
pub(crate) enum Domain {
    Client = 1,
    /// Where a backend's walk through the source table begins.
    Offset = 2,
    /// How far it goes at each step.
    Step = 3,
    /// Its standing where the table does not decide.
    Standing = 4,
}

impl HashKey {
    /// Of bytes that clients cannot guess.
    pub fn new(secret: [u8; 16]) -> Self {
        Self(secret)
    }

    /// The hash of a client, the same wherever the key is: [`Ask::hash`] of
    /// [`pick`](crate::pick), and the key of a [`RateTable`].
    ///
    /// [`Ask::hash`]: crate::pick::Ask::hash
    /// [`RateTable`]: crate::rate::RateTable
    pub fn client(&self, client: ClientKey) -> u64 {
        match client.net().addr() {
            IpAddr::V4(v4) => self.hash(Domain::Client, &v4.octets()),
            // The rest of a /64 is zeros.
            IpAddr::V6(v6) => self.hash(Domain::Client, &v6.octets()),
        }
    }

    pub(crate) fn hash(&self, domain: Domain, bytes: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(&[domain as u8]);
        hasher.write(bytes);
        hasher.finish()
    }
}

/// Text that is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash key is 32 hexadecimal digits")]
pub struct BadHashKey;

impl TryFrom<String> for HashKey {
    type Error = BadHashKey;

    fn try_from(text: String) -> Result<Self, BadHashKey> {
        let digits = text.len() == 32 && text.bytes().all(|c| c.is_ascii_hexdigit());
        let key = u128::from_str_radix(&text, 16).ok().filter(|_| digits);
        key.map(|key| Self(key.to_be_bytes())).ok_or(BadHashKey)
    }
}

impl From<HashKey> for String {
    fn from(key: HashKey) -> Self {
        format!("{:032x}", u128::from_be_bytes(key.0))
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

/// Another number for each number, as if drawn anew (the finaliser of splitmix64,
/// Steele et al., OOPSLA 2014). No secret by itself: its argument must be one.
pub(crate) fn mix(from: u64) -> u64 {
    let step = from.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let step = (step ^ (step >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let step = (step ^ (step >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    step ^ (step >> 31)
}

/// A number below `bound` (0 when it is 0), as uniform as `draw` is.
pub(crate) fn below(draw: u64, bound: u64) -> u64 {
    // The upper half of a product below 2^128.
    u64::try_from((u128::from(draw) * u128::from(bound)) >> 64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(ip: &str) -> ClientKey {
        ClientKey::new(ip.parse().unwrap())
    }

    #[test]
    fn the_hash_is_siphash_2_4_of_a_domain_and_the_bytes() {
        // Appendix A of the SipHash paper: key 00..0f, message 00..0e.
        let key = HashKey::new(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        let mut hasher = SipHasher24::new_with_key(&key.0);
        hasher.write(&std::array::from_fn::<u8, 15, _>(|i| {
            u8::try_from(i).unwrap()
        }));
        assert_eq!(hasher.finish(), 0xa129_ca61_49be_45e5);
        let mut hasher = SipHasher24::new_with_key(&key.0);
        hasher.write(&[1, 192, 0, 2, 1]);
        assert_eq!(key.client(client("192.0.2.1")), hasher.finish());
    }

    #[test]
    fn clients_are_told_apart_as_they_are_counted() {
        let key = HashKey::new([7; 16]);
        let hash = |ip| key.client(client(ip));
        assert_eq!(hash("192.0.2.1"), hash("::ffff:192.0.2.1"));
        assert_eq!(hash("2001:db8::1"), hash("2001:db8::2"));
        assert_ne!(hash("192.0.2.1"), hash("192.0.2.2"));
        assert_ne!(hash("2001:db8::1"), hash("2001:db8:0:1::1"));
        assert_ne!(
            hash("192.0.2.1"),
            HashKey::new([8; 16]).client(client("192.0.2.1"))
        );
    }

    #[test]
    fn a_key_survives_its_text_and_nothing_else_is_one() {
        let key = HashKey::new(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        let text = String::from(key.clone());
        assert_eq!(text, "000102030405060708090a0b0c0d0e0f");
        assert_eq!(HashKey::try_from(text), Ok(key));
        for bad in ["", "00", &"g".repeat(32), &"+".repeat(32), &"0".repeat(33)] {
            assert_eq!(HashKey::try_from(bad.to_owned()), Err(BadHashKey));
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", HashKey::new([9; 16])), "HashKey(..)");
    }

    #[test]
    fn a_bounded_draw_stays_below_its_bound_and_reaches_it() {
        assert_eq!(below(u64::MAX, 0), 0);
        assert_eq!(below(u64::MAX, 10), 9);
        assert_eq!(below(0, 10), 0);
        assert_eq!(below(1 << 63, 10), 5);
        assert_eq!(below(u64::MAX, u64::MAX), u64::MAX - 1);
    }
}
