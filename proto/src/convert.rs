//! Wire to core and back. What comes out of here is whole: every number in
//! range, every length right; a message that is not is a [`BadMessage`] and
//! ends the stream it came on.

use std::time::Duration;

use tidegate_core::addr::ClientKey;
use tidegate_core::document::{BackendName, Mistake, Name};
use tidegate_core::snapshot::Fingerprint;
use tidegate_core::tickets::{MOST_EPOCHS, Stage};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use crate::{MAX_SNAPSHOT_BYTES, v1};

/// Snapshots below this are not worth compressing.
const COMPRESS_FROM: usize = 512;
/// zstd's own default: snapshots are compressed once and sent to many.
const COMPRESSION_LEVEL: i32 = 3;

/// A message that a peer of this version does not send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// A field is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field is there and cannot be right.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// A snapshot larger than anybody may send.
    #[error("a snapshot of {0} bytes is more than {MAX_SNAPSHOT_BYTES}")]
    TooLarge(u64),
    /// The payload has another hash than the message says.
    #[error("the snapshot's bytes do not have its hash")]
    Hash,
}

/// Which state, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The database's incarnation.
    pub epoch: Uuid,
    /// Number of the commit.
    pub change: u64,
    /// Number of the document.
    pub revision: u64,
    /// Hash of the content.
    pub hash: Fingerprint,
}

