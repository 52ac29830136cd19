//! Numbers and times with bounds, as their types: what is out of bounds is
//! refused where it is read, with the bounds in the message. Fields of the
//! document name the bounds; nothing here knows what they are for.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::value::{BadValue, Timeout, written_as_string};

/// A whole number from `MIN` to `MAX`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u32")]
pub struct Bounded<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Bounded<MIN, MAX> {
    /// `number`, moved to the nearer bound where it is outside: for defaults.
    pub(super) const fn near(number: u32) -> Self {
        if number < MIN {
            Self(MIN)
        } else if number > MAX {
            Self(MAX)
        } else {
            Self(number)
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> TryFrom<u64> for Bounded<MIN, MAX> {
    type Error = BadValue;

    fn try_from(number: u64) -> Result<Self, BadValue> {
        let within = u32::try_from(number)
            .ok()
            .filter(|n| (MIN..=MAX).contains(n));
        within
            .map(Self)
            .ok_or_else(|| BadValue(format!("{number} is out of bounds: write {MIN} to {MAX}")))
    }
}

impl<const MIN: u32, const MAX: u32> From<Bounded<MIN, MAX>> for u32 {
    fn from(number: Bounded<MIN, MAX>) -> Self {
        number.0
    }
}

/// From how long to how long a time of the document may be, and why.
macro_rules! bounded_time {
    ($(#[$doc:meta])* $name:ident: $least:literal to $most:literal seconds, $why:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Timeout);

        impl $name {
            /// The time itself.
            pub const fn duration(self) -> Duration {
                self.0.duration()
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadValue;

            fn from_str(written: &str) -> Result<Self, BadValue> {
                let time: Timeout = written.parse()?;
                let (least, most) = (Timeout::from_secs($least), Timeout::from_secs($most));
                if (least..=most).contains(&time) {
                    return Ok(Self(time));
                }
                Err(BadValue(format!("{time} is out of bounds: write {least} to {most}, {}", $why)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        written_as_string!($name);
    };
}

bounded_time! {
    /// How long a connection may be silent before the kernel asks whether the peer
    /// is still there (TCP_KEEPIDLE): 1 s to 345 s.
    Keepalive: 1 to 345 seconds,
    "below the 350 s after which NLB and NAT gateways forget a silent connection"
}

impl Default for Keepalive {
    fn default() -> Self {
        Self(Timeout::from_secs(120))
    }
}

bounded_time! {
    /// How long sent bytes may stay unacknowledged (TCP_USER_TIMEOUT, RFC 5482):
    /// 1 s to 24 days, since the kernel counts milliseconds in 31 bits.
    UserTimeout: 1 to 2_073_600 seconds,
    "since the kernel counts it in milliseconds"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_refused_names_the_bounds() {
        let refused = Bounded::<1, 10>::try_from(11).unwrap_err();
        assert_eq!(refused.to_string(), "11 is out of bounds: write 1 to 10");
        let refused = "10m".parse::<Keepalive>().unwrap_err().to_string();
        assert!(refused.contains("write 1s to 5m 45s"), "{refused}");
        assert!(refused.contains("NLB"), "{refused}");
    }

    #[test]
    fn both_bounds_are_inside() {
        for (written, is_taken) in [
            ("1s", true),
            ("345s", true),
            ("999ms", false),
            ("346s", false),
        ] {
            assert_eq!(written.parse::<Keepalive>().is_ok(), is_taken, "{written}");
        }
        assert!("24d".parse::<UserTimeout>().is_ok());
        assert!("25d".parse::<UserTimeout>().is_err());
    }

    proptest! {
        #[test]
        fn a_number_is_taken_within_its_bounds_and_nowhere_else(number in any::<u64>(), near in 0..40_u64) {
            for number in [number, near] {
                let taken = Bounded::<3, 30>::try_from(number);
                prop_assert_eq!(taken.is_ok(), (3..=30).contains(&number));
                if let Ok(taken) = taken {
                    prop_assert_eq!(u64::from(taken.get()), number);
                }
            }
        }
    }
}
