//! A certificate: its name, and in standalone documents where chain and key
//! are. The key never leaves through `Debug` or `Serialize`.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::value::{BadValue, Name};

/// A certificate by name. Fleet documents only name it; a standalone document
/// also says where chain and key are. The key never leaves through `Debug` or
/// `Serialize`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "WrittenCertificate")]
pub struct Certificate {
    /// Unique among certificates.
    pub name: Name,
    /// Chain and key, in standalone documents.
    #[serde(skip_serializing)]
    pub material: Material,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A private key in PEM. It has neither `Debug` nor `Serialize`.
#[derive(Clone, Deserialize)]
pub struct SecretPem(String);

impl SecretPem {
    /// The PEM text, for the parser that turns it into a key.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Where a certificate's chain and key are.
#[derive(Clone)]
pub enum Material {
    /// With the control plane, which was given them by upload.
    Uploaded,
    /// In files local to the agent.
    Files {
        /// PEM, leaf first.
        chain: PathBuf,
        /// PEM.
        private_key: PathBuf,
    },
    /// In the document.
    Inline {
        /// PEM, leaf first.
        chain: String,
        /// PEM.
        private_key: SecretPem,
    },
}

impl Material {
    /// The field of the document that holds the key, for pointers.
    pub fn key_field(&self) -> &'static str {
        match self {
            Self::Files { .. } => "private_key_file",
            Self::Uploaded | Self::Inline { .. } => "private_key",
        }
    }
}

/// A certificate as people write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCertificate {
    name: Name,
    chain: Option<String>,
    chain_file: Option<PathBuf>,
    private_key: Option<SecretPem>,
    private_key_file: Option<PathBuf>,
}

impl TryFrom<WrittenCertificate> for Certificate {
    type Error = BadValue;

    fn try_from(written: WrittenCertificate) -> Result<Self, BadValue> {
        let WrittenCertificate {
            name,
            chain,
            chain_file,
            private_key,
            private_key_file,
        } = written;
        let material = match (chain, private_key, chain_file, private_key_file) {
            (None, None, None, None) => Material::Uploaded,
            (Some(chain), Some(private_key), None, None) => Material::Inline { chain, private_key },
            (None, None, Some(chain), Some(private_key)) => Material::Files { chain, private_key },
            _ => {
                return Err(BadValue(
                    "chain and key do not pair: write chain and private_key, or chain_file and \
                     private_key_file"
                        .into(),
                ));
            }
        };
        Ok(Self { name, material })
    }
}
