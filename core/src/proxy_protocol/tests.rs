use super::v2::crc32c;
use super::*;
use proptest::prelude::*;
use proxy_header::{ParseConfig, ProxiedAddress, ProxyHeader, SslInfo, Tlv};
use std::net::{SocketAddrV4, SocketAddrV6};

fn proxied(client: &str, destination: &str) -> Header {
    let (client, destination) = (client.parse().unwrap(), destination.parse().unwrap());
    Header::Proxied {
        client,
        destination,
    }
}

/// The verdict, and the number of bytes after which it was reached.
fn feed(bytes: &[u8]) -> (Result<Decoded, Malformed>, usize) {
    let verdict = |end| (decode(&bytes[..end]), end);
    (0..=bytes.len())
        .map(verdict)
        .find(|(v, _)| *v != Ok(Decoded::Partial))
        .unwrap_or((Ok(Decoded::Partial), bytes.len()))
}

/// Without extensions.
fn whole(header: Header, length: usize) -> Decoded {
    Decoded::Whole {
        header,
        extensions: length,
        length,
    }
}

/// With whatever there is after the addresses.
fn extended(header: Header, length: usize) -> Decoded {
    let extensions = match header {
        Header::Local => length,
        Header::Proxied { .. } => address_end(header),
    };
    Decoded::Whole {
        header,
        extensions,
        length,
    }
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, body].concat()
}

#[test]
fn lines_of_version_1() {
    for (line, header) in [
        (
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
            proxied("192.0.2.1:56324", "198.51.100.2:443"),
        ),
        (
            "PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
            proxied("0.0.0.0:0", "255.255.255.255:65535"),
        ),
        (
            "PROXY TCP6 2001:DB8::1 ::1 1 2\r\n",
            proxied("[2001:db8::1]:1", "[::1]:2"),
        ),
        (
            "PROXY TCP6 ::ffff:192.0.2.1 :: 1 2\r\n",
            proxied("[::ffff:192.0.2.1]:1", "[::]:2"),
        ),
        (
            "PROXY TCP6 1:2:3:4:5:6:192.0.2.1 1:2:3:4:5:6:7:8 1 2\r\n",
            proxied("[1:2:3:4:5:6:c000:201]:1", "[1:2:3:4:5:6:7:8]:2"),
        ),
        ("PROXY UNKNOWN\r\n", Header::Local),
        ("PROXY UNKNOWN \r\n", Header::Local),
        (
            "PROXY UNKNOWN ffff::ffff anything \0\x7f\r\n",
            Header::Local,
        ),
    ] {
        let length = line.len();
        assert_eq!(
            feed(line.as_bytes()),
            (Ok(whole(header, length)), length),
            "{line}"
        );
    }
}

#[test]
fn a_line_is_refused_at_its_first_wrong_byte() {
    use Malformed::{BadAddress, BadFamily, BadLineEnd, BadPort, NotProxy};
    for (valid, wrong, malformed) in [
        ("", "G", NotProxy),
        ("", "\x16", NotProxy),
        ("P", "O", NotProxy),
        ("PROXY", "\t", NotProxy),
        ("PROXY ", " ", BadFamily),
        ("PROXY TCP", "5", BadFamily),
        ("PROXY T", "X", BadFamily),
        ("PROXY UNKNOWN", "S", BadFamily),
        ("PROXY TCP4", "\r", BadFamily),
        ("PROXY TCP4 ", " ", BadAddress),
        ("PROXY TCP4 25", "6", BadAddress),
        ("PROXY TCP4 0", "1", BadAddress),
        ("PROXY TCP4 1.2.3.4", ".", BadAddress),
        ("PROXY TCP4 1.2.3", " ", BadAddress),
        ("PROXY TCP4 ", ":", BadAddress),
        ("PROXY TCP4 1.2.3.4 1.2.3.4", "\r", BadAddress),
        ("PROXY TCP6 192", " ", BadAddress),
        ("PROXY TCP6 ::1", "%", BadAddress),
        ("PROXY TCP6 1::2:", ":", BadAddress),
        ("PROXY TCP6 1234", "5", BadAddress),
        ("PROXY TCP6 1:2:3:4:5:6:7:8", ":", BadAddress),
        ("PROXY TCP6 ::", "\u{e9}", BadAddress),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 ", "+", BadPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 ", "-", BadPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 0", "8", BadPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 6553", "6", BadPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 ", "\r", BadPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2", "\n", BadPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2", " ", BadPort),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r", "G", BadLineEnd),
        ("PROXY UNKNOWN", "\n", BadLineEnd),
        ("PROXY UNKNOWN x\r", "\r", BadLineEnd),
    ] {
        let (verdict, at) = feed(format!("{valid}{wrong} and more\r\n").as_bytes());
        assert_eq!(verdict, Err(malformed), "{valid:?} then {wrong:?}");
        assert_eq!(at, valid.len() + 1, "{valid:?} then {wrong:?}");
    }
}

