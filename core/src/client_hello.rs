//! The first bytes of a connection, read for routing by server name without
//! decrypting: is this TLS, and which host does the client ask for.
//!
//! Owns the bytes: TLS records (RFC 8446 section 5.1), the ClientHello in them
//! (4.1.2) and its server name (RFC 6066 section 3). Which pool a name leads to is
//! [`route`](crate::route)'s; whether the hello is acceptable otherwise is for
//! whoever terminates it. The balancer calls [`read`] after each read of a
//! connection, with all bytes so far, and passes those same bytes on.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The most bytes that are looked at, records' headers included. Browsers send
/// 300 to 2,000, the larger ones with post-quantum key shares.
pub const MAX: usize = 16 * 1024;

const HANDSHAKE: u8 = 22;
/// Of every version that has this format (`legacy_record_version`, 0x03xx).
const MAJOR: u8 = 3;
const MOST_IN_RECORD: usize = 1 << 14;
const CLIENT_HELLO: u8 = 1;
/// A message's type, and its length in three bytes.
const MESSAGE_HEADER: usize = 4;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What the first bytes of a connection amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// They may become a ClientHello.
    Partial,
    /// They begin no handshake record: plain HTTP, another protocol, an SSL 2.0
    /// hello. Known at the first or second byte.
    NotTls,
    /// A ClientHello is there; more may follow it.
    Whole {
        /// The host it asks for. `None` when it names none, or an IP address
        /// (which "are not permitted", and which no certificate is chosen by).
        server_name: Option<ServerName>,
    },
}

/// Why bytes that begin a handshake record are no ClientHello. Always the client's
/// fault: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not end within [`MAX`] bytes.
    #[error("the ClientHello does not end within {MAX} bytes")]
    TooLong,
    /// Within the hello comes a record that is empty, over 2^14 bytes, or none of a
    /// handshake.
    #[error("the ClientHello is interrupted by something else than handshake records")]
    BadRecord,
    /// The first handshake message is another one.
    #[error("the first TLS message is not a ClientHello")]
    NotClientHello,
    /// The lengths in the hello do not add up.
    #[error("the lengths in the ClientHello do not add up")]
    BadLength,
    /// Two names, or one that is no DNS name.
    #[error("the ClientHello's server name is not one DNS name")]
    BadServerName,
}

/// A DNS name that a client asks for: lower case, without a final dot.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerName(Box<str>);

