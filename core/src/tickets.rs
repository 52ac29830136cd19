//! The keys of session tickets: when a listener gets a new one, when tickets are
//! made with it, and when it is dropped, so that a client resumes on any
//! terminator while keys rotate.
//!
//! Owns that schedule, one list of [`Epoch`]s a listener. Key bytes, who holds
//! which, and what a ticket looks like are its callers': the control plane for a
//! fleet, an agent by itself for one. Times are durations since 1970, by one
//! clock; what agents are told is how long a key still serves, so that their
//! clocks play no part.
//!
//! A key is first *next*: every terminator opens tickets with it, nobody makes
//! any. When every connected terminator holds it, or after [`Timing::patience`],
//! tickets are made with it (*encrypting*), and the one before is *previous*: it
//! opens what was made with it until the last such ticket has ended.

use std::time::Duration;

/// A terminator that holds no new key delays its use for so long at most.
const PATIENCE: Duration = Duration::from_mins(10);
/// RFC 8446 section 4.6.1: no ticket lives longer.
const LONGEST_LIFETIME: Duration = Duration::from_hours(7 * 24);
/// A ticket lives for so many rotations at most, which bounds how many keys are
/// needed at once.
const ROTATIONS_IN_LIFETIME: u32 = 8;
/// Keys of one listener at once, whatever clocks and operators do: those that a
/// lifetime needs, and some that operators may make out of turn.
pub const MOST_EPOCHS: usize = 16;

/// How long keys and tickets serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    rotation: Duration,
    lifetime: Duration,
}

/// Times that do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTiming {
    /// Shorter than people or machines can follow.
    #[error("ticket keys rotate once a second at most")]
    Rotation,
    /// Shorter than a key's use, or longer than TLS allows.
    #[error("tickets live for 1 s to 7 days (RFC 8446 section 4.6.1)")]
    Lifetime,
    /// More keys at once than a terminator is given.
    #[error("tickets live for {ROTATIONS_IN_LIFETIME} rotations of their keys at most")]
    Ratio,
}

impl Default for Timing {
    /// A new key every 12 hours, and tickets of 24 hours: who comes back the next
    /// day resumes, and a stolen key opens a day's tickets at most.
    fn default() -> Self {
        Self {
            rotation: Duration::from_hours(12),
            lifetime: Duration::from_hours(24),
        }
    }
}

impl Timing {
    /// A new key every `rotation`, tickets that live for `lifetime`.
    ///
    /// # Errors
    /// When they do not fit together.
    pub fn new(rotation: Duration, lifetime: Duration) -> Result<Self, BadTiming> {
        let second = Duration::from_secs(1);
        if rotation < second {
            return Err(BadTiming::Rotation);
        }
        if !(second..=LONGEST_LIFETIME).contains(&lifetime) {
            return Err(BadTiming::Lifetime);
        }
        if lifetime > rotation.saturating_mul(ROTATIONS_IN_LIFETIME) {
            return Err(BadTiming::Ratio);
        }
        Ok(Self { rotation, lifetime })
    }

    /// From one key to the next.
    pub fn rotation(&self) -> Duration {
        self.rotation
    }

    /// Of a ticket.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// How long a terminator that does not answer may delay a key's use: 10
    /// minutes, or a rotation where that is shorter, so that a key is always
    /// followed before its time is over.
    pub fn patience(&self) -> Duration {
        PATIENCE.min(self.rotation)
    }

    /// How long tickets are made with one key at most. Two rotations: a
    /// terminator whose control plane is away goes on with what it has for that
    /// long, and a key that nobody replaces does not serve for ever.
    fn encrypts_for(&self) -> Duration {
        self.rotation.saturating_mul(2)
    }
}

/// One key of a listener, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Names the key; stands in each ticket.
    pub id: u64,
    /// When it was made.
    pub made: Duration,
    /// Since when tickets are made with it.
    pub encrypting: Option<Duration>,
    /// Since when they are no more.
    pub replaced: Option<Duration>,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Opens what was made with it.
    Previous,
    /// Tickets are made with it.
    Encrypting,
    /// Opens tickets of terminators that are further already.
    Next,
}

impl Stage {
    /// All, oldest key first.
    pub const ALL: [Self; 3] = [Self::Previous, Self::Encrypting, Self::Next];

