//! Connections that wait for a backend with room: one queue for each pool, first
//! come first served, bounded, over all data threads. A place that becomes free
//! wakes the first one, who chooses anew.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Those who wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<VecDeque<Waiter>>,
    /// Its length, to be read without the lock.
    length: AtomicUsize,
    /// Tickets handed out so far.
    tickets: AtomicU64,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    told: oneshot::Sender<()>,
}

impl Queue {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// Waits behind all others, unless `most` do already.
    pub(crate) fn enter(&self, most: usize) -> Option<Turn<'_>> {
        let mut waiting = self.lock();
        if waiting.len() >= most {
            return None;
        }
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        Some(self.stand(&mut waiting, ticket))
    }

    /// Waits again where its ticket says, before all who came later: its turn had
    /// come, and somebody was quicker. That is no news, so the bound plays no part.
    pub(crate) fn enter_again(&self, ticket: u64) -> Turn<'_> {
        self.stand(&mut self.lock(), ticket)
    }

    fn stand(&self, waiting: &mut VecDeque<Waiter>, ticket: u64) -> Turn<'_> {
        let (told, come) = oneshot::channel();
        let place = waiting.partition_point(|waiter| waiter.ticket < ticket);
        waiting.insert(place, Waiter { ticket, told });
        self.note(waiting);
        // Whoever frees a place does that first and then looks here; whoever waits
        // enters first and then looks for a place. One of the two sees the other.
        fence(Ordering::SeqCst);
        Turn {
            queue: self,
            ticket,
            first: place == 0,
            come,
            has_come: false,
        }
    }

    /// There may be room: the first one's turn has come. It wakes the next one when it
    /// has found some.
    pub(crate) fn wake_one(&self) {
        fence(Ordering::SeqCst);
        if self.len() == 0 {
            return;
        }
        let mut waiting = self.lock();
        while let Some(next) = waiting.pop_front() {
            // Refused by one that has left.
            if next.told.send(()).is_ok() {
                break;
            }
        }
        self.note(&waiting);
    }

    fn note(&self, waiting: &VecDeque<Waiter>) {
        self.length.store(waiting.len(), Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiter>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue.
pub(crate) struct Turn<'a> {
    queue: &'a Queue,
    /// What it is entered again with.
    pub(crate) ticket: u64,
    /// Whether nobody was before it.
    pub(crate) first: bool,
    come: oneshot::Receiver<()>,
    has_come: bool,
}

impl Turn<'_> {
    /// Until its turn has come.
    pub(crate) async fn come(&mut self) {
        // A queue outlives its turns, so there is no other end.
        let _ = (&mut self.come).await;
        self.has_come = true;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.has_come {
            return;
        }
        self.come.close();
        if self.come.try_recv().is_ok() {
            // Woken and gone before it could use the place: that is the next one's.
            self.queue.wake_one();
        } else {
            let mut waiting = self.queue.lock();
            if let Ok(place) = waiting.binary_search_by_key(&self.ticket, |waiter| waiter.ticket) {
                waiting.remove(place);
            }
            self.queue.note(&waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_come(turn: &mut Turn<'_>) -> bool {
        turn.come.try_recv().is_ok()
    }

    #[test]
    fn turns_come_in_order_and_one_at_a_time() {
        let queue = Queue::default();
        let mut turns: Vec<_> = (0..3).map(|_| queue.enter(3).unwrap()).collect();
        assert!(turns[0].first && !turns[1].first);
        assert!(queue.enter(3).is_none());
        queue.wake_one();
        assert!(has_come(&mut turns[0]));
        assert!(!has_come(&mut turns[1]) && !has_come(&mut turns[2]));
        assert_eq!(queue.len(), 2);
        queue.wake_one();
        assert!(has_come(&mut turns[1]) && !has_come(&mut turns[2]));
    }

    #[test]
    fn who_was_overtaken_waits_where_it_did_however_many_wait() {
        let queue = Queue::default();
        let mut turns: Vec<_> = (0..3).map(|_| queue.enter(3).unwrap()).collect();
        (0..3).for_each(|_| queue.wake_one());
        // One has found room; the others have not, the later one first.
        let (second, third) = (turns[1].ticket, turns[2].ticket);
        assert!(turns.iter_mut().all(has_come));
        let mut latest = queue.enter(1).unwrap();
        let mut third = queue.enter_again(third);
        let mut second = queue.enter_again(second);
        assert!(second.first && queue.len() == 3);
        for turn in [&mut second, &mut third, &mut latest] {
            assert!(!has_come(turn));
            queue.wake_one();
            assert!(has_come(turn));
        }
    }

    #[test]
    fn who_leaves_makes_room_and_is_passed_over() {
        let queue = Queue::default();
        let first = queue.enter(2).unwrap();
        let mut second = queue.enter(2).unwrap();
        drop(first);
        let _third = queue.enter(2).unwrap();
        assert_eq!(queue.len(), 2);
        queue.wake_one();
        assert!(has_come(&mut second));
    }

    #[test]
    fn a_turn_that_is_not_used_goes_to_the_next() {
        let queue = Queue::default();
        let first = queue.enter(2).unwrap();
        let mut second = queue.enter(2).unwrap();
        queue.wake_one();
        drop(first);
        assert!(has_come(&mut second));
        assert_eq!(queue.len(), 0);
    }
}
