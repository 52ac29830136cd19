//! A chain and its private key, as uploaded: read and checked the way agents will,
//! so that what is stored can be served. Pure; its errors never quote the key.

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::Serialize;
use tidegate_core::document::Mistake;
use time::OffsetDateTime;
use utoipa::ToSchema;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::public_key::PublicKey;

use crate::ca;

/// Certificates of a chain. Real ones have two or three, and every client is sent
/// them all.
const LONGEST: usize = 10;
/// Bytes of a key's PEM: RSA with 16,384 bits takes 13 KB.
const KEY: usize = 64 << 10;

/// A chain and a key that belong together.
pub(super) struct Pair<'a> {
    /// PEM, leaf first: its certificates and nothing else that stood around them.
    pub(super) chain: String,
    /// PEM.
    pub(super) key: &'a str,
    pub(super) dns_names: Vec<String>,
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
    pub(super) links: Vec<Link>,
}

/// One certificate of a chain, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ChainLink)]
pub(super) struct Link {
    /// As RFC 4514 writes names: `CN=play.example.com`.
    subject: String,
    issuer: String,
    /// Hexadecimal, bytes apart by colons.
    serial: String,
    /// `ECDSA 256`, `RSA 2048`, `Ed25519`.
    key: String,
    #[serde(with = "time::serde::rfc3339")]
    not_before: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    not_after: OffsetDateTime,
}

/// What a stored chain says; nothing where it cannot be read.
pub(super) fn links(chain: &str) -> Vec<Link> {
    let certificates = CertificateDer::pem_slice_iter(chain.as_bytes());
    let certificates = certificates.filter_map(Result::ok);
    certificates.filter_map(|der| Link::read(&der)).collect()
}

impl Link {
    fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let parsed = x509(der)?;
        let key = match parsed.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => format!("RSA {}", key.key_size()),
            Ok(PublicKey::EC(key)) => format!("ECDSA {}", key.key_size()),
            _ if parsed.public_key().algorithm.algorithm == OID_SIG_ED25519 => "Ed25519".to_owned(),
            _ => "of another kind".to_owned(),
        };
        Some(Self {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            serial: parsed.raw_serial_as_string(),
            key,
            not_before: parsed.validity().not_before.to_datetime(),
            not_after: parsed.validity().not_after.to_datetime(),
        })
    }
}

impl<'a> Pair<'a> {
    /// Reads both.
    ///
    /// # Errors
    /// Everything that keeps them from being served, at `/chain` and `/private_key`.
    pub(super) fn read(chain: &str, key: &'a str) -> Result<Self, Vec<Mistake>> {
        let certificates = read_chain(chain).map_err(|why| Mistake::new("/chain", why));
        let private_key = read_key(key).map_err(|why| Mistake::new("/private_key", why));
        let (certificates, private_key) = match (certificates, private_key) {
            (Ok(certificates), Ok(key)) => (certificates, key),
            (certificates, key) => {
                let wrong = [certificates.err(), key.err()];
                return Err(wrong.into_iter().flatten().collect());
            }
        };
        belong_together(&certificates, &private_key).map_err(|mistake| vec![mistake])?;
        let leaf = certificates
            .first()
            .ok_or(EMPTY)
            .and_then(|leaf| Leaf::read(leaf));
        let leaf = leaf.map_err(|why| vec![Mistake::new("/chain", why)])?;
        Ok(Self {
            chain: certificates.iter().map(|der| ca::pem(der)).collect(),
            key,
            dns_names: leaf.dns_names,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            links: certificates.iter().filter_map(Link::read).collect(),
        })
    }

    /// What may not be what was meant. None of it keeps it from being served: an
    /// expired certificate may be better than none.
    pub(super) fn warnings(&self, now: OffsetDateTime) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.not_after <= now {
            warnings.push(format!(
                "it expired at {}: clients refuse it",
                self.not_after
            ));
        }
        if self.not_before > now {
            warnings.push(format!(
                "it begins at {}: clients refuse it until then",
                self.not_before
            ));
        }
        if self.dns_names.is_empty() {
            warnings.push("it has no DNS name (subjectAltName): clients refuse it".to_owned());
        }
        warnings
    }
}

const EMPTY: &str = "no certificate in PEM: it begins with -----BEGIN CERTIFICATE-----";

fn read_chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    if pem.contains("PRIVATE KEY") {
        return Err(
            "a private key among the certificates, which everybody may read: take it out, and \
             consider it known",
        );
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match certificates {
        Err(_) => Err("damaged PEM: copy it whole, from -----BEGIN to the last -----"),
        Ok(chain) if chain.is_empty() => Err(EMPTY),
        Ok(chain) if chain.len() > LONGEST => Err(
            "more than 10 certificates: a chain is the leaf and the authorities between, without \
             other roots",
        ),
        Ok(chain) if chain.iter().any(|der| x509(der).is_none()) => {
            Err("a block that is no X.509 certificate")
        }
        Ok(chain) => Ok(chain),
    }
}

fn read_key(pem: &str) -> Result<PrivateKeyDer<'static>, &'static str> {
    if pem.len() > KEY {
        return Err("more than 64 KiB: send the one key, without anything else");
    }
    if pem.contains("ENCRYPTED") {
        return Err(
            "an encrypted key, and nobody is there to type its password: decrypt it with \
             `openssl pkey -in KEY -out PLAIN`",
        );
    }
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| "no private key in PEM (PKCS#8, PKCS#1 or SEC1)")?;
    any_supported_type(&key)
        .map(|_| key)
        .map_err(|_| "a key of a kind that TLS does not use: RSA, ECDSA or Ed25519")
}

