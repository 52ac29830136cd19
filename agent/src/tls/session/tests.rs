use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedCipherSuite};

use super::super::handshake::shake_in_memory;
use super::super::record::{self, MOST_ADDED, MOST_BYTES};
use super::*;

struct Material {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

static MATERIAL: LazyLock<Material> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["play.example".to_owned()]).unwrap();
    Material {
        certificate: made.cert.der().clone(),
        key: PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
    }
});

/// The suites of both versions that an ECDSA certificate serves.
fn suites() -> Vec<SupportedCipherSuite> {
    let all = aws_lc_rs::ALL_CIPHER_SUITES.iter().copied();
    all.filter(|suite| !format!("{suite:?}").contains("_RSA_"))
        .collect()
}

/// A session as after a handshake over `suite`, and the client that shook hands.
fn shaken(suite: SupportedCipherSuite) -> (Session, ClientConnection) {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![suite],
        ..aws_lc_rs::default_provider()
    });
    let Material { certificate, key } = &*MATERIAL;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    let name = ServerName::try_from("play.example").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.clone_key())
        .unwrap();
    server.enable_secret_extraction = true;
    server.send_tls13_tickets = 0;
    let session = shake_in_memory(Arc::new(server), &mut client);
    (session, client)
}

/// A client that seals whatever the test wants.
struct Raw {
    sends: Half,
    receives: Half,
}

fn raw(suite: SupportedCipherSuite) -> (Session, Raw) {
    let (session, client) = shaken(suite);
    let version = client.protocol_version().unwrap();
    let secrets = client.dangerous_extract_secrets().unwrap();
    let sends = Half::new(version, secrets.tx).unwrap();
    let receives = Half::new(version, secrets.rx).unwrap();
    (session, Raw { sends, receives })
}

impl Raw {
    fn sealed(&mut self, kind: Content, content: &[u8]) -> Vec<u8> {
        let mut record = vec![0; content.len() + MOST_ADDED];
        let length = self.sends.seal(kind, content, &mut record).unwrap();
        record.truncate(length);
        record
    }

    /// What a record of the session holds.
    fn opened(&mut self, record: &[u8]) -> (Content, Vec<u8>) {
        let mut record = record.to_vec();
        let (kind, opened) = self.receives.open(&mut record, &mut []).unwrap();
        (kind, record[opened.content].to_vec())
    }
}

/// What the session makes of a record; with what it owes for it.
fn hears(session: &mut Session, mut record: Vec<u8>) -> (Result<Received, Fatal>, Vec<u8>) {
    let mut owed = Vec::new();
    let received = session.receive(&mut record, &mut [], &mut owed);
    (received, owed)
}

fn one_13() -> SupportedCipherSuite {
    aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256
}

fn one_12() -> SupportedCipherSuite {
    aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
}

/// All bytes that the client has for us, as the session opens them into `room` bytes at
/// a time.
fn received(session: &mut Session, client: &mut ClientConnection, room: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut wire).unwrap();
    }
    let (mut all, mut owed) = (Vec::new(), Vec::new());
    let mut rest = wire.as_mut_slice();
    while let Some(length) = record::length(rest).unwrap() {
        let (record, next) = rest.split_at_mut(length);
        let mut out = vec![0; room];
        match session.receive(record, &mut out, &mut owed).unwrap() {
            Received::Data(opened) => all.extend_from_slice(match opened.place {
                Place::Out => &out[opened.content],
                Place::Record => &record[opened.content],
            }),
            Received::Nothing | Received::End => {}
        }
        rest = next;
    }
    client.read_tls(&mut owed.as_slice()).unwrap();
    all
}

fn sent(session: &mut Session, bytes: &[u8], client: &mut ClientConnection) -> Vec<u8> {
    let mut wire = vec![0; bytes.len() * 2 + 40 * MOST_ADDED];
    let mut at = 0;
    assert_eq!(
        session.send(bytes, &mut wire, &mut at).unwrap(),
        bytes.len()
    );
    let (mut wire, mut all) = (&wire[..at], Vec::new());
    while !wire.is_empty() {
        client.read_tls(&mut wire).unwrap();
        let state = client.process_new_packets().unwrap();
        let mut plain = vec![0; state.plaintext_bytes_to_read()];
        client.reader().read_exact(&mut plain).unwrap();
        all.extend(plain);
    }
    all
}