#[test]
fn a_line_ends_within_107_bytes() {
    let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
    let whole = whole(Header::Local, MAX_V1);
    assert_eq!(feed(line(MAX_V1).as_bytes()), (Ok(whole), MAX_V1));
    assert_eq!(
        feed(line(MAX_V1 + 1).as_bytes()),
        (Err(Malformed::TooLong), MAX_V1 - 1)
    );
    assert_eq!(decode(line(MAX_V1 + 1).as_bytes()), Err(Malformed::TooLong));
}

#[test]
fn blocks_of_version_2() {
    let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 1, 0xbb];
    let header = proxied("192.0.2.1:56324", "198.51.100.2:443");
    let with = |extensions: &[u8]| [&v4[..], extensions].concat();
    for (bytes, header) in [
        (v2(0x21, 0x11, &v4), header),
        (v2(0x21, 0x11, &with(&[4, 0, 0])), header),
        (
            v2(0x21, 0x11, &with(&[0xee, 0, 1, 7, 4, 0, 2, 0, 0])),
            header,
        ),
        (
            v2(0x21, 0x11, &vec![0; 12 + 3 + 255 * 3]),
            proxied("0.0.0.0:0", "0.0.0.0:0"),
        ),
        (v2(0x20, 0x00, &[]), Header::Local),
        (v2(0x20, 0x11, &v4), Header::Local),
        (v2(0x20, 0xff, &[1, 2, 3]), Header::Local),
        (v2(0x21, 0x00, &[9; 40]), Header::Local),
        (v2(0x20, 0x00, &[0; MAX_V2 - FIXED]), Header::Local),
    ] {
        let length = bytes.len();
        assert_eq!(
            feed(&bytes),
            (Ok(extended(header, length)), length),
            "{bytes:?}"
        );
    }
}

#[test]
fn a_block_is_refused_at_its_first_wrong_byte() {
    use Malformed::*;
    let with = |extensions: &[u8]| v2(0x21, 0x11, &[&[0; 12], extensions].concat());
    for (bytes, malformed, at) in [
        (b"\r\n\r\n\0\r\nQUIZ\n".to_vec(), NotProxy, 11),
        (b"\r\nGET".to_vec(), NotProxy, 3),
        (v2(0x11, 0x11, &[0; 12]), BadVersion, 13),
        (v2(0x22, 0x11, &[0; 12]), BadCommand, 13),
        (v2(0x21, 0x13, &[0; 12]), BadFamily, 14),
        (v2(0x21, 0x41, &[0; 12]), BadFamily, 14),
        (v2(0x21, 0x12, &[0; 12]), Unsupported, 14),
        (v2(0x21, 0x31, &[0; 216]), Unsupported, 14),
        (v2(0x20, 0x00, &[0; MAX_V2 - FIXED + 1]), TooLong, 16),
        (v2(0x20, 0x00, &[0; 0x1000]), TooLong, 15),
        (v2(0x21, 0x11, &[0; 11]), Truncated, 16),
        (v2(0x21, 0x21, &[0; 35]), Truncated, 16),
        (with(&[4, 0]), BadExtension, 16),
        (with(&[4, 0, 1, 0, 4]), BadExtension, 31),
        (with(&[4, 0, 9, 0]), BadExtension, 31),
        (with(&[3, 0, 2, 0, 0]), BadExtension, 31),
        (
            with(&[3, 0, 4, 0, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0]),
            BadExtension,
            38,
        ),
        (with(&[3, 0, 4, 0, 0, 0, 0]), BadChecksum, 35),
    ] {
        assert_eq!(feed(&bytes), (Err(malformed), at), "{bytes:?}");
    }
}

