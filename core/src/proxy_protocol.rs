//! The PROXY protocol, versions 1 and 2: header bytes to addresses and back, by
//! HAProxy's `doc/proxy-protocol.txt` (sections named below are its own).
//!
//! Owns the bytes only. From whom a header is taken at all (`accept_proxy`), when
//! one is sent, and un-mapping `::ffff:0:0/96` ([`ClientAddr`](crate::addr::ClientAddr))
//! are for others. The agent calls [`decode`] after each read until the header is
//! whole, and [`encode`] once per upstream connection. Neither allocates.

mod v2;

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest version 1 header in bytes, CRLF included (section 2.1).
pub const MAX_V1: usize = 107;

/// Longest version 2 header taken, in bytes. The format allows 65,551, though it
/// was "designed to fit" in 536 (section 2); this leaves room for extensions.
pub const MAX_V2: usize = 4096;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED: usize = SIGNATURE.len() + 4;
/// Two addresses and two ports.
const V4_BLOCK: usize = 2 * (4 + 2);
const V6_BLOCK: usize = 2 * (16 + 2);
/// The type of the checksum extension (section 2.2.3).
const CRC32C: u8 = 0x03;

/// Which of the two formats to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// What a header says about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Nothing: the sender speaks for itself (a health check) or does not know.
    /// The socket's own addresses hold.
    Local,
    /// The connection is made on a client's behalf.
    Proxied {
        /// Where the client connected from.
        client: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
}

/// What bytes that are not [`Malformed`] amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Every byte belongs to a header, and it goes on beyond them.
    Partial,
    /// A header, followed by what the client sent.
    Whole {
        /// What it says.
        header: Header,
        /// Its length in bytes; the payload begins there.
        length: usize,
    },
}

/// Why bytes are no header this side takes. Always the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The first bytes begin neither format.
    #[error("the connection does not begin with a PROXY header")]
    NotProxy,
    /// A line over [`MAX_V1`] or a block over [`MAX_V2`] bytes.
    #[error("the PROXY header is longer than {MAX_V1} bytes (version 1) or {MAX_V2} (version 2)")]
    TooLong,
    /// The signature of version 2 is followed by another version.
    #[error("the binary PROXY header is not of version 2")]
    BadVersion,
    /// Neither LOCAL nor PROXY.
    #[error("the PROXY header's command is neither LOCAL nor PROXY")]
    BadCommand,
    /// A family or transport the specification does not know.
    #[error("the PROXY header's address family or transport is unknown")]
    BadFamily,
    /// A family or transport it knows, of no use here: datagrams, Unix sockets.
    #[error("the PROXY header is not about TCP over IPv4 or IPv6")]
    Unsupported,
    /// Version 1: an address that is none, or not of the announced family.
    #[error("an address in the PROXY header is not a valid one of its family")]
    BadAddress,
    /// Version 1: a port that is none, or written with a sign or leading zero.
    #[error("a port in the PROXY header is not a decimal number from 0 to 65535")]
    BadPort,
    /// Version 1: something else than CRLF where the line ends.
    #[error("the PROXY header's line does not end in CRLF")]
    BadLineEnd,
    /// Version 2: the length leaves no room for the addresses.
    #[error("the PROXY header is shorter than its addresses")]
    Truncated,
    /// Version 2: extensions that do not add up to the length, or a checksum
    /// that is not 4 bytes or comes twice.
    #[error("the PROXY header's extensions are not well formed")]
    BadExtension,
    /// Version 2: the checksum is not that of the header (section 2.2.3).
    #[error("the PROXY header does not match its checksum")]
    BadChecksum,
}

/// Reads the header `bytes` begin with; may be called again with more of them.
///
/// [`Decoded::Partial`] means that some valid header begins so, hence a wrong
/// byte is refused when it arrives, the first byte of garbage included, and a
/// refusal stands whatever follows. (A line is also cut at [`MAX_V1`], and a
/// checksum is known wrong at its end.)
///
/// # Errors
/// [`Malformed`]: abort the connection (section 2: "must be discarded").
pub fn decode(bytes: &[u8]) -> Result<Decoded, Malformed> {
    let read = match bytes.first() {
        None => Err(Stop::Short),
        Some(b'P') => read_v1(bytes),
        Some(b'\r') => v2::read(bytes),
        Some(_) => Err(Stop::Malformed(Malformed::NotProxy)),
    };
    match read {
        Ok((header, length)) => Ok(Decoded::Whole { header, length }),
        Err(Stop::Short) => Ok(Decoded::Partial),
        Err(Stop::Malformed(malformed)) => Err(malformed),
    }
}

