//! What a terminator's listener says of TLS. Names are those that IANA registers
//! (TLS Parameters), since those are what clients, scanners and logs say too.

use serde::{Deserialize, Serialize};

use super::is_default;
use super::value::{BadValue, Name, Timeout};

/// TLS settings of a terminator's listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// By SNI; the first one answers clients that name no other.
    pub certificates: Vec<Name>,
    /// What becomes of a client that names a host which no certificate has, or none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unknown_name: UnknownName,
    /// Which versions are spoken.
    #[serde(default, skip_serializing_if = "is_default")]
    pub versions: Versions,
    /// Which suites are offered, the first one that a client knows is taken.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suites: Suites,
    /// Which groups keys are exchanged in, likewise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub groups: Groups,
    /// Protocols that clients may choose (RFC 7301), in TCP mode: the app's. In HTTP
    /// mode they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<Protocol>,
    /// Whether clients have certificates of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<ClientCertificates>,
    /// For the handshake; absent = the policy's `first_byte`, which it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake_timeout: Option<Timeout>,
    /// How a connection ends.
    #[serde(default, skip_serializing_if = "is_default")]
    pub close: Close,
    /// Whether clients get tickets to come back with.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub tickets: bool,
}

fn yes() -> bool {
    true
}

fn is_yes(tickets: &bool) -> bool {
    *tickets
}

/// What becomes of a client that asks for a host which no certificate has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownName {
    /// It is shown the first certificate.
    #[default]
    Default,
    /// It is refused, with the alert "unrecognized_name" (RFC 6066 section 3).
    Refuse,
}

/// How a connection says that it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Close {
    /// With close_notify (RFC 8446 section 6.1), after which the client ends its side.
    #[default]
    Notify,
    /// When the app ends, both sides end at once, and TLS says nothing of it.
    Fast,
}

/// Declares a list of things that TLS has names for: each once, at least one.
macro_rules! registered {
    (
        $(#[$list_doc:meta])* $list:ident of $(#[$doc:meta])* $one:ident
        default [$($default:ident),*]
        $($variant:ident = $name:literal,)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $one {
            $(#[doc = $name] #[serde(rename = $name)] $variant,)*
        }

        $(#[$list_doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "Vec<String>", into = "Vec<String>")]
        pub struct $list(Vec<$one>);

        impl $list {
            /// Each of them, in order.
            pub fn iter(&self) -> impl Iterator<Item = $one> {
                self.0.iter().copied()
            }
        }

        impl Default for $list {
            fn default() -> Self {
                Self(vec![$($one::$default),*])
            }
        }

        impl $one {
            /// Each there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As it is written.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        impl TryFrom<Vec<String>> for $list {
            type Error = BadValue;

            fn try_from(written: Vec<String>) -> Result<Self, BadValue> {
                let mut list = Vec::new();
                for name in written {
                    let Some(one) = $one::ALL.iter().find(|one| one.name() == name) else {
                        let names: Vec<_> = $one::ALL.iter().map(|one| one.name()).collect();
                        let names = names.join(", ");
                        return Err(BadValue(format!("{name} is not here: there is {names}")));
                    };
                    if list.contains(one) {
                        return Err(BadValue(format!("{name} is there twice: once is enough")));
                    }
                    list.push(*one);
                }
                match list.is_empty() {
                    true => Err(BadValue("empty: name at least one, or leave it out".into())),
                    false => Ok(Self(list)),
                }
            }
        }

        impl From<$list> for Vec<String> {
            fn from(list: $list) -> Self {
                list.iter().map(|one| one.name().to_owned()).collect()
            }
        }
    };
}

registered! {
    /// Versions of TLS.
    Versions of
    /// A version of TLS.
    Version
    default [Tls13, Tls12]
    Tls12 = "tls1.2",
    Tls13 = "tls1.3",
}

registered! {
    /// Suites, in the order in which they are preferred. The first by default is the one
    /// that common processors have instructions for, its hash included.
    Suites of
    /// A cipher suite.
    Suite
    default [
        Aes128Gcm, Aes256Gcm, Chacha20, EcdsaAes128Gcm, RsaAes128Gcm, EcdsaAes256Gcm, RsaAes256Gcm,
        EcdsaChacha20, RsaChacha20
    ]
    Aes128Gcm = "TLS_AES_128_GCM_SHA256",
    Aes256Gcm = "TLS_AES_256_GCM_SHA384",
    Chacha20 = "TLS_CHACHA20_POLY1305_SHA256",
    EcdsaAes128Gcm = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    EcdsaAes256Gcm = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    EcdsaChacha20 = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    RsaAes128Gcm = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    RsaAes256Gcm = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    RsaChacha20 = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}

registered! {
    /// Groups, in the order in which they are preferred: what a quantum computer does
    /// not break first.
    Groups of
    /// A group in which keys are exchanged.
    Group
    default [X25519MlKem768, X25519, Secp256r1, Secp384r1]
    X25519MlKem768 = "X25519MLKEM768",
    Secp256r1MlKem768 = "SecP256r1MLKEM768",
    X25519 = "x25519",
    Secp256r1 = "secp256r1",
    Secp384r1 = "secp384r1",
}

impl Suite {
    /// Which version it belongs to.
    pub fn version(self) -> Version {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm | Self::Chacha20 => Version::Tls13,
            _ => Version::Tls12,
        }
    }
}

impl Group {
    /// Whether TLS 1.2 has it too.
    pub fn is_classic(self) -> bool {
        !matches!(self, Self::X25519MlKem768 | Self::Secp256r1MlKem768)
    }
}

/// A protocol's name (RFC 7301 section 3.1): 1 to 255 printable ASCII characters here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Protocol(String);

impl Protocol {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Protocol {
    type Error = BadValue;

    fn try_from(written: String) -> Result<Self, BadValue> {
        let fits = (1..=255).contains(&written.len())
            && written.bytes().all(|byte| byte.is_ascii_graphic());
        match fits {
            true => Ok(Self(written)),
            false => Err(BadValue(
                "no protocol is named so: write 1 to 255 printable characters, such as h2 or mqtt"
                    .into(),
            )),
        }
    }
}

impl From<Protocol> for String {
    fn from(protocol: Protocol) -> Self {
        protocol.0
    }
}

/// Who signs the certificates of clients, and whether they must have one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { ca: PEM, required: true }"
)]
pub struct ClientCertificates {
    /// Certificates in PEM; a client's has to lead to one of them.
    pub ca: Authorities,
    /// Whether a client without one is refused.
    #[serde(default = "yes")]
    pub required: bool,
}

/// Certificates in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Authorities(String);

impl Authorities {
    /// The text.
    pub fn pem(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Authorities {
    type Error = BadValue;

    fn try_from(written: String) -> Result<Self, BadValue> {
        if written.contains("PRIVATE KEY-----") {
            return Err(BadValue(
                "holds a private key, which does not belong here: write the certificates alone"
                    .into(),
            ));
        }
        match written.contains("-----BEGIN CERTIFICATE-----") {
            true => Ok(Self(written)),
            false => Err(BadValue(
                "holds no certificate: write the authority's in PEM, from -----BEGIN CERTIFICATE-----"
                    .into(),
            )),
        }
    }
}

impl From<Authorities> for String {
    fn from(authorities: Authorities) -> Self {
        authorities.0
    }
}
