//! A session after its handshake, from records to bytes and back: what a record means,
//! what is owed for it (an alert, a key update), and when keys are used up. Without a
//! socket: `stream` carries the bytes.
//!
//! rustls has shaken hands, and still makes the keys when they change (its interface for
//! kTLS, which leaves records to the kernel; here they are left to us, ADR 009).

use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{AlertDescription, ConnectionTrafficSecrets, ProtocolVersion};

use super::record::{Content, Half, MOST_CONTENT, Opened, Place};

/// Records without content in a row, requests for new keys, warnings and offers to shake
/// hands again: beyond these a peer only wants to keep us busy. As in OpenSSL
/// (`MAX_EMPTY_RECORDS`) and BoringSSL (`kMaxKeyUpdates`, `kMaxWarningAlerts`).
const MOST_EMPTY: u8 = 32;
const MOST_KEY_UPDATES: u8 = 32;
const MOST_WARNINGS: u8 = 4;
const MOST_RENEGOTIATIONS: u8 = 1;
/// What may be sealed with AES-GCM under one key, in bytes: 2^24.5 records of full size
/// (RFC 8446 section 5.5), and since the bound is one on blocks, as many bytes of smaller ones.
const MOST_UNDER_ONE_KEY: u64 = 1 << 38;
/// A record costs a block or two beside its content.
const RECORD_COST: u64 = 32;

const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
const NO_RENEGOTIATION: u8 = 100;
const WARNING: u8 = 1;
const FATAL: u8 = 2;
/// HandshakeType (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;
const KEY_UPDATE: u8 = 24;

/// An established session.
pub(super) struct Session {
    receives: Half,
    sends: Half,
    /// Makes the next keys; in TLS 1.3 only.
    keys: Option<KernelConnection<ServerConnectionData>>,
    /// Bytes that may still be sealed under the present key.
    left: u64,
    patience: Patience,
    /// The client has said that nothing follows.
    is_ended: bool,
}

/// How much more of what only costs.
struct Patience {
    empty: u8,
    key_updates: u8,
    warnings: u8,
    renegotiations: u8,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            empty: MOST_EMPTY,
            key_updates: MOST_KEY_UPDATES,
            warnings: MOST_WARNINGS,
            renegotiations: MOST_RENEGOTIATIONS,
        }
    }
}

/// Takes one of what there is a bound of.
fn spend(left: &mut u8) -> Result<(), AlertDescription> {
    *left = left
        .checked_sub(1)
        .ok_or(AlertDescription::UnexpectedMessage)?;
    Ok(())
}

/// What a record amounts to.
#[derive(Debug)]
pub(super) enum Received {
    /// Bytes, where they were opened to.
    Data(Opened),
    /// Nothing for whoever reads.
    Nothing,
    /// The client ends its direction.
    End,
}

/// Why a session ends before its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fatal {
    /// By what the client did; it is to be told ([`Session::alert`]).
    Ours(AlertDescription),
    /// By what it says of itself, or of us.
    Theirs(AlertDescription),
}

impl From<AlertDescription> for Fatal {
    fn from(alert: AlertDescription) -> Self {
        Self::Ours(alert)
    }
}

impl Session {
    /// Takes over when hands are shaken and nothing waits to be sent. `None` for what
    /// cannot be taken over: there is no such suite here. `is_ended` says that the client has
    /// ended its direction already.
    pub(super) fn new(shaken: UnbufferedServerConnection, is_ended: bool) -> Option<Self> {
        let version = shaken.protocol_version()?;
        let (secrets, keys) = shaken.dangerous_into_kernel_connection().ok()?;
        Some(Self {
            receives: Half::new(version, secrets.rx)?,
            left: limit(&secrets.tx.1),
            sends: Half::new(version, secrets.tx)?,
            keys: (version == ProtocolVersion::TLSv1_3).then_some(keys),
            patience: Patience::default(),
            is_ended,
        })
    }

    /// Whether the client has said that nothing follows.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Opens a whole record into `out` where it fits there. What is owed for it is added to
    /// `owed`.
    ///
    /// # Errors
    /// What ends the session.
    pub(super) fn receive(
        &mut self,
        record: &mut [u8],
        out: &mut [u8],
        owed: &mut Vec<u8>,
    ) -> Result<Received, Fatal> {
        let (kind, opened) = self.receives.open(record, out)?;
        let place = match opened.place {
            Place::Out => out,
            Place::Record => record,
        };
        let content = place.get(opened.content.clone()).unwrap_or_default();
        match kind {
            Content::DATA if content.is_empty() => {
                spend(&mut self.patience.empty)?;
                Ok(Received::Nothing)
            }
            Content::DATA => {
                self.patience.empty = MOST_EMPTY;
                self.patience.key_updates = MOST_KEY_UPDATES;
                Ok(Received::Data(opened))
            }
            Content::ALERT => self.hear_alert(content),
            Content::HANDSHAKE => {
                self.hear_handshake(content, owed)?;
                Ok(Received::Nothing)
            }
            _ => Err(AlertDescription::UnexpectedMessage.into()),
        }
    }

