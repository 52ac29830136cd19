//! Session tickets (RFC 5077, RFC 8446 section 4.6.1): what rustls seals a session
//! with, so that a client resumes it here or on any instance with the same keys.
//!
//! Owns the keys, by listener, in memory only, and across changes of what runs.
//! Where they come from is `control`'s: the control plane of a fleet, or [`own`].
//! A ticket that does not open is no error: the client gets a full handshake.
//!
//! A ticket is `id of the key (8) | nonce (12) | sealed (time of issue (8) | session)
//! | tag (16)`: the id tells which key to try, so that opening costs one attempt
//! whatever comes. AES-256-GCM-SIV (RFC 8452) bears a nonce that comes twice, which
//! random ones of a busy fleet might.

pub(crate) mod own;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::server::ProducesTickets;
use serde::Serialize;
use tidegate_core::document::Name;
use tidegate_core::tickets::Stage;
use tidegate_proto::convert::{TicketKey, TicketKeys};
use tokio::time::{MissedTickBehavior, interval};

use crate::state::State;

/// The largest session: without a client's certificates it takes some hundred bytes.
const LARGEST_SESSION: usize = 8 << 10;
const ID: usize = 8;
const TIME: usize = 8;
const TAG: usize = 16;
/// What a ticket is longer than its session by.
const AROUND: usize = ID + NONCE_LEN + TIME + TAG;
/// Clocks of a fleet's machines differ.
const SKEW: u64 = 300;
/// Other tickets than these are not opened.
const PURPOSE: &[u8] = b"tidegate session ticket 1";
/// How often keys are looked at whose time may be over.
const EVERY: Duration = Duration::from_secs(1);

/// The keys of all listeners.
#[derive(Default)]
pub(crate) struct Tickets(Mutex<HashMap<Name, Arc<Ticketer>>>);

impl Tickets {
    /// Those of a listener, now and later: what runs may change around them.
    pub(crate) fn of(&self, listener: &Name) -> Arc<Ticketer> {
        let mut all = self.all();
        let ticketer = all.entry(listener.clone());
        Arc::clone(ticketer.or_insert_with(|| Arc::new(Ticketer::new(listener.clone()))))
    }

    /// These keys from now on, and no others.
    pub(crate) fn replace(&self, keys: TicketKeys) {
        let now = Instant::now();
        let lifetime = keys.lifetime;
        let mut rings: HashMap<Name, Ring> = keys
            .listeners
            .into_iter()
            .map(|(listener, keys)| (listener, Ring::new(keys, lifetime, now)))
            .collect();
        for listener in rings.keys() {
            // Before what needs them runs.
            drop(self.of(listener));
        }
        self.all().retain(|listener, ticketer| {
            let ring = rings.remove(listener);
            let wanted = ring.is_some();
            ticketer.ring.store(Arc::new(ring.unwrap_or_default()));
            wanted || Arc::strong_count(ticketer) > 1
        });
    }

    /// Forgets all keys: no ticket is made or opened.
    pub(crate) fn clear(&self) {
        for ticketer in self.all().values() {
            ticketer.ring.store(Arc::default());
        }
    }

    /// Every listener's, by name.
    pub(crate) fn sorted(&self) -> Vec<Arc<Ticketer>> {
        let mut all: Vec<_> = self.all().values().cloned().collect();
        all.sort_by(|a, b| a.listener.cmp(&b.listener));
        all
    }

    fn forget_over(&self, now: Instant) {
        for ticketer in self.all().values() {
            ticketer.forget_over(now);
        }
    }

    /// What the lock guards is whole after each single operation, so a panic
    /// elsewhere while it was held harms nobody.
    fn all(&self) -> MutexGuard<'_, HashMap<Name, Arc<Ticketer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets keys whose time is over, also while nobody connects and nobody says so;
/// without an end.
pub(crate) async fn forget(state: Arc<State>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        state.tickets().forget_over(Instant::now());
    }
}

/// The tickets of one listener.
pub(crate) struct Ticketer {
    pub(crate) listener: Name,
    ring: ArcSwap<Ring>,
    pub(crate) counts: Counts,
}

/// What became of tickets since the agent started.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) issued: AtomicU64,
    /// By what the key does: see [`Stage::ALL`].
    accepted: [AtomicU64; Stage::ALL.len()],
    refused: [AtomicU64; Refused::ALL.len()],
}

/// Why a ticket was not opened; the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Too short or too long to be ours.
    Malformed,
    /// Made with a key that is not here: retired, or never.
    UnknownKey,
    /// Damaged or forged.
    NotAuthentic,
    /// Its lifetime is over.
    TooOld,
}

impl Refused {
    pub(crate) const ALL: [Self; 4] = [
        Self::Malformed,
        Self::UnknownKey,
        Self::NotAuthentic,
        Self::TooOld,
    ];

    /// As metrics say it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::NotAuthentic => "not_authentic",
            Self::TooOld => "too_old",
        }
    }
}

impl Counts {
    /// Tickets opened, by what their key does.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = (Stage, u64)> {
        let counts = self.accepted.iter().map(|c| c.load(Ordering::Relaxed));
        Stage::ALL.into_iter().zip(counts)
    }

    /// Tickets not opened, by why.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (Refused, u64)> {
        let counts = self.refused.iter().map(|c| c.load(Ordering::Relaxed));
        Refused::ALL.into_iter().zip(counts)
    }
}

/// A key as the debug page shows it.
#[derive(Serialize)]
pub(crate) struct KeyRow {
    id: String,
    stage: &'static str,
    encrypts_for_s: u64,
    opens_for_s: u64,
}

