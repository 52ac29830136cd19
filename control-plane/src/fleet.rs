//! Who is connected to this control plane, and what each should do next. One slot
//! per agent, latest wins, and room for a few commands: a slow agent costs no memory,
//! whatever happens meanwhile.
//!
//! An agent that dials again may be here twice for a moment. The newer stream
//! counts: it takes the place, the older one is told to end, and when that cleans
//! up after itself it finds another generation and leaves the place alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::model::{AgentId, Command, Desired};

/// Commands that wait to be said to one agent; more are not said.
const COMMANDS: usize = 16;

/// What an agent should do next.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) enum Wanted {
    /// Nothing that is known yet.
    #[default]
    Nothing,
    /// Run this.
    Run(Uuid, Desired),
    /// Leave for ever.
    Revoked,
    /// Dial again: this control plane stops.
    Reconnect,
}

/// The connected agents.
#[derive(Default)]
pub(crate) struct Fleet {
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    by_agent: HashMap<AgentId, Entry>,
    /// Of the last registration; never used twice.
    generation: u64,
    /// Set when this control plane stops: whoever comes is sent on.
    stopping: bool,
}

struct Entry {
    generation: u64,
    /// Its name in the database.
    session: Uuid,
    wanted: watch::Sender<Wanted>,
    commands: mpsc::Sender<Command>,
}

/// An agent's place, given back when dropped.
pub(crate) struct Registration {
    fleet: Arc<Fleet>,
    agent: AgentId,
    generation: u64,
    /// What it should do; closed when a newer stream has taken the place.
    pub(crate) wanted: watch::Receiver<Wanted>,
    /// What it is to do once.
    pub(crate) commands: mpsc::Receiver<Command>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut entries = self.fleet.entries();
        let ours = entries
            .by_agent
            .get(&self.agent)
            .is_some_and(|entry| entry.generation == self.generation);
        if ours {
            entries.by_agent.remove(&self.agent);
        }
    }
}

impl Fleet {
    /// Gives an agent its place; an older stream of the same agent loses it.
    pub(crate) fn register(self: &Arc<Self>, agent: AgentId, session: Uuid) -> Registration {
        let mut entries = self.entries();
        entries.generation += 1;
        let generation = entries.generation;
        let first = if entries.stopping {
            Wanted::Reconnect
        } else {
            Wanted::Nothing
        };
        let (sender, wanted) = watch::channel(first);
        let (orders, commands) = mpsc::channel(COMMANDS);
        let entry = Entry {
            generation,
            session,
            wanted: sender,
            commands: orders,
        };
        entries.by_agent.insert(agent, entry);
        Registration {
            fleet: Arc::clone(self),
            agent,
            generation,
            wanted,
            commands,
        }
    }

    /// Who is connected.
    pub(crate) fn agents(&self) -> Vec<AgentId> {
        self.entries().by_agent.keys().copied().collect()
    }

    /// The sessions that live here.
    pub(crate) fn sessions(&self) -> Vec<(AgentId, Uuid)> {
        let entries = self.entries();
        let live = entries.by_agent.iter();
        live.map(|(agent, entry)| (*agent, entry.session)).collect()
    }

    /// Says what an agent should run. What is older than what was said before is
    /// not said: reads of the database may overtake each other.
    pub(crate) fn offer(&self, agent: AgentId, epoch: Uuid, desired: Desired) {
        self.change(agent, |wanted| {
            let news = match wanted {
                Wanted::Nothing => true,
                Wanted::Run(said, before) => *said != epoch || before.change < desired.change,
                Wanted::Revoked | Wanted::Reconnect => false,
            };
            if news {
                *wanted = Wanted::Run(epoch, desired);
            }
            news
        });
    }

    /// Says what an agent is to do once; answers whether there was room.
    pub(crate) fn order(&self, agent: AgentId, command: Command) -> bool {
        let entries = self.entries();
        let entry = entries.by_agent.get(&agent);
        entry.is_some_and(|entry| entry.commands.try_send(command).is_ok())
    }

    /// Tells an agent that it was revoked.
    pub(crate) fn revoke(&self, agent: AgentId) {
        self.change(agent, |wanted| {
            let news = *wanted != Wanted::Revoked;
            *wanted = Wanted::Revoked;
            news
        });
    }

    /// Sends everybody on to another control plane, also those who come from now on.
    pub(crate) fn stop(&self) {
        self.entries().stopping = true;
        for agent in self.agents() {
            self.change(agent, |wanted| {
                if *wanted == Wanted::Revoked {
                    return false;
                }
                *wanted = Wanted::Reconnect;
                true
            });
        }
    }

    fn change(&self, agent: AgentId, change: impl FnOnce(&mut Wanted) -> bool) {
        if let Some(entry) = self.entries().by_agent.get(&agent) {
            entry.wanted.send_if_modified(change);
        }
    }

    /// What the lock guards is whole after each single operation, so a panic
    /// elsewhere while it was held harms nobody.
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tidegate_core::snapshot::Fingerprint;
    use tidegate_proto::convert::CutBackend;

