//! The PROXY protocol, versions 1 and 2: header bytes to addresses and back, by
//! HAProxy's `doc/proxy-protocol.txt` (sections named below are its own).
//!
//! Owns the bytes only. From whom a header is taken at all (`accept_proxy`), when
//! one is sent, and un-mapping `::ffff:0:0/96` ([`ClientAddr`](crate::addr::ClientAddr))
//! are for others. The agent calls [`decode`] after each read until the header is
//! whole, and [`encode`] or [`encode_with`] once per upstream connection. Only
//! writing extensions allocates.

mod extensions;
#[cfg(test)]
mod tests;
mod v2;

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use extensions::{Encoded, Extensions, MAX_UNIQUE_ID, Ssl, Tlvs, encode_with};

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
/// Types of extensions (section 2.2).
const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const NOOP: u8 = 0x04;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;

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
        /// Where in the bytes its extensions begin, for [`Tlvs::new`]. They end
        /// with the header, and so do not exist where this is its length: in
        /// version 1, and wherever the socket's own addresses hold.
        extensions: usize,
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
        Ok(Block {
            header,
            extensions,
            length,
        }) => Ok(Decoded::Whole {
            header,
            extensions,
            length,
        }),
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

/// A whole header; see [`Decoded::Whole`].
struct Block {
    header: Header,
    extensions: usize,
    length: usize,
}

impl Block {
    fn without_extensions(header: Header, length: usize) -> Self {
        Self {
            header,
            extensions: length,
            length,
        }
    }
}

fn read_v1(bytes: &[u8]) -> Read<Block> {
    let line = bytes.get(..MAX_V1).unwrap_or(bytes);
    let mut rest = line;
    let header = read_line(&mut rest).map_err(|stop| match stop {
        // Not even CRLF fits any more (or LF, after a CR).
        Stop::Short if line.len() > MAX_V1 - if line.ends_with(b"\r") { 1 } else { 2 } => {
            Stop::Malformed(Malformed::TooLong)
        }
        stop => stop,
    })?;
    let length = line.len() - rest.len();
    Ok(Block::without_extensions(header, length))
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