#[test]
fn mixed_families_go_out_as_ipv6() {
    let mixed = proxied("192.0.2.1:7", "[2001:db8::1]:443");
    assert_eq!(
        encode(Version::V1, &mixed).as_bytes(),
        b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 7 443\r\n"
    );
    let binary = encode(Version::V2, &mixed);
    let header = proxied("[::ffff:192.0.2.1]:7", "[2001:db8::1]:443");
    assert_eq!(decode(binary.as_bytes()), Ok(whole(header, 52)));
}

#[test]
fn the_longest_headers_fit() {
    let longest = proxied(
        "[1111:2222:3333:4444:5555:6666:7777:8888]:65535",
        "[1111:2222:3333:4444:5555:6666:7777:8888]:65535",
    );
    assert_eq!(encode(Version::V1, &longest).as_bytes().len(), 104);
    assert_eq!(encode(Version::V2, &longest).as_bytes().len(), 52);
    assert_eq!(
        encode(Version::V1, &Header::Local).as_bytes(),
        b"PROXY UNKNOWN\r\n"
    );
    assert_eq!(encode(Version::V2, &Header::Local).as_bytes().len(), FIXED);
}

#[test]
fn versions_are_written_v1_and_v2() {
    assert_eq!(
        serde_json::to_string(&[Version::V1, Version::V2]).unwrap(),
        r#"["v1","v2"]"#
    );
}

#[test]
fn the_checksum_has_its_check_value() {
    assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
}

/// Type and value of each extension of a header.
type Listed = Vec<(u8, Vec<u8>)>;

fn listed(bytes: &[u8]) -> Listed {
    let Ok(Decoded::Whole {
        extensions, length, ..
    }) = decode(bytes)
    else {
        panic!("{:?}", decode(bytes));
    };
    assert_eq!(length, bytes.len());
    let tlvs = Tlvs::new(&bytes[extensions..]).iter();
    tlvs.map(|(kind, value)| (kind, value.to_vec())).collect()
}

fn raw(listed: &[(u8, &[u8])]) -> Vec<u8> {
    let one = |(kind, value): &(u8, &[u8])| {
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[*kind], &length[..], value].concat()
    };
    listed.iter().flat_map(one).collect()
}

#[test]
fn extensions_are_written_in_order() {
    let header = proxied("192.0.2.1:56324", "198.51.100.2:443");
    let extensions = Extensions {
        pass: Tlvs::new(&[0xee, 0, 2, b'h', b'i']),
        authority: Some("a.example"),
        unique_id: Some(b"id"),
        crc32c: true,
        ..Extensions::default()
    };
    let encoded = encode_with(Version::V2, &header, &extensions);
    let bytes = encoded.as_bytes();
    let plain = encode(Version::V2, &header);
    assert_eq!(bytes[..14], plain.as_bytes()[..14]);
    assert_eq!(bytes[14..16], [0, 12 + 5 + 12 + 5 + 7]);
    assert_eq!(bytes[16..28], plain.as_bytes()[16..]);
    let crc = bytes[bytes.len() - 4..].to_vec();
    assert_eq!(
        listed(bytes),
        [
            (UNIQUE_ID, b"id".to_vec()),
            (AUTHORITY, b"a.example".to_vec()),
            (0xee, b"hi".to_vec()),
            (CRC32C, crc),
        ]
    );
}

