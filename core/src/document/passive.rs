//! Passive detection as people write it: after how many failed connects a backend
//! is left out, and for how long; or `off`. `ejection` acts on it.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::bounded::Bounded;
use super::value::{BadValue, Timeout};

/// What failed connects of clients do to a backend, besides its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passive {
    /// Nothing.
    Off,
    /// It gets nothing new for a while.
    Eject(Ejecting),
}

impl Default for Passive {
    fn default() -> Self {
        Self::Eject(Ejecting::default())
    }
}

/// When a backend is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Ejecting {
    /// Failed connects in a row, 1 to 255.
    pub failures: Bounded<1, 255>,
    /// For how long the first time; longer each time it fails again.
    pub eject: Timeout,
    /// For how long at most, and never shorter than `eject`.
    pub longest: Timeout,
}

impl Default for Ejecting {
    fn default() -> Self {
        Self {
            failures: Bounded::near(3),
            eject: Timeout::from_secs(10),
            longest: Timeout::from_secs(300),
        }
    }
}

/// The mapping as written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    failures: Bounded<1, 255>,
    eject: Timeout,
    longest: Timeout,
}

impl Default for Written {
    fn default() -> Self {
        Ejecting::default().into()
    }
}

impl From<Ejecting> for Written {
    fn from(ejecting: Ejecting) -> Self {
        Self {
            failures: ejecting.failures,
            eject: ejecting.eject,
            longest: ejecting.longest,
        }
    }
}

impl TryFrom<Written> for Ejecting {
    type Error = BadValue;

    fn try_from(written: Written) -> Result<Self, BadValue> {
        let Written {
            failures,
            eject,
            longest,
        } = written;
        if longest < eject {
            return Err(BadValue(format!(
                "longest ({longest}) is shorter than eject: write longest: {eject} or more"
            )));
        }
        Ok(Self {
            failures,
            eject,
            longest,
        })
    }
}

impl Serialize for Passive {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::Eject(ejecting) => ejecting.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Passive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand, since `untagged` would lose which field is wrong.
        struct OffOrMapping;

        impl<'de> Visitor<'de> for OffOrMapping {
            type Value = Passive;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("off, or a mapping such as { failures: 3, eject: 10s, longest: 5m }")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Passive, E> {
                match word {
                    "off" => Ok(Passive::Off),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }

            /// `off` without quotes is `false` to readers of YAML 1.1.
            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Passive, E> {
                if on {
                    return Err(E::invalid_value(de::Unexpected::Bool(on), &self));
                }
                Ok(Passive::Off)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Passive, A::Error> {
                Ejecting::deserialize(MapAccessDeserializer::new(map)).map(Passive::Eject)
            }
        }

        deserializer.deserialize_any(OffOrMapping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(value: Value) -> Result<Passive, String> {
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    #[test]
    fn off_is_a_word_and_the_rest_a_mapping_with_defaults() {
        assert_eq!(read(json!("off")), Ok(Passive::Off));
        assert_eq!(read(json!(false)), Ok(Passive::Off));
        assert_eq!(read(json!({})), Ok(Passive::default()));
        assert_eq!(serde_json::to_value(Passive::Off).unwrap(), json!("off"));
        let written = serde_json::to_value(Passive::default()).unwrap();
        assert_eq!(
            written,
            json!({ "failures": 3, "eject": "10s", "longest": "5m" })
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_mend() {
        for (bad, word) in [
            (json!("on"), "a mapping"),
            (json!(true), "a mapping"),
            (json!({ "failures": 0 }), "1 to 255"),
            (json!({ "eject": "10m" }), "longest: 10m"),
            (json!({ "colour": 1 }), "unknown field"),
            (json!([3, "10s", "5m"]), "a mapping"),
        ] {
            let refused = read(bad.clone()).unwrap_err();
            assert!(refused.contains(word), "{bad}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(failures in 1..300_u32, eject in 1..999_u64, longest in 1..999_u64) {
            let written = json!({
                "failures": failures, "eject": format!("{eject}s"), "longest": format!("{longest}s"),
            });
            let taken = read(written);
            prop_assert_eq!(taken.is_ok(), failures <= 255 && longest >= eject);
            if let Ok(passive) = taken {
                prop_assert_eq!(read(serde_json::to_value(passive).unwrap()), Ok(passive));
            }
        }
    }
}