impl Ticketer {
    fn new(listener: Name) -> Self {
        Self {
            listener,
            ring: ArcSwap::default(),
            counts: Counts::default(),
        }
    }

    /// Which keys there are, oldest first; never what they are.
    pub(crate) fn rows(&self) -> Vec<KeyRow> {
        let now = Instant::now();
        let left = |until: Instant| until.saturating_duration_since(now).as_secs();
        let ring = self.ring.load();
        let rows = ring.keys.iter().map(|key| KeyRow {
            id: format!("{:016x}", key.id),
            stage: key.stage.as_str(),
            encrypts_for_s: left(key.encrypts_until),
            opens_for_s: left(key.opens_until),
        });
        rows.collect()
    }

    fn forget_over(&self, now: Instant) {
        if self
            .ring
            .load()
            .keys
            .iter()
            .all(|key| key.opens_until > now)
        {
            return;
        }
        // A new set may come meanwhile: it is looked at, not written over.
        self.ring.rcu(|ring| {
            let keys = ring.keys.iter().filter(|key| key.opens_until > now);
            Ring {
                keys: keys.cloned().collect(),
                lifetime: ring.lifetime,
            }
        });
    }

    fn seal(&self, session: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let ring = self.ring.load();
        let key = ring.encrypting(Instant::now())?;
        if session.len() > LARGEST_SESSION {
            return None;
        }
        let mut text = Vec::with_capacity(TIME + session.len() + TAG);
        text.extend_from_slice(&seconds(now).to_be_bytes());
        text.extend_from_slice(session);
        let sealed = key
            .secret
            .seal_in_place_append_tag(Aad::from(PURPOSE), &mut text);
        let nonce = sealed.ok()?;
        let mut ticket = Vec::with_capacity(ID + NONCE_LEN + text.len());
        ticket.extend_from_slice(&key.id.to_be_bytes());
        ticket.extend_from_slice(nonce.as_ref());
        ticket.append(&mut text);
        self.counts.issued.fetch_add(1, Ordering::Relaxed);
        Some(ticket)
    }

    fn open(&self, ticket: &[u8], now: SystemTime) -> Result<(Stage, Vec<u8>), Refused> {
        if ticket.len() > LARGEST_SESSION + AROUND {
            return Err(Refused::Malformed);
        }
        let (id, rest) = ticket.split_first_chunk().ok_or(Refused::Malformed)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or(Refused::Malformed)?;
        let ring = self.ring.load();
        let key = ring.opening(u64::from_be_bytes(*id), Instant::now());
        let key = key.ok_or(Refused::UnknownKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Refused::Malformed)?;
        let mut text = sealed.to_vec();
        let opened = key
            .secret
            .open_in_place(nonce, Aad::from(PURPOSE), &mut text);
        let opened = opened.map_err(|_| Refused::NotAuthentic)?;
        let (issued, session) = opened.split_first_chunk().ok_or(Refused::Malformed)?;
        let (issued, now) = (u64::from_be_bytes(*issued), seconds(now));
        let too_old = now.saturating_sub(issued) > ring.lifetime.as_secs();
        if too_old || issued > now.saturating_add(SKEW) {
            return Err(Refused::TooOld);
        }
        Ok((key.stage, session.to_vec()))
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticketer({})", self.listener)
    }
}

impl ProducesTickets for Ticketer {
    /// Also without a key that makes tickets, as long as one opens them.
    fn enabled(&self) -> bool {
        let now = Instant::now();
        self.ring
            .load()
            .keys
            .iter()
            .any(|key| key.opens_until > now)
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.ring.load().lifetime.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, SystemTime::now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let Counts {
            accepted, refused, ..
        } = &self.counts;
        let count = |counter: Option<&AtomicU64>| {
            counter.map(|counter| counter.fetch_add(1, Ordering::Relaxed));
        };
        match self.open(cipher, SystemTime::now()) {
            Ok((stage, session)) => {
                count(accepted.get(stage as usize));
                Some(session)
            }
            Err(why) => {
                count(refused.get(why as usize));
                None
            }
        }
    }
}

/// The keys of a listener at one moment, oldest first.
#[derive(Default)]
struct Ring {
    keys: Vec<Key>,
    lifetime: Duration,
}

/// A key. aws-lc wipes what it frees, so its bytes go with the last that holds it.
#[derive(Clone)]
struct Key {
    id: u64,
    secret: Arc<RandomizedNonceKey>,
    stage: Stage,
    encrypts_until: Instant,
    opens_until: Instant,
}

impl Ring {
    fn new(keys: Vec<TicketKey>, lifetime: Duration, now: Instant) -> Self {
        // A time that no clock of ours reaches is over.
        let until = |time| now.checked_add(time).unwrap_or(now);
        let keys = keys.into_iter().filter_map(|key| {
            let secret = RandomizedNonceKey::new(&AES_256_GCM_SIV, key.key.as_slice());
            Some(Key {
                id: key.id,
                secret: Arc::new(secret.ok()?),
                stage: key.stage,
                encrypts_until: until(key.encrypts_for),
                opens_until: until(key.opens_for),
            })
        });
        Self {
            keys: keys.collect(),
            lifetime,
        }
    }

    fn encrypting(&self, now: Instant) -> Option<&Key> {
        let may = |key: &&Key| key.encrypts_until > now && key.opens_until > now;
        self.keys.iter().find(may)
    }

    fn opening(&self, id: u64, now: Instant) -> Option<&Key> {
        let is = |key: &&Key| key.id == id && key.opens_until > now;
        self.keys.iter().find(is)
    }
}

#[cfg(test)]
mod tests;
