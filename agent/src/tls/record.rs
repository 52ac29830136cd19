//! Records of an established session, from bytes to bytes: RFC 8446 section 5.2,
//! RFC 5246 section 6.2.3.3, RFC 5288 and RFC 7905. Owns the form of a record, its
//! nonce and its tag; what the content means is `session`'s.
//!
//! A record is sealed from where the bytes are to where they leave from, and opened
//! the same way: nothing is copied on the way, and nothing allocated.

use std::ops::Range;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::{AlertDescription, ConnectionTrafficSecrets, ProtocolVersion};

/// The most bytes of content (RFC 8446 section 5.1).
pub(super) const MOST_CONTENT: usize = 1 << 14;
/// The most bytes a record adds: header, explicit nonce or inner type, tag.
pub(super) const MOST_ADDED: usize = HEADER + EXPLICIT + TAG;
/// The most bytes of a record that anybody may send: RFC 8446 section 5.2 allows 256 for
/// what encryption adds, and no suite of TLS 1.2 that there is here adds more.
pub(super) const MOST_BYTES: usize = HEADER + MOST_CONTENT + 256;

const HEADER: usize = 5;
/// The part of a nonce that RFC 5288 sends with each record.
const EXPLICIT: usize = 8;
const TAG: usize = 16;
const NONCE: usize = 12;
/// `legacy_record_version`.
const VERSION: [u8; 2] = [3, 3];

/// What a record carries: ContentType (RFC 8446 section 5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Content(pub(super) u8);

impl Content {
    pub(super) const ALERT: Self = Self(21);
    pub(super) const HANDSHAKE: Self = Self(22);
    pub(super) const DATA: Self = Self(23);
}

/// How a record of a session is laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// The content's type is inside; the sequence number makes the nonce.
    Tls13,
    /// A part of the nonce goes before the content (AES-GCM).
    Explicit,
    /// TLS 1.2 with the nonce of TLS 1.3 (ChaCha20-Poly1305).
    Implicit,
}

impl Layout {
    /// Before the content, behind the header.
    fn before(self) -> usize {
        match self {
            Self::Explicit => EXPLICIT,
            Self::Tls13 | Self::Implicit => 0,
        }
    }

    /// Behind the content.
    fn after(self) -> usize {
        match self {
            Self::Tls13 => 1 + TAG,
            Self::Explicit | Self::Implicit => TAG,
        }
    }
}

/// One direction of a session: its key and how many records it has had.
pub(super) struct Half {
    key: LessSafeKey,
    iv: [u8; NONCE],
    sequence: u64,
    layout: Layout,
}

/// A record as it came, in its parts.
struct Parts<'a> {
    nonce: [u8; NONCE],
    aad: AdditionalData,
    /// Ciphertext and tag.
    body: &'a mut [u8],
}

/// What is authenticated beside the content: 5 bytes, or 13 in TLS 1.2.
struct AdditionalData {
    bytes: [u8; 13],
    from: usize,
}

impl AsRef<[u8]> for AdditionalData {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(self.from..).unwrap_or_default()
    }
}

/// How long the first record of `bytes` is, header included; `None` when too little of it
/// is there to say.
///
/// # Errors
/// The alert that answers one that is too long, or none.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, AlertDescription> {
    let &[_, major, _, high, low, ..] = bytes else {
        return Ok(None);
    };
    let length = HEADER + usize::from(u16::from_be_bytes([high, low]));
    match major {
        3 if length <= MOST_BYTES => Ok(Some(length)),
        3 => Err(AlertDescription::RecordOverflow),
        _ => Err(AlertDescription::UnexpectedMessage),
    }
}

