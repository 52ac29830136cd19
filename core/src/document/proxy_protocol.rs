//! What a pool's backends are told about the client, as people write it: a word
//! (`none`, `v1`, `v2`), or a mapping that adds extensions to version 2. The bytes
//! are `crate::proxy_protocol`'s.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::is_default;
use super::value::{BadValue, ProxyOut};
use crate::proxy_protocol::Version;

/// A pool's `proxy_protocol`: version 1 has no extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyProtocol {
    version: ProxyOut,
    extensions: Extensions,
}

impl ProxyProtocol {
    /// The version to write, if any.
    pub fn version(self) -> Option<Version> {
        self.version.version()
    }

    /// What goes into the header besides the addresses.
    pub fn extensions(self) -> Extensions {
        self.extensions
    }
}

/// The extensions (TLVs) of a PROXY header of version 2, section 2.2 of its
/// specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Extensions {
    /// The server name the client asks for (PP2_TYPE_AUTHORITY).
    #[serde(skip_serializing_if = "is_default")]
    pub authority: bool,
    /// An id of the connection (PP2_TYPE_UNIQUE_ID).
    #[serde(skip_serializing_if = "is_default")]
    pub unique_id: bool,
    /// A checksum of the header (PP2_TYPE_CRC32C).
    #[serde(skip_serializing_if = "is_default")]
    pub crc32c: bool,
    /// Those of the header that the client's side sent.
    #[serde(skip_serializing_if = "is_default")]
    pub pass: bool,
}

/// The mapping form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: ProxyOut,
    #[serde(default, skip_serializing_if = "is_default")]
    authority: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    unique_id: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    crc32c: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pass: bool,
}

impl TryFrom<Written> for ProxyProtocol {
    type Error = BadValue;

    fn try_from(written: Written) -> Result<Self, BadValue> {
        let extensions = Extensions {
            authority: written.authority,
            unique_id: written.unique_id,
            crc32c: written.crc32c,
            pass: written.pass,
        };
        if written.version != ProxyOut::V2 && extensions != Extensions::default() {
            return Err(BadValue(
                "only version 2 has room for extensions: write version: v2, or leave them out"
                    .into(),
            ));
        }
        Ok(Self {
            version: written.version,
            extensions,
        })
    }
}

impl Serialize for ProxyProtocol {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            version,
            extensions,
        } = *self;
        if extensions == Extensions::default() {
            return version.serialize(serializer);
        }
        let Extensions {
            authority,
            unique_id,
            crc32c,
            pass,
        } = extensions;
        let written = Written {
            version,
            authority,
            unique_id,
            crc32c,
            pass,
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ProxyProtocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand, since `untagged` would lose which field is wrong.
        struct WordOrMapping;

        impl<'de> Visitor<'de> for WordOrMapping {
            type Value = ProxyProtocol;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("none, v1, v2, or a mapping such as { version: v2, authority: true }")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<ProxyProtocol, E> {
                let version = match word {
                    "none" => ProxyOut::None,
                    "v1" => ProxyOut::V1,
                    "v2" => ProxyOut::V2,
                    _ => return Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                };
                Ok(ProxyProtocol {
                    version,
                    extensions: Extensions::default(),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ProxyProtocol, A::Error> {
                let written = Written::deserialize(MapAccessDeserializer::new(map))?;
                written.try_into().map_err(de::Error::custom)
            }
        }

        deserializer.deserialize_any(WordOrMapping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn written_again(value: Value) -> Result<Value, String> {
        let read = serde_json::from_value::<ProxyProtocol>(value).map_err(|e| e.to_string())?;
        Ok(serde_json::to_value(read).unwrap())
    }

    #[test]
    fn a_word_is_written_back_as_a_word() {
        for word in ["none", "v1", "v2"] {
            assert_eq!(written_again(json!(word)), Ok(json!(word)));
            let plain = json!({ "version": word, "crc32c": false });
            assert_eq!(written_again(plain), Ok(json!(word)));
        }
        let mapping = json!({ "version": "v2", "authority": true, "pass": true });
        assert_eq!(written_again(mapping.clone()), Ok(mapping));
    }

    #[test]
    fn extensions_need_version_2() {
        for version in ["none", "v1"] {
            let refused = written_again(json!({ "version": version, "pass": true })).unwrap_err();
            assert!(refused.contains("version: v2"), "{refused}");
        }
        assert!(written_again(json!({ "crc32c": true })).is_err());
        assert!(
            written_again(json!("v3"))
                .unwrap_err()
                .contains("a mapping")
        );
        assert!(written_again(json!(["v2", true])).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(
            version in 0..3_usize, flags in any::<[bool; 4]>(),
        ) {
            let [authority, unique_id, crc32c, pass] = flags;
            let version = ["none", "v1", "v2"][version];
            let read = serde_json::from_value::<ProxyProtocol>(json!({
                "version": version, "authority": authority, "unique_id": unique_id,
                "crc32c": crc32c, "pass": pass,
            }));
            prop_assert_eq!(read.is_ok(), version == "v2" || flags == [false; 4]);
            if let Ok(read) = read {
                let again = serde_json::to_value(read).unwrap();
                prop_assert_eq!(serde_json::from_value::<ProxyProtocol>(again).unwrap(), read);
            }
        }
    }
}
