//! What client and listener have agreed on: for events, the app and metrics. Names are
//! those that IANA registers.

use rustls::{CipherSuite, NamedGroup, ProtocolVersion};
use tidegate_core::client_hello::ServerName;
use tidegate_core::document::{Group, Suite};

use super::terms;

/// What a handshake has come to.
#[derive(Clone, Debug)]
pub(crate) struct Agreed {
    pub(crate) version: ProtocolVersion,
    pub(crate) suite: CipherSuite,
    /// Absent when a TLS 1.2 session is resumed.
    pub(crate) group: Option<NamedGroup>,
    pub(crate) resumed: bool,
    /// The host that the client asked for.
    pub(crate) server_name: Option<ServerName>,
    pub(crate) alpn: Option<Box<[u8]>>,
    /// The client's own certificate, where it has one.
    pub(crate) client: Option<Client>,
}

/// A client that has shown a certificate, which was verified.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The common name in it.
    pub(crate) common_name: Option<Box<str>>,
}

impl Agreed {
    /// As `PP2_SUBTYPE_SSL_VERSION` and everybody's logs have it.
    pub(crate) fn version(&self) -> &'static str {
        version(self.version)
    }

    /// The suite's name.
    pub(crate) fn suite(&self) -> &'static str {
        suite(self.suite)
    }

    /// The group's name.
    pub(crate) fn group(&self) -> Option<&'static str> {
        self.group.map(group)
    }
}

/// A version's name.
fn version(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        _ => "other",
    }
}

/// A suite's name.
fn suite(suite: CipherSuite) -> &'static str {
    let is = |one: &&Suite| terms::suite(**one).suite() == suite;
    Suite::ALL.iter().find(is).map_or("other", |one| one.name())
}

/// A group's name.
fn group(group: NamedGroup) -> &'static str {
    let is = |one: &&Group| terms::group(**one).name() == group;
    Group::ALL.iter().find(is).map_or("other", |one| one.name())
}

impl Client {
    /// Of the certificate that it has shown.
    pub(super) fn of(certificate: &[u8]) -> Self {
        let parsed = x509_parser::parse_x509_certificate(certificate).ok();
        let name = parsed.and_then(|(_, certificate)| {
            let mut names = certificate.subject().iter_common_name();
            names.next()?.as_str().ok().map(Box::from)
        });
        Self { common_name: name }
    }
}