    fn agent(number: u8) -> AgentId {
        AgentId(Uuid::from_u128(number.into()))
    }

    fn desired(change: u64) -> Desired {
        Desired {
            change,
            revision: 1,
            hash: Fingerprint::of(&change.to_be_bytes()),
        }
    }

    #[test]
    fn a_newer_stream_takes_the_place_and_the_older_one_leaves_it_alone() {
        let fleet = Arc::new(Fleet::default());
        let older = fleet.register(agent(1), Uuid::nil());
        let newer = fleet.register(agent(1), Uuid::nil());
        assert!(older.wanted.has_changed().is_err(), "told to end");
        drop(older);
        assert_eq!(fleet.agents(), [agent(1)]);
        fleet.offer(agent(1), Uuid::nil(), desired(3));
        assert_eq!(*newer.wanted.borrow(), Wanted::Run(Uuid::nil(), desired(3)));
        drop(newer);
        assert_eq!(fleet.agents(), []);
    }

    #[test]
    fn an_offer_that_was_overtaken_is_not_said() {
        let fleet = Arc::new(Fleet::default());
        let mut place = fleet.register(agent(1), Uuid::nil());
        fleet.offer(agent(1), Uuid::nil(), desired(5));
        place.wanted.mark_unchanged();
        fleet.offer(agent(1), Uuid::nil(), desired(4));
        fleet.offer(agent(1), Uuid::nil(), desired(5));
        assert!(!place.wanted.has_changed().unwrap());
        // A restored backup counts from below: another epoch, so it is said.
        fleet.offer(agent(1), Uuid::from_u128(1), desired(2));
        assert!(place.wanted.has_changed().unwrap());
        fleet.revoke(agent(1));
        fleet.offer(agent(1), Uuid::from_u128(1), desired(9));
        assert_eq!(*place.wanted.borrow(), Wanted::Revoked);
    }

    #[test]
    fn who_comes_while_it_stops_is_sent_on() {
        let fleet = Arc::new(Fleet::default());
        let before = fleet.register(agent(1), Uuid::nil());
        fleet.stop();
        let after = fleet.register(agent(2), Uuid::nil());
        assert_eq!(*before.wanted.borrow(), Wanted::Reconnect);
        assert_eq!(*after.wanted.borrow(), Wanted::Reconnect);
    }

    #[test]
    fn commands_go_to_the_youngest_stream_and_wait_in_a_bounded_row() {
        let fleet = Arc::new(Fleet::default());
        let command = |number| Command {
            number,
            cut: CutBackend {
                pool: "p".parse().unwrap(),
                backend: "b".parse().unwrap(),
            },
        };
        assert!(!fleet.order(agent(1), command(0)), "nobody is here");
        let mut older = fleet.register(agent(1), Uuid::nil());
        let mut newer = fleet.register(agent(1), Uuid::nil());
        for number in 0..16 {
            assert!(fleet.order(agent(1), command(number)));
        }
        assert!(!fleet.order(agent(1), command(16)));
        assert!(older.commands.try_recv().is_err());
        assert_eq!(newer.commands.try_recv().unwrap().number, 0);
        assert!(fleet.order(agent(1), command(17)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A stream of this agent begins.
        Begin(u8),
        /// The stream of this place among those that live cleans up.
        End(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..3_u8).prop_map(Step::Begin),
            any::<prop::sample::Index>().prop_map(Step::End),
        ];
        proptest::collection::vec(step, 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

        /// Thousands of interleavings of streams that begin and clean up late: the
        /// place is always that of the youngest stream, as long as that lives.
        #[test]
        fn the_youngest_stream_keeps_its_place_whoever_cleans_up(steps in steps()) {
            let fleet = Arc::new(Fleet::default());
            let mut live: Vec<(u8, Registration)> = Vec::new();
            let mut youngest: HashMap<u8, u64> = HashMap::new();
            for (number, step) in (1..).zip(steps) {
                match step {
                    Step::Begin(who) => {
                        let place = fleet.register(agent(who), Uuid::nil());
                        youngest.insert(who, place.generation);
                        live.push((who, place));
                    }
                    Step::End(which) if !live.is_empty() => {
                        let (who, place) = live.swap_remove(which.index(live.len()));
                        if youngest.get(&who) == Some(&place.generation) {
                            youngest.remove(&who);
                        }
                    }
                    Step::End(_) => {}
                }
                let mut there = fleet.agents();
                there.sort();
                let mut expected: Vec<_> = youngest.keys().map(|who| agent(*who)).collect();
                expected.sort();
                prop_assert_eq!(there, expected);
                for (who, place) in &live {
                    fleet.offer(agent(*who), Uuid::nil(), desired(number));
                    let is_youngest = youngest.get(who) == Some(&place.generation);
                    let reached = *place.wanted.borrow() == Wanted::Run(Uuid::nil(), desired(number));
                    prop_assert_eq!(reached, is_youngest);
                }
            }
        }
    }
}
