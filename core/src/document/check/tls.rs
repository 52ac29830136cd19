//! TLS of a listener: versions, suites and groups that have nothing in common would
//! refuse every client, and say so to none of them.

use super::Place;
use crate::document::{Group, Mode, Suites, Tls, TlsVersion};

pub(super) fn tls(tls: &Tls, mode: Mode, at: &mut Place<'_>) {
    if tls.certificates.is_empty() {
        at.wrong("/tls/certificates", "empty: name at least one certificate");
    }
    if mode == Mode::Http && !tls.alpn.is_empty() {
        at.wrong(
            "/tls/alpn",
            "in mode http the protocols are known: take this out, or write mode: tcp",
        );
    }
    let speaks = |version| tls.versions.iter().any(|spoken| spoken == version);
    if tls.suites != Suites::default() {
        suites(tls, at);
    }
    if speaks(TlsVersion::Tls12) && !tls.groups.iter().any(Group::is_classic) {
        at.wrong(
            "/tls/groups",
            "none of them is in tls1.2: add x25519 or secp256r1, or write versions: [tls1.3]",
        );
    }
}

fn suites(tls: &Tls, at: &mut Place<'_>) {
    for version in tls.versions.iter() {
        if !tls.suites.iter().any(|suite| suite.version() == version) {
            let example = match version {
                TlsVersion::Tls12 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                TlsVersion::Tls13 => "TLS_AES_128_GCM_SHA256",
            };
            at.wrong(
                "/tls/suites",
                format!(
                    "none of them is of {}: add one, such as {example}, or take the version out",
                    version.name()
                ),
            );
        }
    }
    for (i, suite) in tls.suites.iter().enumerate() {
        if !tls
            .versions
            .iter()
            .any(|version| version == suite.version())
        {
            at.wrong(
                &format!("/tls/suites/{i}"),
                format!(
                    "{} is of {}, which is not spoken: take it out, or add the version",
                    suite.name(),
                    suite.version().name()
                ),
            );
        }
    }
}
