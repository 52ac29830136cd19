//! What other threads have for a data thread: messages behind a lock, and an
//! eventfd that ends its wait. Rare by design: a cut, a new listener, a permit
//! that became free.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use rustix::event::EventfdFlags;

use super::tasks::TaskId;

/// All inboxes of the process by number: a waker holds nothing but numbers.
static ALL: LazyLock<RwLock<HashMap<u16, Weak<Inbox>>>> = LazyLock::new(RwLock::default);
static NEXT: AtomicU16 = AtomicU16::new(0);

/// What a data thread is told.
pub(super) enum Message {
    Wake(TaskId),
    Abort(TaskId),
    Spawn(Pin<Box<dyn Future<Output = ()> + Send>>),
    Stop,
}

/// The messages of one data thread.
pub(super) struct Inbox {
    number: u16,
    event: OwnedFd,
    messages: Mutex<Option<Vec<Message>>>,
    /// Whether the thread has been told that there are some.
    told: AtomicBool,
}

impl Inbox {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let inbox = Arc::new(Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            event: rustix::event::eventfd(0, flags)?,
            messages: Mutex::new(Some(Vec::new())),
            told: AtomicBool::new(false),
        });
        let mut all = ALL.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(inbox.number, Arc::downgrade(&inbox));
        Ok(inbox)
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// Readable when there are messages.
    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Leaves a message, unless the thread has ended.
    pub(super) fn send(&self, message: Message) {
        match &mut *self.lock() {
            Some(messages) => messages.push(message),
            // Dropped here, outside the match: a future's end may send again.
            None => return,
        }
        if !self.told.swap(true, Ordering::SeqCst) {
            // Full only when 2^64 - 1 tellings were not heard.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }

    /// Takes all messages. The eventfd is edge-triggered and never read.
    pub(super) fn take(&self) -> Vec<Message> {
        self.told.store(false, Ordering::SeqCst);
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes no message any more.
    pub(super) fn close(&self) {
        let left = self.lock().take();
        drop(left);
        let mut all = ALL.write().unwrap_or_else(PoisonError::into_inner);
        all.remove(&self.number);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Message>>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes a task of the data thread with this number.
pub(super) fn wake(number: u16, id: TaskId) {
    let inbox = {
        let all = ALL.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&number).and_then(Weak::upgrade)
    };
    if let Some(inbox) = inbox {
        inbox.send(Message::Wake(id));
    }
}
