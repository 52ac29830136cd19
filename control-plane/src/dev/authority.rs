//! The authority of dev's own clients: it signs the certificate that terminators
//! show. Its key stays in the state directory, so that a browser that was told to
//! trust it once trusts later runs as well. It has nothing to do with the fleet's
//! own authority, which the control plane keeps.

use std::fs;
use std::net::IpAddr;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::cli::connection::write_private;
use crate::dev::home::Home;

/// By this name the example says what a certificate is for.
pub(super) const HOST: &str = "play.localhost";

const CA_LIFETIME: Duration = Duration::days(3650);
/// Browsers refuse one that lives much longer.
const LIFETIME: Duration = Duration::days(90);
/// Clocks differ.
const BACKDATED: Duration = Duration::hours(1);

/// The authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub(super) pem: String,
}

/// A certificate and its key, PEM.
pub(super) struct Issued {
    pub(super) chain: String,
    pub(super) private_key: String,
}

impl Authority {
    /// The one of this state directory; a new one the first time.
    pub(super) fn of(home: &Home) -> anyhow::Result<Self> {
        let (certificate, key) = (home.at("ca.pem"), home.at("ca.key"));
        if certificate.exists() && key.exists() {
            let pem = fs::read_to_string(&certificate)?;
            let key = KeyPair::from_pem(&fs::read_to_string(&key)?);
            let damaged = || {
                format!(
                    "{} or ca.key is damaged: use --reset",
                    certificate.display()
                )
            };
            let issuer = Issuer::from_ca_cert_pem(&pem, key.with_context(damaged)?);
            let issuer = issuer.with_context(damaged)?;
            return Ok(Self { issuer, pem });
        }
        let made_key = KeyPair::generate()?;
        let key_pem = made_key.serialize_pem();
        let (authority, pem) = make(made_key)?;
        // The key first: a certificate without it would be taken for damage.
        write_private(&key, &key_pem)?;
        fs::write(&certificate, &pem)
            .with_context(|| format!("cannot write {}", certificate.display()))?;
        Ok(Self {
            issuer: authority,
            pem,
        })
    }

    /// A certificate for everything by which this machine's browser may come.
    pub(super) fn issue(&self, balancer: IpAddr) -> anyhow::Result<Issued> {
        let names = [HOST, "localhost", "127.0.0.1", &balancer.to_string()].map(str::to_owned);
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, HOST);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let now = OffsetDateTime::now_utc();
        params.not_before = now - BACKDATED;
        params.not_after = now + LIFETIME;
        let key = KeyPair::generate()?;
        Ok(Issued {
            chain: params.signed_by(&key, &self.issuer)?.pem(),
            private_key: key.serialize_pem(),
        })
    }
}

fn make(key: KeyPair) -> anyhow::Result<(Issuer<'static, KeyPair>, String)> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let name = "Tidegate dev authority (this machine only)";
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATED;
    params.not_after = now + CA_LIFETIME;
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_authority_stays_the_same_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path()), false).unwrap();
        let made = Authority::of(&home).unwrap();
        let again = Authority::of(&home).unwrap();
        assert_eq!(made.pem, again.pem);
        let mode = fs::metadata(home.at("ca.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let issued = again.issue([127, 8, 9, 1].into()).unwrap();
        assert!(issued.chain.contains("BEGIN CERTIFICATE"));
        assert!(issued.private_key.contains("PRIVATE KEY"));
    }
}
