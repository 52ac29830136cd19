//! Extensions of version 2 headers (type-length-values, section 2.2): looking at
//! those that came, and writing those that go out.

use std::fmt;

use super::v2::crc32c;
use super::{
    ALPN, AUTHORITY, CRC32C, EncodedHeader, FIXED, Header, MAX_V2, NOOP, SSL, UNIQUE_ID, Version,
    encode,
};

/// The longest unique id in bytes ("up to 128 bytes long", section 2.2.5).
pub const MAX_UNIQUE_ID: usize = 128;

/// Type and length.
const TLV_HEADER: usize = 3;
/// A checksum's extension.
const CHECKSUM: usize = TLV_HEADER + 4;

/// Extensions as they came.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    /// Of the bytes from [`Decoded::Whole::extensions`] to `length`. Nothing that
    /// [`decode`] has passed is malformed; in other bytes, what is malformed and
    /// all after it is left out.
    ///
    /// [`Decoded::Whole::extensions`]: super::Decoded::Whole::extensions
    /// [`decode`]: super::decode
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Type and value of each, in their order.
    pub fn iter(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (&[kind, high, low], values) = rest.split_first_chunk()?;
            let length = usize::from(u16::from_be_bytes([high, low]));
            let (value, after) = values.split_at_checked(length)?;
            rest = after;
            Some((kind, value))
        })
    }

    /// The value of the first of this type.
    pub fn find(self, kind: u8) -> Option<&'a [u8]> {
        self.iter()
            .find(|(k, _)| *k == kind)
            .map(|(_, value)| value)
    }
}

impl fmt::Debug for Tlvs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What a version 2 header carries besides addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extensions<'a> {
    /// What came with the inbound header and is passed on, checksum and padding
    /// left out: they were about that header. An authority or unique id among them
    /// wins over ours, since whoever is nearer to the client knows better, and a
    /// connection keeps one id all along its way.
    pub pass: Tlvs<'a>,
    /// The host name the client asks for (`PP2_TYPE_AUTHORITY`).
    pub authority: Option<&'a str>,
    /// What this connection is called in logs (`PP2_TYPE_UNIQUE_ID`); at most
    /// [`MAX_UNIQUE_ID`] bytes, a longer one is left out.
    pub unique_id: Option<&'a [u8]>,
    /// The protocol that was agreed on in TLS (`PP2_TYPE_ALPN`).
    pub alpn: Option<&'a [u8]>,
    /// The TLS session that the sender has decrypted (`PP2_TYPE_SSL`).
    pub ssl: Option<Ssl<'a>>,
    /// Whether a checksum is added.
    pub crc32c: bool,
}

/// A TLS session, decrypted by the sender (section 2.2.6).
#[derive(Clone, Copy, Debug)]
pub struct Ssl<'a> {
    /// Such as `TLSv1.3`.
    pub version: &'a str,
    /// As IANA names the suite.
    pub cipher: &'a str,
    /// Whether the client has shown a certificate, which was verified.
    pub client_certificate: bool,
    /// The common name in that.
    pub common_name: Option<&'a str>,
}

impl Ssl<'_> {
    /// Flags (`PP2_CLIENT_SSL`, `_CERT_CONN` and `_CERT_SESS`), what verification said (0:
    /// no error, also where nothing was to be verified), and extensions within this one.
    fn encode(&self) -> Vec<u8> {
        const VERSION: u8 = 0x21;
        const COMMON_NAME: u8 = 0x22;
        const CIPHER: u8 = 0x23;
        let client = if self.client_certificate { 0x07 } else { 0x01 };
        let mut out = vec![client, 0, 0, 0, 0];
        push(&mut out, MAX_V2, VERSION, self.version.as_bytes());
        if let Some(name) = self.common_name {
            push(&mut out, MAX_V2, COMMON_NAME, name.as_bytes());
        }
        push(&mut out, MAX_V2, CIPHER, self.cipher.as_bytes());
        out
    }
}

/// A header ready to be sent.
#[derive(Clone, Debug)]
pub enum Encoded {
    /// Without extensions: nothing is allocated.
    Plain(EncodedHeader),
    /// With them.
    Extended(Vec<u8>),
}

impl Encoded {
    /// The header's bytes, at most [`MAX_V2`].
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Plain(header) => header.as_bytes(),
            Self::Extended(bytes) => bytes,
        }
    }
}

/// The bytes to send for `header`, as [`encode`] writes them, with `extensions`.
///
/// There are none in version 1, and none for a [`Header::Local`], whose receiver
/// discards them. What would make the header longer than [`MAX_V2`] is left out,
/// each extension as a whole, those to pass on first.
pub fn encode_with(version: Version, header: &Header, extensions: &Extensions<'_>) -> Encoded {
    let plain = encode(version, header);
    if version == Version::V1 || *header == Header::Local {
        return Encoded::Plain(plain);
    }
    let mut out = Vec::new();
    let inbound = |kind| extensions.pass.find(kind).is_some();
    let authority = extensions.authority.filter(|_| !inbound(AUTHORITY));
    let unique_id = extensions
        .unique_id
        .filter(|id| id.len() <= MAX_UNIQUE_ID && !inbound(UNIQUE_ID));
    let checksum = if extensions.crc32c { CHECKSUM } else { 0 };
    let room = MAX_V2 - plain.as_bytes().len() - checksum;
    if let Some(id) = unique_id {
        push(&mut out, room, UNIQUE_ID, id);
    }
    if let Some(name) = authority {
        push(&mut out, room, AUTHORITY, name.as_bytes());
    }
    if let Some(alpn) = extensions.alpn {
        push(&mut out, room, ALPN, alpn);
    }
    if let Some(ssl) = extensions.ssl {
        push(&mut out, room, SSL, &ssl.encode());
    }
    // Of TLS knows best who has decrypted it.
    let ours = |kind| match kind {
        ALPN | SSL => extensions.ssl.is_some(),
        _ => matches!(kind, CRC32C | NOOP),
    };
    for (kind, value) in extensions.pass.iter() {
        if !ours(kind) {
            push(&mut out, room, kind, value);
        }
    }
    if out.is_empty() && !extensions.crc32c {
        return Encoded::Plain(plain);
    }
    let header = plain.as_bytes();
    out.splice(..0, header.iter().copied());
    if extensions.crc32c {
        out.extend([CRC32C, 0, 4, 0, 0, 0, 0]);
    }
    Encoded::Extended(sealed(out, extensions.crc32c))
}

/// Appends one extension, if there is room.
fn push(out: &mut Vec<u8>, room: usize, kind: u8, value: &[u8]) {
    let fits = out.len() + TLV_HEADER + value.len() <= room;
    if let Ok(length) = u16::try_from(value.len())
        && fits
    {
        out.push(kind);
        out.extend(length.to_be_bytes());
        out.extend(value);
    }
}

/// Fills in the length, and the checksum at the end (section 2.2.3: computed with
/// the checksum itself as zeros).
fn sealed(mut header: Vec<u8>, crc32c_at_end: bool) -> Vec<u8> {
    let length = u16::try_from(header.len() - FIXED).unwrap_or(u16::MAX);
    if let Some((_, stated)) = header
        .get_mut(..FIXED)
        .and_then(|f| f.split_last_chunk_mut())
    {
        *stated = length.to_be_bytes();
    }
    let crc = !crc32c(!0, &header);
    if let Some(stated) = header.last_chunk_mut().filter(|_| crc32c_at_end) {
        *stated = crc.to_be_bytes();
    }
    header
}