impl ServerName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Labels of letters, digits, hyphens and, since such names are in use,
    /// underscores; 1 to 63 each, 253 together.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_suffix(b".").unwrap_or(bytes);
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_label = |label: &[u8]| {
            (1..=63).contains(&label.len())
                && label.iter().all(allowed)
                && !label.starts_with(b"-")
                && !label.ends_with(b"-")
        };
        let is_name = bytes.len() <= 253 && bytes.split(|&byte| byte == b'.').all(is_label);
        let text = str::from_utf8(bytes).ok().filter(|_| is_name)?;
        Some(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerName({})", self.0)
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the ClientHello that `bytes` begin with; may be called again with more.
///
/// The hello may come in any number of records. Every beginning of a valid one is
/// [`Read::Partial`]; a wrong byte is refused when it arrives as long as it belongs
/// to a record's header or to the message's, and at the end of the hello otherwise.
/// A call goes over the records' headers, and over the hello once it is whole: for
/// a client that sends byte by byte that is MAX / 6 steps at most each time. Only a
/// hello in several records is copied, once.
///
/// # Errors
/// [`Malformed`].
pub fn read(bytes: &[u8]) -> Result<Read, Malformed> {
    if !matches!(bytes, [] | [HANDSHAKE] | [HANDSHAKE, MAJOR, ..]) {
        return Ok(Read::NotTls);
    }
    let seen = bytes.get(..MAX).unwrap_or(bytes);
    match message(seen)? {
        Some(body) => Ok(Read::Whole {
            server_name: server_name(&body)?,
        }),
        None if seen.len() == MAX => Err(Malformed::TooLong),
        None => Ok(Read::Partial),
    }
}

/// The body of the first message, when all of it is there.
fn message(bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, Malformed> {
    let (mut header, mut length) = (Vec::with_capacity(MESSAGE_HEADER), 0);
    for fragment in Fragments(bytes) {
        let fragment = fragment?;
        length += fragment.len();
        header.extend(fragment.iter().take(MESSAGE_HEADER - header.len()));
        if header.first().is_some_and(|&kind| kind != CLIENT_HELLO) {
            return Err(Malformed::NotClientHello);
        }
        let Some(end) = message_end(&header)? else {
            continue;
        };
        if length < end {
            continue;
        }
        // Mostly all of it is in the first record.
        if let Some(body) = fragment.get(MESSAGE_HEADER..end)
            && length == fragment.len()
        {
            return Ok(Some(Cow::Borrowed(body)));
        }
        let joined = Fragments(bytes).flatten().flatten().copied();
        let body = joined.take(end).skip(MESSAGE_HEADER);
        return Ok(Some(Cow::Owned(body.collect())));
    }
    Ok(None)
}

/// Where the message with this header ends, when the header is whole.
fn message_end(header: &[u8]) -> Result<Option<usize>, Malformed> {
    let &[_, high, middle, low] = header else {
        return Ok(None);
    };
    let end = MESSAGE_HEADER + u32::from_be_bytes([0, high, middle, low]) as usize;
    if end > MAX {
        return Err(Malformed::TooLong);
    }
    Ok(Some(end))
}

/// The content of handshake records, as far as it is there. Ends after an error.
struct Fragments<'a>(&'a [u8]);

impl<'a> Iterator for Fragments<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        if !matches!(bytes, [] | [HANDSHAKE] | [HANDSHAKE, MAJOR, ..]) {
            return Some(Err(Malformed::BadRecord));
        }
        let (&[_, _, _, high, low], content) = bytes.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !(1..=MOST_IN_RECORD).contains(&length) {
            return Some(Err(Malformed::BadRecord));
        }
        let (fragment, rest) = content.split_at_checked(length).unwrap_or((content, &[]));
        self.0 = rest;
        Some(Ok(fragment))
    }
}

/// RFC 8446 section 4.1.2, down to the server name.
fn server_name(hello: &[u8]) -> Result<Option<ServerName>, Malformed> {
    let mut hello = Reader(hello);
    let _version_and_random = hello.take(2 + 32)?;
    let _session = hello.vector8()?;
    let _suites = hello.vector16()?;
    let _compressions = hello.vector8()?;
    if hello.0.is_empty() {
        // Before TLS 1.3 there need not be extensions.
        return Ok(None);
    }
    let mut extensions = Reader(hello.vector16()?);
    hello.end()?;
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let content = extensions.vector16()?;
        if kind == SERVER_NAME && found.replace(content).is_some() {
            return Err(Malformed::BadServerName);
        }
    }
    found.map_or(Ok(None), host_name)
}

/// RFC 6066 section 3: a list of names, at most one of each type. Only host names
/// are defined; an entry of another type has no known length, and so ends the list
/// for us.
fn host_name(extension: &[u8]) -> Result<Option<ServerName>, Malformed> {
    let mut extension = Reader(extension);
    let mut list = Reader(extension.vector16()?);
    extension.end()?;
    if list.0.is_empty() {
        return Err(Malformed::BadServerName);
    }
    let mut found = None;
    while let Some((&HOST_NAME, rest)) = list.0.split_first() {
        list.0 = rest;
        if found.replace(list.vector16()?).is_some() {
            return Err(Malformed::BadServerName);
        }
    }
    match found {
        Some(name) if !is_ip_literal(name) => {
            let name = ServerName::parse(name).ok_or(Malformed::BadServerName)?;
            Ok(Some(name))
        }
        _ => Ok(None),
    }
}

