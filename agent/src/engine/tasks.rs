//! The tasks of a data thread: futures in a slab, and the queue of those that
//! can go on. A waker is two numbers (thread, task) and holds nothing, so
//! that cloning and dropping one is free.
//!
//! Invariant: no borrow is held while foreign code runs (a poll, a drop).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

use slab::Slab;

use super::Work;
use super::inbox::{Inbox, Message};
use crate::sys;

const INDEX_BITS: u32 = 26;
const GENERATION_BITS: u32 = 22;
/// Polls between two looks at sockets and timers, at most.
const TURN: usize = 512;
/// Room that is kept when the last task has gone.
const KEPT: usize = 1024;

/// A task of a thread: its place, and which of the place's tasks it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TaskId {
    index: u32,
    generation: u32,
}

impl TaskId {
    /// Thread and task in one word: what a waker carries.
    fn pack(self, engine: u16) -> u64 {
        u64::from(engine) << (INDEX_BITS + GENERATION_BITS)
            | u64::from(self.generation) << INDEX_BITS
            | u64::from(self.index)
    }

    fn unpack(word: u64) -> (u16, Self) {
        let bits = |from: u32, count: u32| (word >> from) & ((1 << count) - 1);
        let id = Self {
            index: u32::try_from(bits(0, INDEX_BITS)).unwrap_or(0),
            generation: u32::try_from(bits(INDEX_BITS, GENERATION_BITS)).unwrap_or(0),
        };
        let engine = u16::try_from(bits(INDEX_BITS + GENERATION_BITS, 16)).unwrap_or(0);
        (engine, id)
    }
}

/// Wakes the task that a waker's word names.
pub(crate) fn wake(word: u64) {
    let (engine, id) = TaskId::unpack(word);
    super::wake_on(engine, id);
}

struct Task {
    generation: u32,
    /// When it was polled last.
    turn: u64,
    /// Absent while it is polled.
    work: Option<Work>,
    queued: bool,
    aborted: bool,
}

/// All tasks of a thread.
pub(super) struct Tasks {
    engine: u16,
    all: RefCell<All>,
}

#[derive(Default)]
struct All {
    slots: Slab<Task>,
    ready: VecDeque<TaskId>,
    generation: u32,
    turn: u64,
}

impl All {
    fn task(&mut self, id: TaskId) -> Option<&mut Task> {
        let task = self.slots.get_mut(usize::try_from(id.index).ok()?)?;
        (task.generation == id.generation).then_some(task)
    }

    fn enqueue(&mut self, id: TaskId) {
        if let Some(task) = self.task(id)
            && !task.queued
        {
            task.queued = true;
            self.ready.push_back(id);
        }
    }

    /// The next one that has not been polled in this turn.
    fn next_ready(&mut self) -> Option<TaskId> {
        let id = *self.ready.front()?;
        let turn = self.turn;
        if let Some(task) = self.task(id) {
            // Those behind it have come later, or have had theirs as well.
            if task.turn == turn {
                return None;
            }
            task.turn = turn;
        }
        self.ready.pop_front()
    }

    fn remove(&mut self, id: TaskId) -> Option<Work> {
        self.task(id)?;
        let task = self.slots.remove(usize::try_from(id.index).ok()?);
        if self.slots.is_empty() && self.slots.capacity() > KEPT {
            // What thousands of connections took is given back.
            self.slots = Slab::new();
            self.ready = VecDeque::new();
        }
        task.work
    }
}

impl Tasks {
    pub(super) fn new(engine: u16) -> Self {
        Self {
            engine,
            all: RefCell::default(),
        }
    }

    /// Enters a future; it is polled on the next turn.
    pub(super) fn spawn(&self, work: Work) -> TaskId {
        let mut all = self.all.borrow_mut();
        all.generation = (all.generation + 1) % (1 << GENERATION_BITS);
        let generation = all.generation;
        let index = all.slots.insert(Task {
            generation,
            turn: 0,
            work: Some(work),
            queued: false,
            aborted: false,
        });
        // A process has far fewer descriptors than 2^26, and a task has one at least.
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let id = TaskId { index, generation };
        all.enqueue(id);
        id
    }

    pub(super) fn wake(&self, id: TaskId) {
        self.all.borrow_mut().enqueue(id);
    }

    /// Drops a task; at the end of its poll when it is being polled.
    pub(super) fn abort(&self, id: TaskId) {
        let work = {
            let mut all = self.all.borrow_mut();
            match all.task(id) {
                Some(task) if task.work.is_none() => {
                    task.aborted = true;
                    None
                }
                Some(_) => all.remove(id),
                None => None,
            }
        };
        drop(work);
    }

    pub(super) fn any_ready(&self) -> bool {
        !self.all.borrow().ready.is_empty()
    }

    /// Polls what is ready, and what that makes ready: a connection just accepted is
    /// served without another look at the sockets. Each once, and so many at most, so
    /// that they get theirs: who has used up its turn wakes itself for the next one.
    pub(super) fn run_ready(&self) {
        self.all.borrow_mut().turn += 1;
        for _ in 0..TURN {
            let Some(id) = self.all.borrow_mut().next_ready() else {
                return;
            };
            self.run(id);
        }
    }

    fn run(&self, id: TaskId) {
        let work = {
            let mut all = self.all.borrow_mut();
            let Some(task) = all.task(id) else { return };
            task.queued = false;
            task.work.take()
        };
        let Some(mut work) = work else { return };
        let waker = sys::waker(id.pack(self.engine));
        let mut context = Context::from_waker(&waker);
        // One connection's bug must not end the others.
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut context)));
        let mut all = self.all.borrow_mut();
        match (polled, all.task(id)) {
            (Ok(Poll::Pending), Some(task)) if !task.aborted => task.work = Some(work),
            _ => {
                all.remove(id);
                drop(all);
                drop(work);
            }
        }
    }

    /// Drops every task.
    pub(super) fn clear(&self) {
        // A task's end may spawn or wake others.
        loop {
            let slots = std::mem::take(&mut self.all.borrow_mut().slots);
            if slots.is_empty() {
                return;
            }
            drop(slots);
        }
    }
}

/// A task, to be aborted from whichever thread.
pub(crate) struct TaskHandle {
    inbox: Arc<Inbox>,
    id: TaskId,
}

impl TaskHandle {
    pub(super) fn new(inbox: &Arc<Inbox>, id: TaskId) -> Self {
        Self {
            inbox: Arc::clone(inbox),
            id,
        }
    }

    /// Drops the task's future, soon and on its own thread; nothing happens when
    /// it has ended.
    pub(crate) fn abort(&self) {
        self.inbox.send(Message::Abort(self.id));
    }
}

/// Aborts a task when it is dropped.
pub(crate) struct AbortOnDrop(pub(crate) TaskHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