    fn hear_alert(&mut self, alert: &[u8]) -> Result<Received, Fatal> {
        let &[level, description] = alert else {
            return Err(AlertDescription::DecodeError.into());
        };
        let is_warning = self.keys.is_none() || description == USER_CANCELED;
        match (description, level) {
            (CLOSE_NOTIFY, _) => {
                self.is_ended = true;
                Ok(Received::End)
            }
            // Nothing but "user_canceled" is a warning in TLS 1.3 (section 6).
            (_, WARNING) if is_warning => {
                spend(&mut self.patience.warnings)?;
                Ok(Received::Nothing)
            }
            (_, FATAL) => Err(Fatal::Theirs(description.into())),
            _ => Err(AlertDescription::DecodeError.into()),
        }
    }

    fn hear_handshake(
        &mut self,
        message: &[u8],
        owed: &mut Vec<u8>,
    ) -> Result<(), AlertDescription> {
        match (message, &mut self.keys) {
            // Keys change with it, so it ends its record (section 5.1); and nobody cuts
            // five bytes in pieces.
            (&[KEY_UPDATE, 0, 0, 1, wants_ours @ (0 | 1)], Some(keys)) => {
                spend(&mut self.patience.key_updates)?;
                let fresh = keys.update_rx_secret();
                let fresh = fresh.map_err(|_| AlertDescription::InternalError)?;
                self.receives = Half::new(ProtocolVersion::TLSv1_3, fresh)
                    .ok_or(AlertDescription::InternalError)?;
                if wants_ours == 1 {
                    self.change_key(owed)
                        .ok_or(AlertDescription::InternalError)?;
                }
                Ok(())
            }
            // Renegotiation: refused, which need not be the end (RFC 5246 section 7.2.2).
            (&[CLIENT_HELLO, ..], None) => {
                spend(&mut self.patience.renegotiations)?;
                self.push(Content::ALERT, &[WARNING, NO_RENEGOTIATION], owed);
                Ok(())
            }
            _ => Err(AlertDescription::UnexpectedMessage),
        }
    }

    /// Seals as much of `bytes` as fits into `out` from `at` on; answers how much that is,
    /// and moves `at` behind it.
    ///
    /// # Errors
    /// The keys are used up, which TLS 1.2 has no answer to.
    pub(super) fn send(
        &mut self,
        bytes: &[u8],
        out: &mut [u8],
        at: &mut usize,
    ) -> Result<usize, UsedUp> {
        let mut taken = 0;
        for content in bytes.chunks(MOST_CONTENT) {
            self.renew(out, at)?;
            let room = out.get_mut(*at..).unwrap_or_default();
            let Some(count) = self.sends.seal(Content::DATA, content, room) else {
                break;
            };
            *at += count;
            taken += content.len();
            self.count(content.len());
        }
        Ok(taken)
    }

    /// Seals the end of our direction into `out` from `at` on, which needs room for it, and
    /// moves `at` behind it.
    pub(super) fn end(&mut self, out: &mut [u8], at: &mut usize) {
        let room = out.get_mut(*at..).unwrap_or_default();
        let alert = [WARNING, CLOSE_NOTIFY];
        *at += self.sends.seal(Content::ALERT, &alert, room).unwrap_or(0);
    }

    /// A fatal alert, sealed.
    pub(super) fn alert(&mut self, why: AlertDescription, owed: &mut Vec<u8>) {
        self.push(Content::ALERT, &[FATAL, u8::from(why)], owed);
    }

    /// A new key before this one has sealed too much.
    fn renew(&mut self, out: &mut [u8], at: &mut usize) -> Result<(), UsedUp> {
        if self.left > MOST_CONTENT as u64 + RECORD_COST {
            return Ok(());
        }
        let mut update = Vec::new();
        self.change_key(&mut update).ok_or(UsedUp)?;
        let end = *at + update.len();
        let room = out.get_mut(*at..end).ok_or(UsedUp)?;
        room.copy_from_slice(&update);
        *at = end;
        Ok(())
    }

    /// Says that the key changes, under the old one, and changes it.
    fn change_key(&mut self, owed: &mut Vec<u8>) -> Option<()> {
        const NOT_REQUESTED: u8 = 0;
        let message = [KEY_UPDATE, 0, 0, 1, NOT_REQUESTED];
        let keys = self.keys.as_mut()?;
        let fresh = keys.update_tx_secret().ok()?;
        self.push(Content::HANDSHAKE, &message, owed);
        self.left = limit(&fresh.1);
        self.sends = Half::new(ProtocolVersion::TLSv1_3, fresh)?;
        Some(())
    }

    fn push(&mut self, kind: Content, content: &[u8], owed: &mut Vec<u8>) {
        let from = owed.len();
        owed.resize(from + self.sends.sealed(content.len()), 0);
        let room = owed.get_mut(from..).unwrap_or_default();
        if self.sends.seal(kind, content, room).is_none() {
            owed.truncate(from);
        }
        self.count(content.len());
    }

    fn count(&mut self, content: usize) {
        self.left = self.left.saturating_sub(content as u64 + RECORD_COST);
    }
}

/// No more may be sealed under the last key there can be.
#[derive(Debug)]
pub(super) struct UsedUp;

fn limit(secrets: &ConnectionTrafficSecrets) -> u64 {
    match secrets {
        // There are no more records than it can seal (RFC 8446 section 5.5).
        ConnectionTrafficSecrets::Chacha20Poly1305 { .. } => u64::MAX,
        _ => MOST_UNDER_ONE_KEY,
    }
}

#[cfg(test)]
mod tests;