#[test]
fn without_extensions_it_is_the_plain_header() {
    let header = proxied("192.0.2.1:56324", "[2001:db8::1]:443");
    let full = Extensions {
        pass: Tlvs::new(&[0xee, 0, 0]),
        authority: Some("a.example"),
        unique_id: Some(b"id"),
        crc32c: true,
        ..Extensions::default()
    };
    let nothing_left = Extensions {
        pass: Tlvs::new(&[CRC32C, 0, 4, 1, 2, 3, 4, NOOP, 0, 1, 0]),
        unique_id: Some(&[7; MAX_UNIQUE_ID + 1]),
        ..Extensions::default()
    };
    for (version, header, extensions) in [
        (Version::V2, header, Extensions::default()),
        (Version::V2, header, nothing_left),
        (Version::V2, Header::Local, full),
        (Version::V1, Header::Local, full),
        (Version::V1, header, full),
    ] {
        let encoded = encode_with(version, &header, &extensions);
        assert!(matches!(encoded, Encoded::Plain(_)), "{encoded:?}");
        assert_eq!(encoded.as_bytes(), encode(version, &header).as_bytes());
    }
}

#[test]
fn an_inbound_authority_and_unique_id_win() {
    let header = proxied("192.0.2.1:1", "192.0.2.2:2");
    let pass = raw(&[(AUTHORITY, b"theirs"), (0xe0, b"x"), (UNIQUE_ID, b"")]);
    let extensions = Extensions {
        pass: Tlvs::new(&pass),
        authority: Some("ours"),
        unique_id: Some(b"ours"),
        crc32c: false,
        ..Extensions::default()
    };
    let encoded = encode_with(Version::V2, &header, &extensions);
    let expected: Listed = vec![
        (AUTHORITY, b"theirs".to_vec()),
        (0xe0, b"x".to_vec()),
        (UNIQUE_ID, Vec::new()),
    ];
    assert_eq!(listed(encoded.as_bytes()), expected);
}

#[test]
fn what_does_not_fit_is_left_out_whole() {
    let header = proxied("192.0.2.1:1", "192.0.2.2:2");
    let long = vec![9; MAX_V2 - 28 - 7 - 3 - 2 - 3];
    let pass = raw(&[(0xe0, &[1; MAX_V2]), (0xe1, &long), (0xe2, b"")]);
    let extensions = Extensions {
        pass: Tlvs::new(&pass),
        authority: None,
        unique_id: Some(b"id"),
        crc32c: true,
        ..Extensions::default()
    };
    let encoded = encode_with(Version::V2, &header, &extensions);
    assert_eq!(encoded.as_bytes().len(), MAX_V2);
    let kinds: Vec<_> = listed(encoded.as_bytes())
        .into_iter()
        .map(|(k, _)| k)
        .collect();
    assert_eq!(kinds, [UNIQUE_ID, 0xe1, CRC32C]);
}

#[test]
fn malformed_extensions_end_the_list() {
    let tlvs = Tlvs::new(&[1, 0, 1, b'x', 2, 0, 9, b'y']);
    assert_eq!(tlvs.iter().collect::<Vec<_>>(), [(1, &b"x"[..])]);
    assert_eq!(tlvs.find(2), None);
    assert_eq!(format!("{tlvs:?}"), "[(1, [120])]");
}

fn socket() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn header() -> impl Strategy<Value = Header> {
    let pair = (socket(), socket());
    let proxied = pair.prop_map(|(client, destination)| Header::Proxied {
        client,
        destination,
    });
    prop_oneof![1 => Just(Header::Local), 9 => proxied]
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V1), Just(Version::V2)]
}

/// As it comes back: of one family.
fn unified(header: Header) -> Header {
    let Header::Proxied {
        client,
        destination,
    } = header
    else {
        return header;
    };
    let (from, to) = match same_family(client.ip(), destination.ip()) {
        Pair::V4(from, to) => (from.into(), to.into()),
        Pair::V6(from, to) => (from.into(), to.into()),
    };
    Header::Proxied {
        client: SocketAddr::new(from, client.port()),
        destination: SocketAddr::new(to, destination.port()),
    }
}

fn extension() -> impl Strategy<Value = Tlv<'static>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        bytes().prop_map(|b| Tlv::Alpn(b.into())),
        "[a-z.]{0,30}".prop_map(|s| Tlv::Authority(s.into())),
        (0usize..40).prop_map(Tlv::Noop),
        bytes().prop_map(|b| Tlv::UniqueId(b.into())),
        any::<bool>().prop_map(|b| Tlv::Ssl(SslInfo::new(b, b, !b, 0))),
        (0xe0u8..=0xef, bytes()).prop_map(|(kind, b)| Tlv::Custom(kind, b.into())),
    ]
}