fn belong_together(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<(), Mistake> {
    let is_of = |certificate: &CertificateDer<'static>| {
        let certified = any_supported_type(key)
            .map(|signer| CertifiedKey::new(vec![certificate.clone()], signer));
        certified.is_ok_and(|certified| certified.keys_match().is_ok())
    };
    match chain.iter().position(is_of) {
        Some(0) => Ok(()),
        Some(_) => Err(Mistake::new(
            "/chain",
            "in another order: put the leaf first, whose key this is, then the authorities",
        )),
        None => Err(Mistake::new(
            "/private_key",
            "the key of another certificate: send the one that the leaf was made with",
        )),
    }
}

/// What a leaf says.
struct Leaf {
    dns_names: Vec<String>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Leaf {
    fn read(der: &CertificateDer<'_>) -> Result<Self, &'static str> {
        const UNUSABLE: &str =
            "a leaf that TLS cannot use: ask for an X.509 version 3 server certificate";
        // Agents find the certificate for a name with the same parser.
        let leaf = webpki::EndEntityCert::try_from(der).map_err(|_| UNUSABLE)?;
        let parsed = x509(der).ok_or(UNUSABLE)?;
        let names = leaf.valid_dns_names();
        Ok(Self {
            dns_names: names.map(str::to_ascii_lowercase).collect(),
            not_before: parsed.validity().not_before.to_datetime(),
            not_after: parsed.validity().not_after.to_datetime(),
        })
    }
}

fn x509<'a>(der: &'a CertificateDer<'_>) -> Option<x509_parser::certificate::X509Certificate<'a>> {
    let (rest, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
    rest.is_empty().then_some(parsed)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    pub(in super::super) fn certificate(name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn places(chain: &str, key: &str) -> Vec<String> {
        let mistakes = Pair::read(chain, key).err().unwrap_or_default();
        mistakes
            .into_iter()
            .map(|mistake| mistake.pointer)
            .collect()
    }

    #[test]
    fn a_pair_is_read_and_only_its_certificates_are_kept() {
        let (leaf, key) = certificate("Play.example.com");
        let (authority, _) = certificate("authority");
        let chain = format!("Bag Attributes\n    x: 1\n{leaf}\nissuer=x\n{authority}");
        let pair = Pair::read(&chain, &key).unwrap_or_else(|m| panic!("{m:?}"));
        assert_eq!(pair.chain, format!("{leaf}{authority}"));
        assert_eq!(pair.dns_names, ["play.example.com"]);
        assert_eq!(pair.key, key);
    }

    #[test]
    fn what_cannot_be_served_is_refused_in_its_place() {
        let (chain, key) = certificate("a");
        let (other, other_key) = certificate("b");
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAA==\n-----END RSA PRIVATE KEY-----\n";
        let both = format!("{chain}{key}");
        let turned = format!("{other}{chain}");
        let long = chain.repeat(11);
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let cut = &chain[..chain.len() / 2];
        let huge = format!("{key}{}", " ".repeat(KEY));
        let table: [(&str, &str, &[&str]); 13] = [
            (&chain, &key, &[]),
            ("", "", &["/chain", "/private_key"]),
            ("x", &key, &["/chain"]),
            (garbage, &key, &["/chain"]),
            (cut, &key, &["/chain"]),
            (&long, &key, &["/chain"]),
            (&both, &key, &["/chain"]),
            (&turned, &key, &["/chain"]),
            (&chain, &other_key, &["/private_key"]),
            (&chain, &encrypted, &["/private_key"]),
            (&chain, legacy, &["/private_key"]),
            (&chain, &huge, &["/private_key"]),
            (&key, &chain, &["/chain", "/private_key"]),
        ];
        for (row, (chain, key, expected)) in table.into_iter().enumerate() {
            assert_eq!(places(chain, key), expected, "row {row}");
        }
    }

    #[test]
    fn no_mistake_quotes_the_key() {
        let (chain, key) = certificate("a");
        let body: Vec<&str> = key.lines().filter(|l| !l.starts_with('-')).collect();
        for (chain, key) in [
            (&key, &chain),
            (&key, &key),
            (&format!("{chain}{key}"), &key),
        ] {
            for mistake in Pair::read(chain, key).err().unwrap() {
                assert!(!body.iter().any(|line| mistake.message.contains(line)));
            }
        }
    }

    #[test]
    fn what_clients_refuse_is_warned_of() {
        let (chain, key) = certificate("a");
        let pair = Pair::read(&chain, &key).ok().unwrap();
        let now = pair.not_after - time::Duration::DAY;
        assert_eq!(pair.warnings(now), Vec::<String>::new());
        assert!(pair.warnings(pair.not_after)[0].contains("expired"));
        let before = pair.not_before - time::Duration::DAY;
        assert!(pair.warnings(before)[0].contains("begins"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(-----BEGIN (CERTIFICATE|PRIVATE KEY)-----\n)?[A-Za-z0-9+/=\n-]{0,80}(-----END (CERTIFICATE|PRIVATE KEY)-----\n)?") {
            prop_assert!(Pair::read(&text, &text).is_err());
        }
    }
}
