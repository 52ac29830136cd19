//! Balancing: which of a pool's backends gets the next connection.
//!
//! Owns the whole choice: who may be chosen, in which order backups and ejected
//! backends come, what happens when all are down or full, and the algorithms with
//! their memory, one [`Picker`] per pool and thread. Knows backends only as
//! indexes; what each one is at the moment is the agent's to say, in a [`View`].
//! Called once per connection and per retry. Follows HAProxy's TCP mode where
//! nothing else is said.
//!
//! # Who may be chosen
//!
//! Four things are known of a backend, and the first that says no is obeyed:
//!
//! 1. the operator's word (admin state, and a weight of 0),
//! 2. its active checks,
//! 3. what it says of itself (an agent check; it arrives here as weight or state),
//! 4. ejection for failed connects, which is a guess made from little.
//!
//! Only the last two bend: ejected backends are used when no other is up, and with
//! [`AllDown::FailOpen`] so are those that are down. Nothing overrides an operator.

mod load;
mod source;
mod turns;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use source::{Entry, SourceTable};

/// How a pool spreads connections over its backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// To the backend with the fewest connections for its weight. The default:
    /// WebSockets stay, so past connections say little about present load.
    #[default]
    LeastConnections,
    /// In turn, as often as the weight says.
    RoundRobin,
    /// To the less loaded of two that are drawn by weight.
    RandomTwo,
    /// The same client to the same backend, on every balancer.
    SourceHash,
}

/// When there are several backups, which of them serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backups {
    /// The first usable one, in the order of the document.
    #[default]
    First,
    /// All of them, balanced like the others.
    All,
}

/// What happens when no backend is up, backups apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllDown {
    /// Backups serve; without any, nobody does.
    #[default]
    Backup,
    /// Backups serve; without any, all backends do, up or not. For checks that
    /// are more likely to be wrong than all backends at once.
    FailOpen,
    /// Nobody serves. Backups are not used.
    Refuse,
}

/// A pool's algorithm, with what it needs.
#[derive(Clone, Debug)]
pub enum Method {
    /// [`Balance::LeastConnections`].
    LeastConnections,
    /// [`Balance::RoundRobin`].
    RoundRobin,
    /// [`Balance::RandomTwo`].
    RandomTwo,
    /// [`Balance::SourceHash`].
    SourceHash {
        /// Of this pool's backends, in the picker's order.
        table: Arc<SourceTable>,
        /// The most a backend may have, in percent of the weighted mean; whoever
        /// has it already is passed over. At least 100: less is taken as 100.
        bounded_load: Option<u16>,
    },
}

/// How a pool chooses.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Among those of one tier.
    pub method: Method,
    /// Which backups serve.
    pub backups: Backups,
    /// What happens when no primary is up.
    pub all_down: AllDown,
}

/// A backend at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Whether the operator lets it take new connections (state `ready`).
    pub open: bool,
    /// Whether its active checks pass.
    pub up: bool,
    /// Whether it is ejected for failed connects.
    pub ejected: bool,
    /// Its share relative to the others', in 1/256ths of a document's weight (see
    /// [`ramp`](crate::health::ramp)). 0 takes nothing new, even as the last one.
    pub weight: u32,
    /// Connections it has or is being given now, those queued for it included.
    pub in_flight: u32,
    /// The most connections it may have (`max_connections`).
    pub limit: Option<u32>,
    /// Whether it is a backup.
    pub backup: bool,
}

/// What a choice depends on besides the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Of the client, by [`HashKey::client`](crate::keyed::HashKey::client).
    pub hash: u64,
    /// Random, new for each choice.
    pub draw: u64,
}

/// Who gets the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The backend of this index.
    Backend {
        /// Below the number of backends, and not one that was tried.
        index: usize,
        /// Among whom it was chosen.
        tier: Tier,
    },
    /// All that may serve have as many connections as they may: wait for one.
    Full {
        /// Among whom it will be chosen.
        tier: Tier,
    },
    /// Nobody may serve, or all who may were tried.
    Nobody,
}