/// A valid header with extensions by `proxy-header`, and what it says.
fn foreign() -> impl Strategy<Value = (Vec<u8>, Header)> {
    let extensions = proptest::collection::vec(extension(), 0..6);
    (header().prop_map(unified), extensions, any::<bool>()).prop_map(|(header, mut tlvs, crc)| {
        if crc {
            tlvs.insert(tlvs.len() / 2, Tlv::Crc32c(0));
        }
        let address = match header {
            Header::Local => None,
            Header::Proxied {
                client,
                destination,
            } => Some(ProxiedAddress::stream(client, destination)),
        };
        let mut bytes = Vec::new();
        ProxyHeader::with_tlvs(address, tlvs)
            .encode_v2(&mut bytes)
            .unwrap();
        if crc {
            fill_checksum(&mut bytes, address_end(header));
        }
        (bytes, header)
    })
}

fn address_end(header: Header) -> usize {
    match header {
        Header::Local => 16,
        Header::Proxied { client, .. } => {
            if client.is_ipv4() {
                28
            } else {
                52
            }
        }
    }
}

/// The specification's steps for a sender, apart from the code under test.
fn fill_checksum(bytes: &mut [u8], mut at: usize) {
    while bytes[at] != CRC32C {
        at += 3 + usize::from(u16::from_be_bytes([bytes[at + 1], bytes[at + 2]]));
    }
    let mut crc = u32::MAX;
    for byte in &*bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    bytes[at + 3..at + 7].copy_from_slice(&(!crc).to_be_bytes());
}