fn is_ip_literal(name: &[u8]) -> bool {
    str::from_utf8(name)
        .is_ok_and(|text| text.parse::<Ipv4Addr>().is_ok() || text.parse::<Ipv6Addr>().is_ok())
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(Malformed::BadLength)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number16(&mut self) -> Result<u16, Malformed> {
        let (&number, rest) = self.0.split_first_chunk().ok_or(Malformed::BadLength)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(number))
    }

    /// What a length of one byte announces.
    fn vector8(&mut self) -> Result<&'a [u8], Malformed> {
        let (&length, rest) = self.0.split_first().ok_or(Malformed::BadLength)?;
        self.0 = rest;
        self.take(length.into())
    }

    /// What a length of two bytes announces.
    fn vector16(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.number16()?;
        self.take(length.into())
    }

    fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed::BadLength)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::server::Acceptor;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    /// The ClientHello of rustls: what its records hold.
    fn real(host: &str, sni: bool, alpn: &[&str]) -> Vec<u8> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let mut config = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.enable_sni = sni;
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().into()).collect();
        let host = host.to_owned().try_into().unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), host).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        Fragments(&bytes)
            .flat_map(Result::unwrap)
            .copied()
            .collect()
    }

    /// `message` in records of these sizes, again and again.
    fn records(message: &[u8], sizes: &[usize]) -> Vec<u8> {
        let (mut rest, mut sizes) = (message, sizes.iter().cycle());
        let mut out = Vec::new();
        while !rest.is_empty() {
            let (fragment, after) = rest.split_at((*sizes.next().unwrap()).clamp(1, rest.len()));
            out.extend([HANDSHAKE, MAJOR, 1]);
            out.extend(u16::try_from(fragment.len()).unwrap().to_be_bytes());
            out.extend(fragment);
            rest = after;
        }
        out
    }

    fn vector(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(content)].concat()
    }

    fn entry(kind: u8, name: &str) -> Vec<u8> {
        [&[kind], &vector(name.as_bytes())[..]].concat()
    }

    fn names(entries: &[Vec<u8>]) -> Vec<u8> {
        extension(SERVER_NAME, &vector(&entries.concat()))
    }

    /// A ClientHello with what comes after the compression methods.
    fn hello(tail: &[u8]) -> Vec<u8> {
        let body = [&[3, 3], &[7; 32][..], &[0, 0, 2, 0x13, 1, 1, 0], tail].concat();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[CLIENT_HELLO], &length[1..], &body].concat()
    }

    fn whole(name: Option<&str>) -> Result<Read, Malformed> {
        let server_name = name.map(|name| ServerName::parse(name.as_bytes()).unwrap());
        Ok(Read::Whole { server_name })
    }

    /// The verdict, and after how many bytes it was reached.
    fn feed(bytes: &[u8]) -> (Result<Read, Malformed>, usize) {
        (0..=bytes.len())
            .map(|end| (read(&bytes[..end]), end))
            .find(|(verdict, _)| *verdict != Ok(Read::Partial))
            .unwrap_or((Ok(Read::Partial), bytes.len()))
    }

    #[test]
    fn what_is_not_tls_is_known_at_once() {
        for (bytes, at) in [
            (&b"GET / HTTP/1.1\r\n"[..], 1),
            (b"PROXY TCP4", 1),
            (b"SSH-2.0-x", 1),
            // An alert, application data, and an SSL 2.0 hello.
            (&[21, 3, 1, 0, 2, 1, 0], 1),
            (&[23, 3, 3, 0, 1, 0], 1),
            (&[0x80, 0x2e, 1, 3, 1], 1),
            (&[HANDSHAKE, 2, 0, 0, 9], 2),
            (&[HANDSHAKE, b'x'], 2),
        ] {
            assert_eq!(feed(bytes), (Ok(Read::NotTls), at), "{bytes:?}");
        }
        assert_eq!(read(&[]), Ok(Read::Partial));
    }

    #[test]
    fn the_server_name_is_read() {
        let one = |name| hello(&vector(&names(&[entry(0, name)])));
        let other = extension(16, &[0, 3, 2, b'h', b'2']);
        for (message, name) in [
            (one("play.example.com"), Some("play.example.com")),
            (one("Play.EXAMPLE.com."), Some("play.example.com")),
            (one("my_host"), Some("my_host")),
            (one("xn--bcher-kva.example"), Some("xn--bcher-kva.example")),
            (one(&"a.".repeat(126)), Some(&"a.".repeat(126)[..251])),
            (one("192.0.2.1"), None),
            (one("2001:db8::1"), None),
            (hello(&[]), None),
            (hello(&[0, 0]), None),
            (hello(&vector(&other)), None),
            (
                hello(&vector(
                    &[&other[..], &names(&[entry(0, "a.b")]), &other].concat(),
                )),
                Some("a.b"),
            ),
            // An entry of unknown type ends the list.
            (
                hello(&vector(&names(&[entry(9, "x"), entry(0, "a.b")]))),
                None,
            ),
            (
                hello(&vector(&names(&[entry(0, "a.b"), entry(9, "x")]))),
                Some("a.b"),
            ),
        ] {
            let bytes = records(&message, &[usize::MAX]);
            assert_eq!(feed(&bytes), (whole(name), bytes.len()), "{name:?}");
            let early_data = [&bytes[..], &[23, 3, 3, 0, 1, 0]].concat();
            assert_eq!(read(&early_data), whole(name), "{name:?}");
        }
    }

    #[test]
    fn a_malformed_hello_is_refused() {
        use Malformed::{BadLength, BadRecord, BadServerName, NotClientHello, TooLong};
        let record = |message: &[u8]| records(message, &[usize::MAX]);
        let named = |list: &[u8]| record(&hello(&vector(&extension(SERVER_NAME, list))));
        let one = |name: &str| record(&hello(&vector(&names(&[entry(0, name)]))));
        let truncated = |by: usize| {
            let mut message = hello(&[]);
            message.truncate(message.len() - by);
            message[3] -= u8::try_from(by).unwrap();
            record(&message)
        };
        let twice = [names(&[entry(0, "a.b")]), names(&[entry(0, "a.b")])].concat();
        let begun = record(&hello(&[])[..9]);
        for (bytes, malformed) in [
            (one(""), BadServerName),
            (one("a..b"), BadServerName),
            (one(".a"), BadServerName),
            (one("."), BadServerName),
            (one("-a.b"), BadServerName),
            (one("a-.b"), BadServerName),
            (one("a b"), BadServerName),
            (one("a\0.b"), BadServerName),
            (one("b\u{fc}cher.example"), BadServerName),
            (one(&"a".repeat(64)), BadServerName),
            (one(&"a.".repeat(127)[..253].repeat(2)), BadServerName),
            (named(&[0, 0]), BadServerName),
            (record(&hello(&vector(&twice))), BadServerName),
            (
                record(&hello(&vector(&names(&[entry(0, "a.b"), entry(0, "c.d")])))),
                BadServerName,
            ),
            (named(&[]), BadLength),
            (named(&[0, 4, 0, 0, 1, b'a', 9]), BadLength),
            (named(&[0, 4, 0, 0, 2, b'a']), BadLength),
            (record(&hello(&[0])), BadLength),
            (record(&hello(&[0, 0, 0])), BadLength),
            (record(&hello(&[0, 3, 0, 0, 9])), BadLength),
            (truncated(1), BadLength),
            (truncated(39), BadLength),
            (record(&[2]), NotClientHello),
            (record(&[CLIENT_HELLO, 0, 0x40, 0]), TooLong),
            (record(&[CLIENT_HELLO, 1, 0, 0]), TooLong),
            (vec![HANDSHAKE, 3, 1, 0, 0], BadRecord),
            (vec![HANDSHAKE, 3, 1, 0x40, 1], BadRecord),
            ([&begun[..], &[23]].concat(), BadRecord),
            ([&begun[..], &[HANDSHAKE, 4]].concat(), BadRecord),
            ([&begun[..], &[HANDSHAKE, 3, 1, 0, 0]].concat(), BadRecord),
        ] {
            assert_eq!(feed(&bytes), (Err(malformed), bytes.len()), "{bytes:?}");
        }
    }

    #[test]
    fn a_hello_ends_within_16_kib() {
        let of = |length: usize| hello(&vector(&extension(21, &vec![0; length - 51])));
        let fits = records(&of(MAX - 5), &[usize::MAX]);
        assert_eq!((fits.len(), read(&fits)), (MAX, whole(None)));
        // In two records it is five bytes longer.
        let exceeds = records(&of(MAX - 5), &[9_000]);
        assert_eq!(read(&exceeds[..MAX - 1]), Ok(Read::Partial));
        assert_eq!(read(&exceeds[..MAX]), Err(Malformed::TooLong));
        assert_eq!(read(&exceeds), Err(Malformed::TooLong));
    }

    #[test]
    fn a_real_hello_is_read_as_rustls_reads_it() {
        for (host, sni, name) in [
            ("play.example.com", true, Some("play.example.com")),
            ("Play.Example.COM", true, Some("play.example.com")),
            ("play.example.com", false, None),
            ("192.0.2.1", true, None),
            ("2001:db8::1", true, None),
        ] {
            let message = real(host, sni, &["h2", "http/1.1"]);
            assert!(
                message.len() > 1_200,
                "a post-quantum share is among the shares"
            );
            let bytes = records(&message, &[usize::MAX]);
            assert_eq!(feed(&bytes), (whole(name), bytes.len()), "{host}");
        }
    }

    /// By another implementation: `None` when it wants more bytes.
    fn by_rustls(bytes: &[u8]) -> Result<Option<Option<String>>, ()> {
        let (mut acceptor, mut source) = (Acceptor::default(), Cursor::new(bytes));
        loop {
            if acceptor.read_tls(&mut source).map_err(drop)? == 0 {
                return Ok(None);
            }
            if let Some(accepted) = acceptor.accept().map_err(drop)? {
                let hello = accepted.client_hello();
                return Ok(Some(
                    hello
                        .server_name()
                        .map(|name| name.trim_end_matches('.').to_owned()),
                ));
            }
        }
    }

    /// The fuzz function: nothing panics, a verdict is final, and where rustls reads
    /// a hello too it is the same one.
    fn fuzz(bytes: &[u8]) {
        let (verdict, at) = feed(bytes);
        for end in (at..=bytes.len()).step_by(1 + bytes.len() / 50) {
            assert_eq!(read(&bytes[..end]), verdict, "{end}");
        }
        if let (Ok(Read::Whole { server_name }), Ok(Some(theirs))) = (verdict, by_rustls(bytes)) {
            assert_eq!(
                server_name.as_ref().map(ServerName::as_str),
                theirs.as_deref()
            );
        }
    }

    fn host() -> impl Strategy<Value = String> {
        prop_oneof![
            9 => "[a-zA-Z0-9_]{1,12}(-[a-z0-9]{1,9})?(\\.[a-zA-Z]{1,20}){0,4}",
            1 => any::<std::net::IpAddr>().prop_map(|ip| ip.to_string()),
        ]
        .prop_filter("a name", |host| {
            rustls::pki_types::ServerName::try_from(host.as_str()).is_ok()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_records_and_any_pieces_make_the_same_hello(
            host in host(),
            sni in prop::bool::weighted(0.9),
            sizes in proptest::collection::vec(
                prop_oneof![Just(1usize), 1usize..20, 1usize..2_000], 1..20),
            payload in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let bytes = records(&real(&host, sni, &["http/1.1"]), &sizes);
            let (verdict, at) = feed(&bytes);
            prop_assert_eq!(at, bytes.len());
            let Ok(Read::Whole { server_name }) = verdict.clone() else {
                return Err(TestCaseError::fail(format!("{verdict:?}")));
            };
            let theirs = by_rustls(&bytes).unwrap().unwrap();
            prop_assert_eq!(server_name.as_ref().map(ServerName::as_str), theirs.as_deref());
            prop_assert_eq!(theirs.is_some(), sni && !is_ip_literal(host.as_bytes()));
            prop_assert_eq!(read(&[bytes, payload].concat()), verdict);
        }

        #[test]
        fn no_bytes_panic_and_verdicts_are_final(
            noise in proptest::collection::vec(any::<u8>(), 0..300),
            sizes in proptest::collection::vec(1usize..900, 1..5),
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            tail in proptest::collection::vec(0u8..6, 0..60),
        ) {
            fuzz(&noise);
            fuzz(&[&[HANDSHAKE, 3, 1, 0], &noise[..]].concat());
            fuzz(&records(&hello(&tail), &sizes));
            fuzz(&records(&hello(&vector(&extension(SERVER_NAME, &tail))), &sizes));
            let mut damaged = records(&real("play.example.com", true, &[]), &sizes);
            for (index, byte) in damage {
                let at = index.index(damaged.len());
                damaged[at] = byte;
            }
            fuzz(&damaged);
        }
    }
}