#[test]
fn every_suite_carries_bytes_of_any_size_both_ways() {
    let bytes: Vec<u8> = (0..70_000_u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(suites().len(), 6);
    for suite in suites() {
        let (mut session, mut client) = shaken(suite);
        for size in [1, 2, 1400, 16_383, 16_384, 16_385, 70_000] {
            let bytes = &bytes[..size];
            client.set_buffer_limit(None);
            client.writer().write_all(bytes).unwrap();
            // With room for a record, and with none.
            let room = if size % 2 == 0 { MOST_BYTES } else { 0 };
            assert_eq!(
                received(&mut session, &mut client, room),
                bytes,
                "{suite:?}"
            );
            assert_eq!(sent(&mut session, bytes, &mut client), bytes, "{suite:?}");
        }
    }
}

#[test]
fn a_client_that_changes_keys_is_followed_and_answered() {
    let (mut session, mut client) = shaken(one_13());
    for round in [b"one", b"two"] {
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(round).unwrap();
        assert_eq!(received(&mut session, &mut client, 0), round);
        assert_eq!(sent(&mut session, round, &mut client), round);
    }
}

#[test]
fn a_key_is_changed_before_it_has_sealed_too_much() {
    let (mut session, mut client) = shaken(one_13());
    session.left = 100_000;
    let bytes = vec![7; 300_000];
    assert_eq!(sent(&mut session, &bytes, &mut client), bytes);
    assert!(session.left > MOST_UNDER_ONE_KEY / 2);

    // TLS 1.2 has no other key.
    let (mut session, _) = shaken(one_12());
    session.left = 100_000;
    let mut wire = vec![0; 400_000];
    assert!(session.send(&bytes, &mut wire, &mut 0).is_err());
}

#[test]
fn a_record_that_was_touched_ends_the_session() {
    for suite in suites() {
        for at in [5, 12, 20] {
            let (mut session, mut raw) = raw(suite);
            let mut record = raw.sealed(Content::DATA, b"a message of some length");
            record[at] ^= 1;
            let (received, _) = hears(&mut session, record);
            assert!(matches!(
                received,
                Err(Fatal::Ours(AlertDescription::BadRecordMac))
            ));
        }
    }
}

#[test]
fn a_record_of_before_or_again_is_none_of_now() {
    let (mut session, mut raw) = raw(one_13());
    let first = raw.sealed(Content::DATA, b"first");
    let second = raw.sealed(Content::DATA, b"second");
    assert!(hears(&mut session, first.clone()).0.is_ok());
    assert!(hears(&mut session, first).0.is_err());
    assert!(hears(&mut session, second).0.is_ok());
}

#[test]
fn content_may_be_padded_and_must_have_a_type() {
    let (mut session, mut raw) = raw(one_13());
    // The type of what `sealed` seals is the last byte that is not zero.
    let padded = raw.sealed(Content(0), b"padded\x17\0\0\0");
    let (received, _) = hears(&mut session, padded);
    assert!(matches!(received, Ok(Received::Data(opened)) if opened.content.len() == 6));
    let untyped = raw.sealed(Content(0), &[0; 100]);
    let (received, _) = hears(&mut session, untyped);
    assert!(matches!(
        received,
        Err(Fatal::Ours(AlertDescription::UnexpectedMessage))
    ));
}

#[test]
fn lengths_beyond_the_limit_are_refused_before_they_come() {
    let record = |length: u16| {
        let [high, low] = length.to_be_bytes();
        [23, 3, 3, high, low]
    };
    assert_eq!(record::length(&record(16_640)), Ok(Some(MOST_BYTES)));
    assert_eq!(
        record::length(&record(16_641)),
        Err(AlertDescription::RecordOverflow)
    );
    assert_eq!(
        record::length(b"GET / HTTP/1.1"),
        Err(AlertDescription::UnexpectedMessage)
    );
    assert_eq!(record::length(&[23, 3, 3, 0]), Ok(None));
}

#[test]
fn who_only_keeps_us_busy_is_ended() {
    let flood = |suite, kind, content: &[u8], most: u8| {
        let (mut session, mut raw) = raw(suite);
        for _ in 0..most {
            let (received, _) = hears(&mut session, raw.sealed(kind, content));
            assert!(matches!(received, Ok(Received::Nothing)), "{received:?}");
        }
        let (received, _) = hears(&mut session, raw.sealed(kind, content));
        assert!(matches!(
            received,
            Err(Fatal::Ours(AlertDescription::UnexpectedMessage))
        ));
    };
    flood(one_13(), Content::DATA, b"", MOST_EMPTY);
    flood(one_12(), Content::DATA, b"", MOST_EMPTY);
    flood(
        one_12(),
        Content::ALERT,
        &[WARNING, USER_CANCELED],
        MOST_WARNINGS,
    );
    flood(
        one_13(),
        Content::ALERT,
        &[WARNING, USER_CANCELED],
        MOST_WARNINGS,
    );
    flood(
        one_12(),
        Content::HANDSHAKE,
        &[CLIENT_HELLO, 0, 0, 0],
        MOST_RENEGOTIATIONS,
    );
}

#[test]
fn new_keys_are_not_asked_for_without_end() {
    let (mut session, mut client) = shaken(one_13());
    let ask = |session: &mut Session, client: &mut ClientConnection| {
        client.refresh_traffic_keys().unwrap();
        let mut record = Vec::new();
        client.write_tls(&mut record).unwrap();
        let (received, owed) = hears(session, record);
        client.read_tls(&mut owed.as_slice()).unwrap();
        received
    };
    for _ in 0..MOST_KEY_UPDATES {
        assert!(ask(&mut session, &mut client).is_ok());
    }
    assert!(ask(&mut session, &mut client).is_err());
}

#[test]
fn renegotiation_is_refused_and_the_session_goes_on() {
    let (mut session, mut raw) = raw(one_12());
    let (received, owed) = hears(
        &mut session,
        raw.sealed(Content::HANDSHAKE, &[CLIENT_HELLO, 0, 0, 0]),
    );
    assert!(matches!(received, Ok(Received::Nothing)));
    assert_eq!(
        raw.opened(&owed),
        (Content::ALERT, vec![WARNING, NO_RENEGOTIATION])
    );
    let (received, _) = hears(&mut session, raw.sealed(Content::DATA, b"on"));
    assert!(matches!(received, Ok(Received::Data(_))));
}

#[test]
fn an_end_is_heard_and_said() {
    for suite in suites() {
        let (mut session, mut raw) = raw(suite);
        let (received, _) = hears(
            &mut session,
            raw.sealed(Content::ALERT, &[WARNING, CLOSE_NOTIFY]),
        );
        assert!(matches!(received, Ok(Received::End)) && session.is_ended());
        let (mut record, mut length) = ([0; 64], 0);
        session.end(&mut record, &mut length);
        assert_eq!(
            raw.opened(&record[..length]),
            (Content::ALERT, vec![WARNING, CLOSE_NOTIFY])
        );
    }
}

#[test]
fn a_clients_own_failure_is_no_end() {
    let (mut session, mut raw) = raw(one_13());
    let (received, _) = hears(&mut session, raw.sealed(Content::ALERT, &[FATAL, 80]));
    assert!(matches!(
        received,
        Err(Fatal::Theirs(AlertDescription::InternalError))
    ));
}

#[test]
fn what_a_suite_has_no_place_for_is_refused() {
    let refused = |suite, kind, content: &[u8]| {
        let (mut session, mut raw) = raw(suite);
        let (received, _) = hears(&mut session, raw.sealed(kind, content));
        assert!(
            matches!(received, Err(Fatal::Ours(_))),
            "{kind:?}: {received:?}"
        );
    };
    const CHANGE_CIPHER_SPEC: Content = Content(20);
    for suite in [one_12(), one_13()] {
        refused(suite, CHANGE_CIPHER_SPEC, &[1]);
        refused(suite, Content(99), b"?");
        refused(suite, Content::ALERT, &[WARNING]);
        refused(suite, Content::ALERT, &[7, 7]);
        refused(suite, Content::HANDSHAKE, b"");
    }
    // No warning is one there, but "user_canceled".
    refused(one_13(), Content::ALERT, &[WARNING, NO_RENEGOTIATION]);
    refused(one_13(), Content::HANDSHAKE, &[CLIENT_HELLO, 0, 0, 0]);
    refused(one_12(), Content::HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0]);
    // Two in one record, and the second under keys that are over.
    let two = [KEY_UPDATE, 0, 0, 1, 0, KEY_UPDATE, 0, 0, 1, 0];
    refused(one_13(), Content::HANDSHAKE, &two);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_that_comes_makes_it_panic(
        kind in any::<u8>(),
        content in prop::collection::vec(any::<u8>(), 0..200),
        is_13 in any::<bool>(),
        seals in any::<bool>(),
    ) {
        let (mut session, mut raw) = raw(if is_13 { one_13() } else { one_12() });
        let record = match seals {
            true => raw.sealed(Content(kind), &content),
            false => content,
        };
        let _ = hears(&mut session, record);
    }
}