/// From which backends the choice is made. A pool that changes it is an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// The normal ones.
    Primary,
    /// Backups: no primary can be used.
    Backup,
    /// All, up or not: nobody is up ([`AllDown::FailOpen`]).
    FailOpen,
}

/// The choice, with what it must remember between two of them.
#[derive(Clone, Debug)]
pub struct Picker {
    rules: Rules,
    /// Where the next scan begins: after the last choice, so that equals take turns.
    next: usize,
    /// Round robin only; one per backend.
    turns: Vec<turns::Turn>,
    /// Of the choice being made; kept for its memory.
    candidates: Vec<Candidate>,
}

/// A backend that some tier may choose.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    index: usize,
    rank: Rank,
    has_room: bool,
    load: Load,
}

/// What is compared: share, and connections.
#[derive(Clone, Copy, Debug)]
struct Load {
    weight: u32,
    in_flight: u32,
}

/// Who comes first; the lowest that anyone untried has is served, and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Primary,
    Backup,
    /// Before backups when *every* primary that is up is ejected: then the guess
    /// is more likely wrong than all of them are bad.
    EjectedPrimary,
    EjectedBackup,
    Down,
}

impl Rank {
    fn tier(self) -> Tier {
        match self {
            Self::Primary | Self::EjectedPrimary => Tier::Primary,
            Self::Backup | Self::EjectedBackup => Tier::Backup,
            Self::Down => Tier::FailOpen,
        }
    }
}

impl View {
    /// A backend that takes nothing.
    pub const CLOSED: Self = Self {
        open: false,
        up: false,
        ejected: false,
        weight: 0,
        in_flight: 0,
        limit: None,
        backup: false,
    };

    fn rank(&self, all_down: AllDown) -> Option<Rank> {
        if !self.open || self.weight == 0 {
            return None;
        }
        match (self.up, self.backup, self.ejected) {
            (false, ..) => (all_down == AllDown::FailOpen).then_some(Rank::Down),
            (_, true, _) if all_down == AllDown::Refuse => None,
            (_, false, false) => Some(Rank::Primary),
            (_, false, true) => Some(Rank::EjectedPrimary),
            (_, true, false) => Some(Rank::Backup),
            (_, true, true) => Some(Rank::EjectedBackup),
        }
    }

    fn has_room(&self) -> bool {
        self.limit.is_none_or(|limit| self.in_flight < limit)
    }
}

/// Among whom the next choice will be made; `None`: nobody may serve.
pub fn serving(all_down: AllDown, backends: impl Iterator<Item = View>) -> Option<Tier> {
    let ranks = backends.filter_map(|view| view.rank(all_down));
    let highest = ranks.reduce(|highest, rank| {
        // Without a primary that is not, ejected ones are primaries: before backups.
        match (highest.min(rank), highest.max(rank)) {
            (Rank::Backup, Rank::EjectedPrimary) => Rank::EjectedPrimary,
            (first, _) => first,
        }
    });
    highest.map(Rank::tier)
}

