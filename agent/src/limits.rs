//! Live connections per client: exact, shared by all data threads, given back
//! in `Drop`. One [`Clients`] per listener; a client is an IPv4 address or an
//! IPv6 /64. Empty entries leave at once, so memory follows live connections.

use std::cmp::Reverse;
use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BinaryHeap, HashMap};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_core::addr::ClientKey;

/// Locks are held for one map operation; more of them than cores keeps
/// threads apart.
const SHARDS: usize = 64;
/// Room that is kept in each when its last client has gone.
const KEPT: usize = 64;

/// Live connections of one listener by client.
#[derive(Debug)]
pub(crate) struct Clients {
    shards: Vec<Mutex<HashMap<ClientKey, u32>>>,
    /// Keyed, so that a client cannot choose which shard it crowds.
    hasher: RandomState,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            shards: std::iter::repeat_with(Mutex::default)
                .take(SHARDS)
                .collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Clients {
    /// Counts one more connection of `client` for as long as the answer lives.
    pub(crate) fn enter(self: &Arc<Self>, client: ClientKey) -> Entered {
        let mut shard = self.shard(client);
        let live = shard.entry(client).or_insert(0);
        *live = live.saturating_add(1);
        Entered {
            live: *live,
            client,
            clients: Arc::clone(self),
        }
    }

    /// How many clients have live connections.
    pub(crate) fn count(&self) -> usize {
        self.shards
            .iter()
            .map(|s| s.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    /// The `n` clients with most live connections, most first.
    pub(crate) fn top(&self, n: usize) -> Vec<(ClientKey, u32)> {
        // The least of those found so far comes out first.
        let mut found = BinaryHeap::with_capacity(n.saturating_add(1).min(4096));
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for (client, live) in shard.iter() {
                found.push(Reverse((*live, Reverse(*client))));
                if found.len() > n {
                    found.pop();
                }
            }
        }
        let sorted = found.into_sorted_vec().into_iter();
        sorted
            .map(|Reverse((live, Reverse(client)))| (client, live))
            .collect()
    }

    fn shard(&self, client: ClientKey) -> MutexGuard<'_, HashMap<ClientKey, u32>> {
        let hash = self.hasher.hash_one(client);
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        #[expect(
            clippy::indexing_slicing,
            reason = "the index is modulo the number of shards"
        )]
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One counted connection.
#[derive(Debug)]
pub(crate) struct Entered {
    /// The client's connections when this one came, itself included.
    pub(crate) live: u32,
    client: ClientKey,
    clients: Arc<Clients>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut shard = self.clients.shard(self.client);
        if let Entry::Occupied(mut live) = shard.entry(self.client) {
            *live.get_mut() = live.get().saturating_sub(1);
            if *live.get() == 0 {
                live.remove();
                if shard.is_empty() && shard.capacity() > KEPT {
                    *shard = HashMap::new();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_while_they_live() {
        let clients = Arc::new(Clients::default());
        let client = ClientKey::new("192.0.2.1".parse().unwrap());
        let first = clients.enter(client);
        let second = clients.enter(client);
        assert_eq!((first.live, second.live), (1, 2));
        drop(first);
        assert_eq!(clients.enter(client).live, 2);
        drop(second);
        assert_eq!(clients.count(), 0);
    }

    #[test]
    fn the_top_has_those_with_most_connections_first() {
        let clients = Arc::new(Clients::default());
        let client = |n: u8| ClientKey::new([192, 0, 2, n].into());
        let times = |n: u8| usize::from(if n < 100 { n } else { 1 });
        let _held: Vec<Entered> = (1..=200)
            .flat_map(|n| std::iter::repeat_n(n, times(n)))
            .map(|n| clients.enter(client(n)))
            .collect();
        assert_eq!(
            clients.top(3),
            [(client(99), 99), (client(98), 98), (client(97), 97)]
        );
        assert_eq!(clients.top(1000).len(), 200);
        assert_eq!(clients.top(0), []);
    }
}