/// Headers with a few bytes changed: near what is valid, unlike noise.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let sound = prop_oneof![
        (version(), header()).prop_map(|(v, h)| encode(v, &h).as_bytes().to_vec()),
        foreign().prop_map(|(bytes, _)| bytes),
        Just(b"PROXY UNKNOWN what ever\r\n".to_vec()),
    ];
    (sound, damage).prop_map(|(mut bytes, damage)| {
        for (index, byte) in damage {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

/// The fuzz function: nothing panics, and a verdict is final.
fn fuzz(bytes: &[u8]) {
    let (verdict, at) = feed(bytes);
    if let Ok(Decoded::Whole {
        extensions, length, ..
    }) = verdict
    {
        assert_eq!(length, at, "whole exactly when the last byte is there");
        let tlvs = Tlvs::new(&bytes[extensions..length]);
        let read: usize = tlvs.iter().map(|(_, value)| 3 + value.len()).sum();
        assert_eq!(read, length - extensions, "all of it is read");
    }
    for end in at..=bytes.len() {
        match verdict {
            Err(_) => assert!(decode(&bytes[..end]).is_err(), "{end}"),
            Ok(_) => assert_eq!(decode(&bytes[..end]), verdict, "{end}"),
        }
    }
}

proptest! {
    #[test]
    fn what_is_sent_is_read(version in version(), header in header()) {
        let encoded = encode(version, &header);
        let length = encoded.as_bytes().len();
        let whole = whole(unified(header), length);
        prop_assert_eq!(decode(encoded.as_bytes()), Ok(whole));
    }

    #[test]
    fn a_header_may_arrive_in_any_pieces(
        version in version(),
        header in header(),
        payload in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let encoded = encode(version, &header);
        let length = encoded.as_bytes().len();
        let bytes = [encoded.as_bytes(), &payload].concat();
        for end in 0..length {
            prop_assert_eq!(decode(&bytes[..end]), Ok(Decoded::Partial), "{}", end);
        }
        let whole = whole(unified(header), length);
        for end in length..=bytes.len() {
            prop_assert_eq!(decode(&bytes[..end]), Ok(whole), "{}", end);
        }
    }

    #[test]
    fn any_address_text_may_arrive_in_any_pieces(
        groups in any::<[u16; 8]>(),
        gap in proptest::option::of((0usize..8, 1usize..9)),
        dotted in any::<Option<Ipv4Addr>>(),
        upper in any::<bool>(),
    ) {
        let mut text: Vec<String> = groups.iter().map(|group| format!("{group:x}")).collect();
        if let Some(v4) = dotted {
            text.splice(6.., [v4.to_string()]);
        }
        let mut text = match gap {
            Some((at, width)) if at + width <= 6 => {
                format!("{}::{}", text[..at].join(":"), text[at + width..].join(":"))
            }
            _ => text.join(":"),
        };
        if upper {
            text.make_ascii_uppercase();
        }
        prop_assert!(text.parse::<Ipv6Addr>().is_ok(), "{}", text);
        let line = format!("PROXY TCP6 {text} ::1 443 8443\r\n");
        let (verdict, at) = feed(line.as_bytes());
        let whole = matches!(verdict, Ok(Decoded::Whole { .. }));
        prop_assert!(whole && at == line.len(), "{}: {:?} at {}", text, verdict, at);
    }

    #[test]
    fn extensions_of_others_are_skipped((bytes, header) in foreign()) {
        let length = bytes.len();
        prop_assert_eq!(feed(&bytes), (Ok(extended(header, length)), length));
        let (theirs, theirs_length) =
            ProxyHeader::parse(&bytes, ParseConfig::default()).unwrap();
        prop_assert_eq!(theirs_length, length);
        let theirs = theirs.proxied_address().map(|a| (a.source, a.destination));
        prop_assert_eq!(theirs, match header {
            Header::Local => None,
            Header::Proxied { client, destination } => Some((client, destination)),
        });
    }

    #[test]
    fn proxy_header_reads_ours_the_same(version in version(), header in header()) {
        let encoded = encode(version, &header);
        let (theirs, length) =
            ProxyHeader::parse(encoded.as_bytes(), ParseConfig::default()).unwrap();
        prop_assert_eq!(length, encoded.as_bytes().len());
        let theirs = theirs.proxied_address().map(|a| (a.source, a.destination));
        prop_assert_eq!(theirs, match unified(header) {
            Header::Local => None,
            Header::Proxied { client, destination } => Some((client, destination)),
        });
    }

    #[test]
    fn extensions_come_back_as_they_were_sent(
        header in header(),
        passed in proptest::collection::vec(
            (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..600)), 0..9),
        authority in proptest::option::of("[a-z.]{0,60}"),
        unique_id in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..140)),
        crc32c in any::<bool>(),
        payload in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let passed: Vec<_> = passed.iter().map(|(kind, value)| (*kind, &value[..])).collect();
        let pass = raw(&passed);
        let extensions = Extensions {
            pass: Tlvs::new(&pass),
            authority: authority.as_deref(),
            unique_id: unique_id.as_deref(),
            crc32c,
            ..Extensions::default()
        };
        let encoded = encode_with(Version::V2, &header, &extensions);
        let bytes = encoded.as_bytes();
        prop_assert!(bytes.len() <= MAX_V2);
        prop_assert_eq!(feed(bytes), (Ok(extended(unified(header), bytes.len())), bytes.len()));
        let with_payload = [bytes, &payload].concat();
        prop_assert_eq!(decode(&with_payload), decode(bytes));

        let back = listed(bytes);
        let inbound = |kind| passed.iter().any(|(k, _)| *k == kind);
        let mut expected: Listed = Vec::new();
        if let Some(id) = unique_id.filter(|id| id.len() <= 128 && !inbound(UNIQUE_ID)) {
            expected.push((UNIQUE_ID, id));
        }
        if let Some(name) = authority.filter(|_| !inbound(AUTHORITY)) {
            expected.push((AUTHORITY, name.into_bytes()));
        }
        let about_another = |kind: &u8| matches!(*kind, CRC32C | NOOP);
        expected.extend(passed.iter().filter(|(k, _)| !about_another(k)).map(|(k, v)| (*k, v.to_vec())));
        if header == Header::Local {
            prop_assert!(back.is_empty());
        } else if 52 + 7 + raw(&passed).len() + 300 <= MAX_V2 {
            prop_assert_eq!(back.iter().any(|(k, _)| *k == CRC32C), crc32c);
            let ours: Listed = back.into_iter().filter(|(k, _)| *k != CRC32C).collect();
            prop_assert_eq!(ours, expected);
        } else {
            prop_assert!(back.iter().all(|tlv| tlv.0 == CRC32C || expected.contains(tlv)));
        }
    }

    #[test]
    fn others_read_our_extensions_the_same(
        header in header().prop_filter("proxied", |h| *h != Header::Local),
        authority in proptest::option::of("[a-z.]{1,60}"),
        unique_id in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..128)),
        custom in proptest::collection::vec(any::<u8>(), 0..200),
        crc32c in any::<bool>(),
    ) {
        let pass = raw(&[(0xe3, &custom)]);
        let extensions = Extensions {
            pass: Tlvs::new(&pass),
            authority: authority.as_deref(),
            unique_id: unique_id.as_deref(),
            crc32c,
            ..Extensions::default()
        };
        let encoded = encode_with(Version::V2, &header, &extensions);
        let (theirs, length) =
            ProxyHeader::parse(encoded.as_bytes(), ParseConfig::default()).unwrap();
        prop_assert_eq!(length, encoded.as_bytes().len());
        prop_assert_eq!(theirs.authority(), authority.as_deref());
        prop_assert_eq!(theirs.unique_id(), unique_id.as_deref());

        let theirs = ppp::v2::Header::try_from(encoded.as_bytes()).unwrap();
        prop_assert_eq!(theirs.len(), length);
        let tlvs: Listed = theirs
            .tlvs()
            .map(|tlv| tlv.map(|tlv| (tlv.kind, tlv.value.into_owned())).unwrap())
            .collect();
        prop_assert_eq!(tlvs, listed(encoded.as_bytes()));
    }

    #[test]
    fn a_changed_bit_is_noticed_by_the_checksum(
        client in any::<SocketAddrV4>(),
        destination in any::<SocketAddrV6>(),
        bit in (FIXED * 8)..((FIXED + V6_BLOCK) * 8),
    ) {
        let header = Header::Proxied { client: client.into(), destination: destination.into() };
        let mut bytes = encode(Version::V2, &header).as_bytes().to_vec();
        bytes[15] += 7;
        bytes.extend([3, 0, 4, 0, 0, 0, 0]);
        fill_checksum(&mut bytes, FIXED + V6_BLOCK);
        prop_assert!(decode(&bytes).is_ok());
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(decode(&bytes), Err(Malformed::BadChecksum));
    }

    #[test]
    fn no_bytes_panic_and_verdicts_are_final(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        damaged in damaged(),
    ) {
        fuzz(&noise);
        fuzz(&[&b"PROXY "[..], &noise].concat());
        fuzz(&[&SIGNATURE[..], &[0x21, 0x11, 0], &noise].concat());
        fuzz(&damaged);
    }
}

#[test]
fn a_decrypted_session_is_told_by_who_has_decrypted_it() {
    let header = proxied("192.0.2.1:1", "192.0.2.2:2");
    let theirs = raw(&[(SSL, b"forged"), (ALPN, b"forged"), (0xe0, b"x")]);
    let extensions = Extensions {
        pass: Tlvs::new(&theirs),
        alpn: Some(b"h2"),
        ssl: Some(Ssl {
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            client_certificate: true,
            common_name: Some("device 7"),
        }),
        ..Extensions::default()
    };
    let encoded = encode_with(Version::V2, &header, &extensions);
    let session = [
        [0x07, 0, 0, 0, 0].as_slice(),
        &raw(&[
            (0x21, b"TLSv1.3"),
            (0x22, b"device 7"),
            (0x23, b"TLS_AES_128_GCM_SHA256"),
        ]),
    ];
    let expected: Listed = vec![
        (ALPN, b"h2".to_vec()),
        (SSL, session.concat()),
        (0xe0, b"x".to_vec()),
    ];
    assert_eq!(listed(encoded.as_bytes()), expected);
}