    /// As people read it: `previous`, `encrypting`, `next`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Previous => "previous",
            Self::Encrypting => "encrypting",
            Self::Next => "next",
        }
    }
}

impl Epoch {
    /// A key just made.
    pub fn new(id: u64, now: Duration) -> Self {
        Self {
            id,
            made: now,
            encrypting: None,
            replaced: None,
        }
    }

    /// What it does.
    pub fn stage(&self) -> Stage {
        match (self.encrypting, self.replaced) {
            (_, Some(_)) => Stage::Previous,
            (Some(_), None) => Stage::Encrypting,
            (None, None) => Stage::Next,
        }
    }

    /// How long tickets may still be made with it, by who hears nothing more.
    pub fn encrypts_for(&self, now: Duration, timing: &Timing) -> Duration {
        match (self.encrypting, self.stage()) {
            (Some(since), Stage::Encrypting) => left(since, timing.encrypts_for(), now),
            _ => Duration::ZERO,
        }
    }

    /// How long it has to open tickets yet: until the last one has ended that a
    /// terminator can have made with it, also one that was cut off meanwhile.
    pub fn opens_for(&self, now: Duration, timing: &Timing) -> Duration {
        let serves = timing.encrypts_for().saturating_add(timing.lifetime);
        match self.encrypting {
            Some(since) => left(since, serves, now),
            // Others may begin to use it without a word to who is cut off.
            None => left(self.made, timing.patience().saturating_add(serves), now),
        }
    }
}

/// What is left of `span` since `since`. A clock that was set back adds nothing.
fn left(since: Duration, span: Duration, now: Duration) -> Duration {
    span.saturating_sub(now.saturating_sub(since))
}

/// The next thing to do with a listener's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a key, of stage [`Stage::Next`].
    Make,
    /// Make tickets with this one from now on; the one before is replaced.
    Promote(u64),
    /// Delete it.
    Retire(u64),
}

/// What is to be done now, if anything; asked again after each [`Step`].
///
/// `is_held` says whether every connected terminator of the listener has
/// acknowledged the key of this id.
pub fn step(
    epochs: &[Epoch],
    is_held: impl Fn(u64) -> bool,
    now: Duration,
    timing: &Timing,
) -> Option<Step> {
    let of = |stage| epochs.iter().find(move |epoch| epoch.stage() == stage);
    if let Some(next) = of(Stage::Next)
        && (is_held(next.id) || has_passed(timing.patience(), next.made, now))
    {
        return Some(Step::Promote(next.id));
    }
    let previous = epochs.iter().filter(|e| e.stage() == Stage::Previous);
    let over = |epoch: &&Epoch| epoch.opens_for(now, timing).is_zero();
    let oldest = previous.clone().min_by_key(|epoch| epoch.encrypting);
    if let Some(epoch) = previous.clone().find(over) {
        return Some(Step::Retire(epoch.id));
    }
    if epochs.len() > MOST_EPOCHS
        && let Some(epoch) = oldest
    {
        return Some(Step::Retire(epoch.id));
    }
    let since = of(Stage::Encrypting).and_then(|epoch| epoch.encrypting);
    let due = since.is_none_or(|since| has_passed(timing.rotation, since, now));
    (due && of(Stage::Next).is_none()).then_some(Step::Make)
}

/// Carries a step out; `id` is that of the key that [`Step::Make`] makes.
pub fn take(epochs: &mut Vec<Epoch>, step: Step, id: u64, now: Duration) {
    match step {
        Step::Make => epochs.push(Epoch::new(id, now)),
        Step::Promote(id) => {
            for epoch in epochs {
                match epoch.stage() {
                    Stage::Encrypting => epoch.replaced = Some(now),
                    Stage::Next if epoch.id == id => epoch.encrypting = Some(now),
                    Stage::Next | Stage::Previous => {}
                }
            }
        }
        Step::Retire(id) => epochs.retain(|epoch| epoch.id != id),
    }
}

/// Whether `span` has passed since then. A clock that is set far back must not
/// hold a rotation for as long, so a distance of that size counts either way.
fn has_passed(span: Duration, since: Duration, now: Duration) -> bool {
    now.abs_diff(since) >= span
}

#[cfg(test)]
mod tests;