impl Half {
    /// The direction as the handshake left it. `None` for a suite that there is not here.
    pub(super) fn new(
        version: ProtocolVersion,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Option<Self> {
        let (algorithm, key, iv): (&'static Algorithm, _, _) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return None,
        };
        let layout = match (version, algorithm == &CHACHA20_POLY1305) {
            (ProtocolVersion::TLSv1_3, _) => Layout::Tls13,
            (ProtocolVersion::TLSv1_2, true) => Layout::Implicit,
            (ProtocolVersion::TLSv1_2, false) => Layout::Explicit,
            _ => return None,
        };
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).ok()?),
            iv: iv.as_ref().try_into().ok()?,
            sequence,
            layout,
        })
    }

    /// How many bytes a record with so much content has.
    pub(super) fn sealed(&self, content: usize) -> usize {
        HEADER + self.layout.before() + content + self.layout.after()
    }

    /// Seals `content`, at most [`MOST_CONTENT`], into the beginning of `out`; answers how
    /// many bytes the record has. `None` when `out` is too short.
    pub(super) fn seal(&mut self, kind: Content, content: &[u8], out: &mut [u8]) -> Option<usize> {
        let length = self.sealed(content.len());
        let out = out.get_mut(..length)?;
        let nonce = self.nonce();
        let (header, rest) = out.split_at_mut_checked(HEADER)?;
        let (explicit, rest) = rest.split_at_mut_checked(self.layout.before())?;
        let (body, tail) = rest.split_at_mut_checked(content.len())?;
        let outer = match self.layout {
            Layout::Tls13 => Content::DATA,
            Layout::Explicit | Layout::Implicit => kind,
        };
        let inside = u16::try_from(length - HEADER).ok()?;
        let [high, low] = inside.to_be_bytes();
        header.copy_from_slice(&[outer.0, VERSION[0], VERSION[1], high, low]);
        if !explicit.is_empty() {
            explicit.copy_from_slice(nonce.get(NONCE - EXPLICIT..)?);
        }
        let inner_type = [kind.0];
        let extra = match self.layout {
            Layout::Tls13 => inner_type.as_slice(),
            Layout::Explicit | Layout::Implicit => &[],
        };
        let aad = self.aad(kind, content.len(), header);
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_out_of_place_scatter(nonce, Aad::from(aad), content, body, extra, tail)
            .ok()?;
        self.sequence += 1;
        Some(length)
    }

    /// Opens `record`, which is a whole one, into the beginning of `out` where it fits
    /// there, and in place otherwise; answers what it carries, and where.
    ///
    /// # Errors
    /// The alert that answers it.
    pub(super) fn open(
        &mut self,
        record: &mut [u8],
        out: &mut [u8],
    ) -> Result<(Content, Opened), AlertDescription> {
        let outer = record.first().map_or(Content(0), |&kind| Content(kind));
        let Parts { nonce, aad, body } = self.parts(outer, record)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let (aad, within) = (Aad::from(aad), body.len().saturating_sub(TAG));
        let (opened, place) = match out.get_mut(..within) {
            Some(out) => {
                let (cipher, tag) = body.split_at(within);
                let opened = self.key.open_separate_gather(nonce, aad, cipher, tag, out);
                (opened.map(|()| out), Place::Out)
            }
            None => (self.key.open_in_place(nonce, aad, body), Place::Record),
        };
        let opened = opened.map_err(|_| AlertDescription::BadRecordMac)?;
        self.sequence += 1;
        let (kind, length) = match self.layout {
            Layout::Tls13 => inner(opened).ok_or(AlertDescription::UnexpectedMessage)?,
            Layout::Explicit | Layout::Implicit => (outer, opened.len()),
        };
        if length > MOST_CONTENT || opened.len() > MOST_CONTENT + 1 {
            return Err(AlertDescription::RecordOverflow);
        }
        let from = match place {
            Place::Out => 0,
            Place::Record => HEADER + self.layout.before(),
        };
        let content = from..from + length;
        Ok((kind, Opened { place, content }))
    }

    fn parts<'a>(
        &self,
        outer: Content,
        record: &'a mut [u8],
    ) -> Result<Parts<'a>, AlertDescription> {
        let short = AlertDescription::DecodeError;
        if self.layout == Layout::Tls13 && outer != Content::DATA {
            // Not even a change_cipher_spec, once the handshake is over (section 5).
            return Err(AlertDescription::UnexpectedMessage);
        }
        let (header, rest) = record.split_at_mut_checked(HEADER).ok_or(short)?;
        let (explicit, body) = rest
            .split_at_mut_checked(self.layout.before())
            .ok_or(short)?;
        let content = body.len().checked_sub(TAG).ok_or(short)?;
        let mut nonce = self.nonce();
        if let Some(sent) = nonce.get_mut(NONCE - EXPLICIT..)
            && !explicit.is_empty()
        {
            sent.copy_from_slice(explicit);
        }
        let aad = self.aad(outer, content, header);
        Ok(Parts { nonce, aad, body })
    }

    /// RFC 8446 section 5.3. In AES-GCM of TLS 1.2, where any value that is never used
    /// twice will do, the same.
    fn nonce(&self) -> [u8; NONCE] {
        let mut nonce = self.iv;
        let sequence = self.sequence.to_be_bytes();
        for (byte, count) in nonce.iter_mut().rev().zip(sequence.iter().rev()) {
            *byte ^= count;
        }
        nonce
    }

    fn aad(&self, kind: Content, content: usize, header: &[u8]) -> AdditionalData {
        let mut bytes = [0; 13];
        let mut put = |from: usize, part: &[u8]| {
            for (to, byte) in bytes.iter_mut().skip(from).zip(part) {
                *to = *byte;
            }
        };
        if self.layout == Layout::Tls13 {
            put(8, header);
            return AdditionalData { bytes, from: 8 };
        }
        let content = u16::try_from(content).unwrap_or(u16::MAX).to_be_bytes();
        put(0, &self.sequence.to_be_bytes());
        put(8, &[kind.0, VERSION[0], VERSION[1], content[0], content[1]]);
        AdditionalData { bytes, from: 0 }
    }
}

/// Where a record was opened to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Where it was wanted.
    Out,
    /// Where it was.
    Record,
}

/// Where the content of a record is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Opened {
    pub(super) place: Place,
    /// In bytes of that place.
    pub(super) content: Range<usize>,
}

/// The type behind the content, and how long the content is: zeros may follow
/// (RFC 8446 section 5.4).
fn inner(plain: &[u8]) -> Option<(Content, usize)> {
    let end = plain.iter().rposition(|&byte| byte != 0)?;
    plain.get(end).map(|&kind| (Content(kind), end))
}
