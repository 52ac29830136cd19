//! Connections that wait for a backend with room: one queue for each pool, first
//! come first served, bounded, over all data threads. A place that becomes free
//! wakes the first one, who chooses anew.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Those who wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<VecDeque<oneshot::Sender<()>>>,
    /// Its length, to be read without the lock.
    length: AtomicUsize,
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
        let (sender, receiver) = oneshot::channel();
        waiting.push_back(sender);
        self.note(&waiting);
        // Whoever frees a place does that first and then looks here; whoever waits
        // enters first and then looks for a place. One of the two sees the other.
        fence(Ordering::SeqCst);
        Some(Turn {
            queue: self,
            first: waiting.len() == 1,
            come: receiver,
            has_come: false,
        })
    }

    /// There may be room: the first one's turn has come.
    pub(crate) fn wake_one(&self) {
        fence(Ordering::SeqCst);
        if self.len() == 0 {
            return;
        }
        let mut waiting = self.lock();
        while let Some(next) = waiting.pop_front() {
            // Refused by one that has left.
            if next.send(()).is_ok() {
                break;
            }
        }
        self.note(&waiting);
    }

    /// There may be much room: a backend is up again, or may have more.
    pub(crate) fn wake_all(&self) {
        let mut waiting = self.lock();
        for waiter in waiting.drain(..) {
            // Refused by one that has left.
            let _ = waiter.send(());
        }
        self.note(&waiting);
    }

    fn note(&self, waiting: &VecDeque<oneshot::Sender<()>>) {
        self.length.store(waiting.len(), Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue.
pub(crate) struct Turn<'a> {
    queue: &'a Queue,
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
            waiting.retain(|waiter| !waiter.is_closed());
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
        queue.wake_all();
        assert!(has_come(&mut turns[1]) && has_come(&mut turns[2]));
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