/// A header ready to be sent.
#[derive(Clone)]
pub struct EncodedHeader {
    bytes: [u8; MAX_V1],
    length: usize,
}

/// The bytes to send for `header`.
///
/// An IPv4 and an IPv6 address together go out as two IPv6 ones, the former as
/// `::ffff:a.b.c.d`, like HAProxy's `make_proxy_line_v1` and `_v2`. Flow labels
/// and scopes have no place in either format. A [`Header::Local`] of version 1 is
/// `PROXY UNKNOWN`, which some receivers refuse: section 2.1 has health checks name
/// the checking socket's own two addresses instead.
pub fn encode(version: Version, header: &Header) -> EncodedHeader {
    let mut out = EncodedHeader {
        bytes: [0; MAX_V1],
        length: 0,
    };
    let written = match version {
        Version::V1 => out.write_v1(header),
        Version::V2 => out.write_v2(header),
    };
    debug_assert!(written.is_ok(), "104 bytes are the longest");
    out
}

impl EncodedHeader {
    /// The header's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn write_v1(&mut self, header: &Header) -> fmt::Result {
        let &Header::Proxied {
            client,
            destination,
        } = header
        else {
            return self.write_str("PROXY UNKNOWN\r\n");
        };
        let ports = (client.port(), destination.port());
        match same_family(client.ip(), destination.ip()) {
            Pair::V4(from, to) => {
                write!(self, "PROXY TCP4 {from} {to} {} {}\r\n", ports.0, ports.1)
            }
            Pair::V6(from, to) => {
                write!(self, "PROXY TCP6 {from} {to} {} {}\r\n", ports.0, ports.1)
            }
        }
    }

    fn write_v2(&mut self, header: &Header) -> fmt::Result {
        self.push(SIGNATURE)?;
        let &Header::Proxied {
            client,
            destination,
        } = header
        else {
            return self.push(&[0x20, 0x00, 0, 0]);
        };
        match same_family(client.ip(), destination.ip()) {
            Pair::V4(from, to) => {
                self.push(&[0x21, 0x11, 0, 12])?;
                self.push(&from.octets())?;
                self.push(&to.octets())?;
            }
            Pair::V6(from, to) => {
                self.push(&[0x21, 0x21, 0, 36])?;
                self.push(&from.octets())?;
                self.push(&to.octets())?;
            }
        }
        self.push(&client.port().to_be_bytes())?;
        self.push(&destination.port().to_be_bytes())
    }

    fn push(&mut self, bytes: &[u8]) -> fmt::Result {
        let end = self.length + bytes.len();
        self.bytes
            .get_mut(self.length..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }
}

impl fmt::Write for EncodedHeader {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes())
    }
}

impl fmt::Debug for EncodedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedHeader({})", self.as_bytes().escape_ascii())
    }
}

enum Pair {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

fn same_family(from: IpAddr, to: IpAddr) -> Pair {
    let v6 = |ip| match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Pair::V4(from, to),
        _ => Pair::V6(v6(from), v6(to)),
    }
}

