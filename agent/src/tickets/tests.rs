//! Tickets, sealed and opened: by whom, for how long, and what is refused.

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;

const LIFETIME: Duration = Duration::from_mins(10);

fn key(id: u64, stage: Stage) -> TicketKey {
    TicketKey {
        id,
        key: Zeroizing::new([u8::try_from(id).unwrap(); 32]),
        stage,
        encrypts_for: match stage {
            Stage::Encrypting => LIFETIME,
            _ => Duration::ZERO,
        },
        opens_for: 2 * LIFETIME,
    }
}

fn set(keys: Vec<TicketKey>) -> TicketKeys {
    TicketKeys {
        number: 1,
        lifetime: LIFETIME,
        listeners: vec![("game".parse().unwrap(), keys)],
    }
}

fn ticketer(keys: Vec<TicketKey>) -> Arc<Ticketer> {
    let tickets = Tickets::default();
    tickets.replace(set(keys));
    tickets.of(&"game".parse().unwrap())
}

#[test]
fn a_ticket_of_one_terminator_is_opened_by_another_across_a_rotation() {
    let before = ticketer(vec![key(1, Stage::Encrypting), key(2, Stage::Next)]);
    let after = ticketer(vec![key(1, Stage::Previous), key(2, Stage::Encrypting)]);
    let old = before.encrypt(b"session").unwrap();
    let new = after.encrypt(b"session").unwrap();
    assert_eq!(old[..8], 1_u64.to_be_bytes());
    assert_eq!(new[..8], 2_u64.to_be_bytes());
    for ticketer in [&before, &after] {
        for ticket in [&old, &new] {
            assert_eq!(ticketer.decrypt(ticket).as_deref(), Some(&b"session"[..]));
        }
    }
    let accepted: Vec<_> = after
        .counts
        .accepted()
        .map(|(s, n)| (s.as_str(), n))
        .collect();
    assert_eq!(accepted, [("previous", 1), ("encrypting", 1), ("next", 0)]);
    assert_eq!(after.counts.issued.load(Ordering::Relaxed), 1);
}

#[test]
fn what_does_not_open_is_refused_by_reason() {
    let ticketer = ticketer(vec![key(1, Stage::Encrypting)]);
    let good = ticketer.encrypt(b"session").unwrap();
    let now = SystemTime::now();
    let refused = |ticket: &[u8], at| ticketer.open(ticket, at).err();
    assert_eq!(refused(&good, now), None);
    let mut other_key = good.clone();
    other_key[7] = 9;
    assert_eq!(refused(&other_key, now), Some(Refused::UnknownKey));
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&forged, now), Some(Refused::NotAuthentic));
    assert_eq!(refused(&good[..19], now), Some(Refused::Malformed));
    assert_eq!(refused(&[0; 9000], now), Some(Refused::Malformed));
    let second = Duration::from_secs(1);
    assert_eq!(refused(&good, now + LIFETIME - second), None);
    assert_eq!(
        refused(&good, now + LIFETIME + 2 * second),
        Some(Refused::TooOld)
    );
    // Clocks of two machines differ a little; years are no such difference.
    assert_eq!(refused(&good, now - Duration::from_mins(4)), None);
    assert_eq!(refused(&good, now - 2 * LIFETIME), Some(Refused::TooOld));
    for ticket in [&other_key, &forged] {
        assert_eq!(ticketer.decrypt(ticket), None);
    }
    let counts: Vec<_> = ticketer
        .counts
        .refused()
        .map(|(why, n)| (why.label(), n))
        .collect();
    assert_eq!(
        counts,
        [
            ("malformed", 0),
            ("unknown_key", 1),
            ("not_authentic", 1),
            ("too_old", 0)
        ]
    );
}

#[test]
fn a_key_whose_time_is_over_makes_no_ticket_then_opens_none_then_is_gone() {
    let mut idle = key(1, Stage::Encrypting);
    idle.encrypts_for = Duration::ZERO;
    let ticketer = ticketer(vec![idle]);
    assert_eq!(ticketer.encrypt(b"session"), None);
    assert!(ticketer.enabled(), "old tickets are opened");
    ticketer.forget_over(Instant::now() + LIFETIME);
    assert_eq!(ticketer.rows().len(), 1);
    ticketer.forget_over(Instant::now() + 3 * LIFETIME);
    assert_eq!(ticketer.rows().len(), 0);
    assert!(!ticketer.enabled());
}

#[test]
fn without_keys_there_are_no_tickets_and_a_new_set_reaches_who_serves_already() {
    let tickets = Tickets::default();
    let serving = tickets.of(&"game".parse().unwrap());
    assert!(!serving.enabled());
    assert_eq!(serving.encrypt(b"session"), None);
    tickets.replace(set(vec![key(1, Stage::Encrypting)]));
    let ticket = serving.encrypt(b"session").unwrap();
    assert_eq!(serving.lifetime(), 600);
    // A set without the listener takes its keys away.
    tickets.replace(TicketKeys {
        number: 2,
        lifetime: LIFETIME,
        listeners: Vec::new(),
    });
    assert!(!serving.enabled());
    assert_eq!(serving.decrypt(&ticket), None);
    tickets.replace(set(vec![key(1, Stage::Encrypting)]));
    assert!(serving.decrypt(&ticket).is_some());
    tickets.clear();
    assert_eq!(serving.decrypt(&ticket), None);
    drop(serving);
    tickets.replace(TicketKeys {
        number: 3,
        lifetime: LIFETIME,
        listeners: Vec::new(),
    });
    assert!(
        tickets.sorted().is_empty(),
        "what nobody serves is forgotten"
    );
}

#[test]
fn a_session_that_is_too_large_gets_no_ticket() {
    let ticketer = ticketer(vec![key(1, Stage::Encrypting)]);
    let large = vec![1; LARGEST_SESSION];
    let ticket = ticketer.encrypt(&large).unwrap();
    assert_eq!(ticketer.decrypt(&ticket), Some(large));
    assert_eq!(ticketer.encrypt(&[1; LARGEST_SESSION + 1]), None);
}

proptest! {
    /// Whatever a client sends as a ticket: nothing opens but what was sealed here.
    #[test]
    fn no_bytes_panic_or_open(mut ticket in proptest::collection::vec(any::<u8>(), 0..200), ours: bool) {
        if ours && ticket.len() > 8 {
            ticket[..8].copy_from_slice(&1_u64.to_be_bytes());
        }
        let ticketer = ticketer(vec![key(1, Stage::Encrypting)]);
        prop_assert_eq!(ticketer.decrypt(&ticket), None);
    }
}