impl From<Version> for v1::Version {
    fn from(version: Version) -> Self {
        Self {
            epoch: version.epoch.to_string(),
            change: version.change,
            revision: version.revision,
            hash: version.hash.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<v1::Version> for Version {
    type Error = BadMessage;

    fn try_from(wire: v1::Version) -> Result<Self, BadMessage> {
        Ok(Self {
            epoch: uuid(&wire.epoch, "version.epoch")?,
            change: wire.change,
            revision: wire.revision,
            hash: fingerprint(&wire.hash)?,
        })
    }
}

/// A UUID field.
///
/// # Errors
/// When it is not one.
pub fn uuid(text: &str, field: &'static str) -> Result<Uuid, BadMessage> {
    Uuid::try_parse(text).map_err(|_| BadMessage::Malformed(field))
}

/// A SHA-256 field.
///
/// # Errors
/// When it is not 32 bytes.
pub fn fingerprint(bytes: &[u8]) -> Result<Fingerprint, BadMessage> {
    let bytes: [u8; 32] = bytes
        .try_into()
        .map_err(|_| BadMessage::Malformed("fingerprint"))?;
    Ok(bytes.into())
}

/// A client field.
///
/// # Errors
/// When it is neither IPv4 nor an IPv6 network.
pub fn client(bytes: &[u8]) -> Result<ClientKey, BadMessage> {
    ClientKey::from_bytes(bytes).ok_or(BadMessage::Malformed("client"))
}

impl From<Mistake> for v1::Mistake {
    fn from(mistake: Mistake) -> Self {
        Self {
            pointer: mistake.pointer,
            message: mistake.message,
        }
    }
}

impl From<v1::Mistake> for Mistake {
    fn from(wire: v1::Mistake) -> Self {
        Self::new(wire.pointer, wire.message)
    }
}

/// Whose connections are to be cut: a backend, by its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutBackend {
    /// Its pool.
    pub pool: Name,
    /// Its name there.
    pub backend: BackendName,
}

impl From<CutBackend> for v1::CutBackend {
    fn from(cut: CutBackend) -> Self {
        Self {
            pool: cut.pool.to_string(),
            backend: cut.backend.to_string(),
        }
    }
}

impl TryFrom<v1::CutBackend> for CutBackend {
    type Error = BadMessage;

    fn try_from(wire: v1::CutBackend) -> Result<Self, BadMessage> {
        let backend = wire.backend.parse();
        Ok(Self {
            pool: wire
                .pool
                .parse()
                .map_err(|_| BadMessage::Malformed("pool"))?,
            backend: backend.map_err(|_| BadMessage::Malformed("backend"))?,
        })
    }
}

/// The ticket keys of an agent, read.
pub struct TicketKeys {
    /// Names the set, for its acknowledgement.
    pub number: u64,
    /// Of a ticket.
    pub lifetime: Duration,
    /// Oldest key first.
    pub listeners: Vec<(Name, Vec<TicketKey>)>,
}

/// One key, and how long it serves from when it was sent. No `Debug`: it is secret.
pub struct TicketKey {
    /// In the head of its tickets.
    pub id: u64,
    /// Its bytes.
    pub key: Zeroizing<[u8; 32]>,
    /// What it does.
    pub stage: Stage,
    /// How long tickets are made with it; zero unless it encrypts.
    pub encrypts_for: Duration,
    /// How long it opens them.
    pub opens_for: Duration,
}

impl TryFrom<v1::TicketKeys> for TicketKeys {
    type Error = BadMessage;

    fn try_from(wire: v1::TicketKeys) -> Result<Self, BadMessage> {
        let listeners = wire.listeners.into_iter().map(|listener| {
            let name = listener.listener.parse();
            let name = name.map_err(|_| BadMessage::Malformed("listener"))?;
            Ok((name, ticket_keys(listener.keys)?))
        });
        Ok(Self {
            number: wire.number,
            lifetime: Duration::from_secs(wire.lifetime_seconds.into()),
            listeners: listeners.collect::<Result<_, _>>()?,
        })
    }
}

/// The keys of one listener. Their order says what those do that make no tickets.
fn ticket_keys(wire: Vec<v1::TicketKey>) -> Result<Vec<TicketKey>, BadMessage> {
    let encrypting = wire.iter().filter(|key| key.encrypts).count();
    if wire.len() > MOST_EPOCHS || encrypting > 1 {
        return Err(BadMessage::Malformed("ticket_keys"));
    }
    let mut before = encrypting > 0;
    let keys = wire.into_iter().map(|mut wire| {
        let stage = match (wire.encrypts, before) {
            (true, _) => Stage::Encrypting,
            (false, true) => Stage::Previous,
            (false, false) => Stage::Next,
        };
        before &= !wire.encrypts;
        let bytes: Result<[u8; 32], _> = wire.key.as_slice().try_into();
        wire.key.zeroize();
        Ok(TicketKey {
            id: wire.id,
            key: Zeroizing::new(bytes.map_err(|_| BadMessage::Malformed("ticket_key"))?),
            stage,
            encrypts_for: match stage {
                Stage::Encrypting => Duration::from_millis(wire.encrypts_for_ms),
                Stage::Next | Stage::Previous => Duration::ZERO,
            },
            opens_for: Duration::from_millis(wire.opens_for_ms),
        })
    });
    keys.collect()
}

/// A snapshot's canonical bytes as they are sent: encoded once, shared by all
/// agents that get them.
#[derive(Clone, Debug)]
pub struct Encoded {
    encoding: v1::snapshot::Encoding,
    payload: prost::bytes::Bytes,
    plain_length: u64,
}

impl Encoded {
    /// Compresses what gets smaller by it.
    pub fn new(plain: Vec<u8>) -> Self {
        let plain_length = plain.len() as u64;
        if plain.len() >= COMPRESS_FROM
            && let Ok(small) = zstd::bulk::compress(&plain, COMPRESSION_LEVEL)
            && small.len() < plain.len()
        {
            return Self {
                encoding: v1::snapshot::Encoding::Zstd,
                payload: small.into(),
                plain_length,
            };
        }
        Self {
            encoding: v1::snapshot::Encoding::Plain,
            payload: plain.into(),
            plain_length,
        }
    }

    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        self.payload.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// The message for one agent.
    pub fn message(&self, version: Version) -> v1::Snapshot {
        v1::Snapshot {
            version: Some(version.into()),
            encoding: self.encoding.into(),
            payload: self.payload.clone(),
            plain_length: self.plain_length,
        }
    }
}

/// The canonical bytes of a snapshot message, with the hash it claims.
///
/// # Errors
/// When it is larger than anybody may send, or not what its hash says.
pub fn snapshot(wire: v1::Snapshot) -> Result<(Version, Vec<u8>), BadMessage> {
    let version = wire.version.clone().ok_or(BadMessage::Missing("version"))?;
    let version = Version::try_from(version)?;
    let length = usize::try_from(wire.plain_length)
        .ok()
        .filter(|length| *length <= MAX_SNAPSHOT_BYTES)
        .ok_or(BadMessage::TooLarge(wire.plain_length))?;
    let plain = match wire.encoding() {
        v1::snapshot::Encoding::Plain => wire.payload.to_vec(),
        v1::snapshot::Encoding::Zstd => zstd::bulk::decompress(&wire.payload, length)
            .map_err(|_| BadMessage::Malformed("payload"))?,
        v1::snapshot::Encoding::Unspecified => return Err(BadMessage::Malformed("encoding")),
    };
    if plain.len() != length {
        return Err(BadMessage::Malformed("plain_length"));
    }
    if Fingerprint::of(&plain) != version.hash {
        return Err(BadMessage::Hash);
    }
    Ok((version, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(plain: &[u8]) -> Version {
        Version {
            epoch: Uuid::nil(),
            change: 3,
            revision: 2,
            hash: Fingerprint::of(plain),
        }
    }

    #[test]
    fn a_snapshot_survives_the_wire_and_is_compressed_when_that_helps() {
        for plain in [b"{}".to_vec(), vec![b'x'; 100_000]] {
            let encoded = Encoded::new(plain.clone());
            assert!(encoded.len() <= plain.len());
            let (read, bytes) = snapshot(encoded.message(version(&plain))).unwrap();
            assert_eq!((read, bytes), (version(&plain), plain));
        }
    }

    #[test]
    fn a_backend_survives_the_wire_and_what_cannot_name_one_is_refused() {
        let cut = CutBackend {
            pool: "node".parse().unwrap(),
            backend: "127.0.0.1:3000".parse().unwrap(),
        };
        let wire = v1::CutBackend::from(cut.clone());
        assert_eq!(CutBackend::try_from(wire.clone()), Ok(cut));
        for (pool, backend, field) in [("No", ":1", "pool"), ("node", "", "backend")] {
            let wire = v1::CutBackend {
                pool: pool.to_owned(),
                backend: backend.to_owned(),
            };
            let refused = CutBackend::try_from(wire);
            assert_eq!(refused, Err(BadMessage::Malformed(field)));
        }
    }

    fn ticket_keys_of(keys: Vec<v1::TicketKey>) -> Result<TicketKeys, BadMessage> {
        let listeners = vec![v1::ListenerTicketKeys {
            listener: "game".to_owned(),
            keys,
        }];
        TicketKeys::try_from(v1::TicketKeys {
            number: 7,
            listeners,
            lifetime_seconds: 60,
        })
    }

    fn ticket_key(id: u64, encrypts: bool) -> v1::TicketKey {
        v1::TicketKey {
            id,
            key: vec![1; 32],
            encrypts,
            encrypts_for_ms: 5,
            opens_for_ms: 9,
        }
    }

    #[test]
    fn the_order_of_ticket_keys_says_what_they_do() {
        let keys = [(1, false), (2, true), (3, false)].map(|(id, e)| ticket_key(id, e));
        let read = ticket_keys_of(keys.into()).ok().unwrap();
        assert_eq!((read.number, read.lifetime), (7, Duration::from_mins(1)));
        let ms = Duration::from_millis;
        let stages = read.listeners[0].1.iter();
        let stages = stages.map(|key| (key.id, key.stage, key.encrypts_for, key.opens_for));
        assert_eq!(
            stages.collect::<Vec<_>>(),
            [
                (1, Stage::Previous, ms(0), ms(9)),
                (2, Stage::Encrypting, ms(5), ms(9)),
                (3, Stage::Next, ms(0), ms(9)),
            ]
        );
        let first = ticket_keys_of(vec![ticket_key(1, false)]).ok().unwrap();
        assert_eq!(first.listeners[0].1[0].stage, Stage::Next);
    }

    #[test]
    fn ticket_keys_that_cannot_be_are_refused() {
        let two = vec![ticket_key(1, true), ticket_key(2, true)];
        assert!(ticket_keys_of(two).is_err(), "two that encrypt");
        let many = (0..17).map(|id| ticket_key(id, false));
        assert!(ticket_keys_of(many.collect()).is_err());
        for length in [0, 31, 33] {
            let mut short = ticket_key(1, true);
            short.key = vec![1; length];
            assert!(ticket_keys_of(vec![short]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_snapshot_that_lies_is_refused() {
        let plain = vec![b'x'; 1000];
        let good = Encoded::new(plain.clone()).message(version(&plain));
        let mut longer = good.clone();
        longer.plain_length = 1001;
        assert!(snapshot(longer).is_err());
        // Zip bombs end at the length that was announced, which has a bound.
        let mut bomb = good.clone();
        bomb.plain_length = MAX_SNAPSHOT_BYTES as u64 + 1;
        assert_eq!(
            snapshot(bomb).err(),
            Some(BadMessage::TooLarge(MAX_SNAPSHOT_BYTES as u64 + 1))
        );
        let mut other = good.clone();
        other.version = Some(version(b"else").into());
        assert_eq!(snapshot(other).err(), Some(BadMessage::Hash));
        let mut nameless = good;
        nameless.version = None;
        assert_eq!(
            snapshot(nameless).err(),
            Some(BadMessage::Missing("version"))
        );
    }
}