/// Why reading ends before the header does.
enum Stop {
    /// The bytes do.
    Short,
    Malformed(Malformed),
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

type Read<T> = Result<T, Stop>;

fn read_v1(bytes: &[u8]) -> Read<(Header, usize)> {
    let line = bytes.get(..MAX_V1).unwrap_or(bytes);
    let mut rest = line;
    let header = read_line(&mut rest).map_err(|stop| match stop {
        // Not even CRLF fits any more (or LF, after a CR).
        Stop::Short if line.len() > MAX_V1 - if line.ends_with(b"\r") { 1 } else { 2 } => {
            Stop::Malformed(Malformed::TooLong)
        }
        stop => stop,
    })?;
    Ok((header, line.len() - rest.len()))
}

/// Section 2.1: `PROXY`, a family, two addresses, two ports, single spaces, CRLF.
fn read_line(rest: &mut &[u8]) -> Read<Header> {
    literal(rest, b"PROXY ", Malformed::NotProxy)?;
    let header = match take(rest)? {
        [b'T'] => {
            literal(rest, b"CP", Malformed::BadFamily)?;
            match take(rest)? {
                [b'4'] => read_addresses::<Ipv4Addr>(rest)?,
                [b'6'] => read_addresses::<Ipv6Addr>(rest)?,
                _ => return Err(Malformed::BadFamily.into()),
            }
        }
        [b'U'] => {
            literal(rest, b"NKNOWN", Malformed::BadFamily)?;
            skip_line(rest)?;
            Header::Local
        }
        _ => return Err(Malformed::BadFamily.into()),
    };
    literal(rest, b"\n", Malformed::BadLineEnd)?;
    Ok(header)
}

fn read_addresses<A: FromStr + Into<IpAddr>>(rest: &mut &[u8]) -> Read<Header> {
    literal(rest, b" ", Malformed::BadFamily)?;
    let address = |text: &str| text.parse::<A>().ok();
    let from = field(rest, b' ', address, Malformed::BadAddress)?;
    let to = field(rest, b' ', address, Malformed::BadAddress)?;
    let from_port = field(rest, b' ', canonical_port, Malformed::BadPort)?;
    let to_port = field(rest, b'\r', canonical_port, Malformed::BadPort)?;
    Ok(Header::Proxied {
        client: SocketAddr::new(from.into(), from_port),
        destination: SocketAddr::new(to.into(), to_port),
    })
}

fn canonical_port(text: &str) -> Option<u16> {
    let canonical = text == "0" || text.starts_with(|first: char| ('1'..='9').contains(&first));
    text.parse().ok().filter(|_| canonical)
}

/// What makes a valid address or port of any beginning of one.
const COMPLETIONS: [&str; 11] = [
    "", "0", ":", "::", ":0", ".0", "0.0", ".0.0", "0.0.0", ".0.0.0", "0.0.0.0",
];

/// Takes what stands before `delimiter`, and it. An unfinished field must still
/// be able to become a valid one.
fn field<T>(
    rest: &mut &[u8],
    delimiter: u8,
    parse: impl Fn(&str) -> Option<T>,
    malformed: Malformed,
) -> Read<T> {
    let mut parts = rest.splitn(2, |&byte| byte == delimiter);
    let text = parts.next().unwrap_or_default();
    let text = str::from_utf8(text).map_err(|_| malformed)?;
    if let Some(after) = parts.next() {
        *rest = after;
        return Ok(parse(text).ok_or(malformed)?);
    }
    let viable = COMPLETIONS.iter().any(|completion| {
        let mut whole = EncodedHeader {
            bytes: [0; MAX_V1],
            length: 0,
        };
        let fits = whole
            .write_str(text)
            .and_then(|()| whole.write_str(completion));
        fits.is_ok()
            && str::from_utf8(whole.as_bytes())
                .ok()
                .and_then(&parse)
                .is_some()
    });
    Err(if viable {
        Stop::Short
    } else {
        malformed.into()
    })
}

/// UNKNOWN: whatever stands before CRLF is ignored. A CR or LF alone ends no
/// line ("must not tolerate"), and so is refused rather than skipped.
fn skip_line(rest: &mut &[u8]) -> Read<()> {
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'\r' | b'\n'))
        .unwrap_or(rest.len());
    let (skipped, after) = rest.split_at(end);
    if !matches!(skipped.first(), None | Some(b' ')) {
        return Err(Malformed::BadFamily.into());
    }
    *rest = after;
    literal(rest, b"\r", Malformed::BadLineEnd)
}

fn literal(rest: &mut &[u8], expected: &[u8], malformed: Malformed) -> Read<()> {
    match rest.strip_prefix(expected) {
        Some(after) => *rest = after,
        None if expected.starts_with(rest) => return Err(Stop::Short),
        None => return Err(malformed.into()),
    }
    Ok(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Read<[u8; N]> {
    let (taken, after) = rest.split_first_chunk().ok_or(Stop::Short)?;
    *rest = after;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
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
                (Ok(Decoded::Whole { header, length }), length),
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
        let whole = Decoded::Whole {
            header: Header::Local,
            length: MAX_V1,
        };
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
                (Ok(Decoded::Whole { header, length }), length),
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
        assert_eq!(
            decode(binary.as_bytes()),
            Ok(Decoded::Whole { header, length: 52 })
        );
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
        (header().prop_map(unified), extensions, any::<bool>()).prop_map(
            |(header, mut tlvs, crc)| {
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
            },
        )
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
        if let Ok(Decoded::Whole { length, .. }) = verdict {
            assert_eq!(length, at, "whole exactly when the last byte is there");
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
            let whole = Decoded::Whole { header: unified(header), length };
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
            let whole = Decoded::Whole { header: unified(header), length };
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
            prop_assert_eq!(feed(&bytes), (Ok(Decoded::Whole { header, length }), length));
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
}