impl Picker {
    /// `start` is the index where the first scan begins; give each thread its
    /// own, or all of them send their first connections to the same backend.
    pub fn new(rules: Rules, start: usize) -> Self {
        Self {
            rules,
            next: start,
            turns: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// New rules, or a new table, from a new snapshot. Round robin goes on where it
    /// stood: a change that comes often must not send every turn to the first
    /// backend.
    pub fn follow(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// One of the `backends`, by index; none of those in `tried`.
    ///
    /// `view` is called once per index, except that `source_hash` without a bounded
    /// load asks for the client's own backends first and is content when one of
    /// them can serve; all other choices look at every backend. Allocates only when
    /// there are more backends than ever before.
    ///
    /// A retry (with some tried) stays in its tier while anyone untried is left
    /// there. Nobody leaves a tier because it is full.
    pub fn choose(
        &mut self,
        ask: Ask,
        tried: &[usize],
        backends: usize,
        view: impl Fn(usize) -> View,
    ) -> Choice {
        if let Some(index) = self.preferred(ask, tried, backends, &view) {
            return Choice::Backend {
                index,
                tier: Tier::Primary,
            };
        }
        let Some(rank) = self.survey(tried, backends, view) else {
            return Choice::Nobody;
        };
        let tier = rank.tier();
        self.candidates.retain(|c| c.rank == rank);
        if tier == Tier::Backup && self.rules.backups == Backups::First {
            self.candidates.truncate(1);
        }
        self.candidates.retain(|c| c.has_room);
        match self.among_candidates(ask, backends) {
            Some(index) => Choice::Backend { index, tier },
            None => Choice::Full { tier },
        }
    }

    /// What [`Self::survey`] and [`by_source`] would come to, without looking
    /// at all backends.
    fn preferred(
        &self,
        ask: Ask,
        tried: &[usize],
        backends: usize,
        view: impl Fn(usize) -> View,
    ) -> Option<usize> {
        let Method::SourceHash {
            table,
            bounded_load: None,
        } = &self.rules.method
        else {
            return None;
        };
        table.preferences(ask.hash).find(|&index| {
            index < backends && !tried.contains(&index) && {
                let view = view(index);
                view.rank(self.rules.all_down) == Some(Rank::Primary) && view.has_room()
            }
        })
    }

    /// Looks at every backend; the rank to choose from, if any has an untried one.
    fn survey(
        &mut self,
        tried: &[usize],
        backends: usize,
        view: impl Fn(usize) -> View,
    ) -> Option<Rank> {
        self.candidates.clear();
        // Tried or not: one failure does not make the guess about others better.
        let mut any_primary = false;
        for index in 0..backends {
            let view = view(index);
            let Some(rank) = view.rank(self.rules.all_down) else {
                continue;
            };
            any_primary |= rank == Rank::Primary;
            if !tried.contains(&index) {
                let (has_room, weight, in_flight) = (view.has_room(), view.weight, view.in_flight);
                self.candidates.push(Candidate {
                    index,
                    rank,
                    has_room,
                    load: Load { weight, in_flight },
                });
            }
        }
        if !any_primary {
            for candidate in &mut self.candidates {
                if candidate.rank == Rank::EjectedPrimary {
                    candidate.rank = Rank::Primary;
                }
            }
        }
        self.candidates.iter().map(|c| c.rank).min()
    }

    fn among_candidates(&mut self, ask: Ask, backends: usize) -> Option<usize> {
        let start = self.next.checked_rem(backends)?;
        let begin = self.candidates.partition_point(|c| c.index < start);
        let (before, after) = self.candidates.split_at_checked(begin)?;
        let in_turn = after.iter().chain(before);
        let picked = match &self.rules.method {
            Method::LeastConnections => load::least(in_turn),
            Method::RoundRobin => turns::take(&mut self.turns, backends, in_turn),
            Method::RandomTwo => load::of_two(&self.candidates, ask.draw),
            Method::SourceHash {
                table,
                bounded_load,
            } => by_source(table, &mut self.candidates, *bounded_load, ask.hash),
        }?;
        self.next = picked + 1;
        Some(picked)
    }
}

/// The client's first preference among the candidates, which are sorted by index.
fn by_source(
    table: &SourceTable,
    candidates: &mut Vec<Candidate>,
    bounded_load: Option<u16>,
    client: u64,
) -> Option<usize> {
    if let Some(percent) = bounded_load {
        let bound = load::Bound::new(candidates, percent);
        candidates.retain(|c| bound.admits(c.load));
    }
    let is_candidate = |index: &usize| {
        let found = candidates.binary_search_by_key(index, |c| c.index);
        found.is_ok()
    };
    let standing = |c: &Candidate| table.standing(client, c.index);
    table.preferences(client).find(is_candidate).or_else(|| {
        let highest = candidates
            .iter()
            .max_by(|one, other| standing(one).total_cmp(&standing(other)));
        highest.map(|c| c.index)
    })
}
