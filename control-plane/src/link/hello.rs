//! How a session begins: in its turn, and with a Hello that can be read.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tidegate_core::addr::unmapped;
use tidegate_core::snapshot::Fingerprint;
use tidegate_proto::convert::{self, BadMessage, Version};
use tidegate_proto::{PROTOCOL_VERSION, feature, v1};
use tokio::time::{Instant, sleep_until};
use tonic::Status;
use uuid::Uuid;

/// Lets sessions begin at a bounded rate: a fleet that lost its control plane
/// comes back all at once.
pub(crate) struct Admission(Mutex<Instant>);

impl Admission {
    /// From one Hello to the next, on average.
    const PERIOD: Duration = Duration::from_millis(2);
    /// Hellos that need not wait after a quiet time.
    const BURST: u32 = 100;

    /// Nobody has come yet.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// How long anybody waits for a turn: who would have to wait longer is sent
    /// away, and takes none.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Waits for its turn.
    pub(super) async fn admit(&self) -> Result<(), Status> {
        let at = {
            let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let at = turn(*next, now);
            if at > now + Self::PATIENCE {
                return Err(Status::unavailable(
                    "too many agents come at once: try again",
                ));
            }
            *next = at + Self::PERIOD;
            at
        };
        sleep_until(at).await;
        Ok(())
    }
}

/// When the next one may begin (a virtual scheduling algorithm, ITU-T I.371).
fn turn(next: Instant, now: Instant) -> Instant {
    let earliest = now.checked_sub(Admission::PERIOD * Admission::BURST);
    next.max(earliest.unwrap_or(now))
}

/// A Hello, read.
pub(super) struct Hello {
    pub(super) boot: Uuid,
    pub(super) version: String,
    pub(super) address: IpAddr,
    pub(super) health_port: u16,
    pub(super) snapshot: Option<Version>,
    pub(super) secrets: Vec<Fingerprint>,
    /// Whether it can cut the connections to a backend.
    pub(super) cuts_backends: bool,
    /// Ticket keys, bans, challenges.
    pub(super) lanes: [u64; 3],
}

impl Hello {
    /// Reads one.
    ///
    /// # Errors
    /// What an agent of this version does not send.
    pub(super) fn read(wire: v1::Hello) -> Result<Self, BadMessage> {
        let malformed = BadMessage::Malformed;
        if wire.protocol_version != PROTOCOL_VERSION {
            return Err(malformed("protocol_version"));
        }
        let address: IpAddr = wire.address.parse().map_err(|_| malformed("address"))?;
        if address.is_unspecified() || address.is_multicast() {
            return Err(malformed("address"));
        }
        Ok(Self {
            boot: convert::uuid(&wire.boot_id, "boot_id")?,
            version: wire.version.chars().take(64).collect(),
            address: unmapped(SocketAddr::new(address, 0)).ip(),
            health_port: u16::try_from(wire.health_port).map_err(|_| malformed("health_port"))?,
            snapshot: wire.snapshot.map(Version::try_from).transpose()?,
            secrets: wire
                .secrets
                .iter()
                .map(|f| convert::fingerprint(f))
                .collect::<Result<_, _>>()?,
            cuts_backends: wire.features.iter().any(|f| f == feature::CUT_BACKEND),
            lanes: [wire.ticket_keys, wire.bans, wire.challenges],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_begin_in_a_burst_and_then_at_a_rate() {
        let now = Instant::now() + Duration::from_secs(60);
        let mut next = now - Duration::from_secs(30);
        let mut begin = || {
            let at = turn(next, now);
            next = at + Admission::PERIOD;
            at
        };
        for number in 0..Admission::BURST {
            assert!(begin() < now, "{number}");
        }
        assert_eq!(begin(), now);
        assert_eq!(begin(), now + Admission::PERIOD);
    }

    #[tokio::test]
    async fn who_would_wait_too_long_is_sent_away_and_takes_no_turn() {
        let far = Instant::now() + Admission::PATIENCE + Duration::from_secs(60);
        let admission = Admission(Mutex::new(far));
        for _ in 0..3 {
            let away = admission.admit().await.unwrap_err();
            assert_eq!(away.code(), tonic::Code::Unavailable);
        }
        assert_eq!(*admission.0.lock().unwrap(), far);
    }
}
