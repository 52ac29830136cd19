//! Sockets in epoll: who waits for which, and what the kernel has said of it.
//!
//! Edge-triggered, and entered only when somebody has to wait: a connection
//! that has its bytes already, or ends first, costs no epoll_ctl. Writing is
//! asked for only where a write was refused, since a socket that is writable,
//! as nearly all are, would be reported at once for nothing.

use std::cell::RefCell;
use std::io;
use std::os::fd::BorrowedFd;
use std::task::Waker;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use slab::Slab;

use super::inbox::Inbox;

/// The inbox's eventfd in an event.
const INBOX: u64 = u64::MAX;
/// Room that is kept when the last source has gone.
const KEPT: usize = 1024;

/// A socket's place on its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SourceId {
    index: u32,
    generation: u32,
}

impl SourceId {
    fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn unpack(word: u64) -> Self {
        let [high, low] = [word >> 32, word & u64::from(u32::MAX)];
        Self {
            index: u32::try_from(low).unwrap_or(u32::MAX),
            generation: u32::try_from(high).unwrap_or(u32::MAX),
        }
    }
}

/// What is known of a socket, and whom to wake.
pub(super) struct Source {
    generation: u32,
    /// Whether a read, or a write, may succeed.
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer has ended its direction, or all of it broke: a read that was short
    /// is not the last one.
    pub(super) ended: bool,
    /// It broke (EPOLLERR, EPOLLHUP).
    pub(super) broken: bool,
    /// It broke before the peer's end had come.
    pub(super) reset: bool,
    /// Something was reported since the connect.
    pub(super) heard: bool,
    interest: Interest,
    waker: Option<Waker>,
}

/// What the kernel is asked to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Interest {
    /// Not in epoll yet.
    None,
    /// Bytes to read, and ends.
    Read,
    /// Room to write as well.
    ReadWrite,
}

impl Interest {
    fn flags(self) -> EventFlags {
        let read = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        match self {
            Self::None => EventFlags::empty(),
            Self::Read => read,
            Self::ReadWrite => read | EventFlags::OUT,
        }
    }
}

/// What is done with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Read,
    Write,
}

impl Side {
    /// What is asked for where it is refused.
    pub(super) fn interest(self) -> Interest {
        match self {
            Self::Read => Interest::Read,
            Self::Write => Interest::ReadWrite,
        }
    }
}

impl Source {
    /// Whether it may succeed.
    pub(super) fn ready(&mut self, side: Side) -> &mut bool {
        match side {
            Side::Read => &mut self.readable,
            Side::Write => &mut self.writable,
        }
    }

    /// All that there was is taken; behind it only an end may be.
    pub(super) fn used_up(&mut self, side: Side) {
        *self.ready(side) = side == Side::Read && self.ended;
    }

    fn new(generation: u32, ready: bool) -> Self {
        Self {
            generation,
            readable: ready,
            writable: ready,
            ended: false,
            broken: false,
            reset: false,
            heard: false,
            interest: Interest::None,
            waker: None,
        }
    }

    /// Whom to wake from now on.
    pub(super) fn wake_by(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(current) if current.will_wake(waker) => {}
            current => *current = Some(waker.clone()),
        }
    }
}

/// All sockets of a thread.
pub(super) struct Sources {
    epoll: OwnedFd,
    all: RefCell<All>,
}

#[derive(Default)]
struct All {
    slots: Slab<Source>,
    generation: u32,
}

impl All {
    fn source(&mut self, id: SourceId) -> Option<&mut Source> {
        let source = self.slots.get_mut(usize::try_from(id.index).ok()?)?;
        (source.generation == id.generation).then_some(source)
    }
}

impl Sources {
    /// An epoll instance that wakes up for the inbox.
    ///
    /// # Errors
    /// As epoll_create(2).
    pub(super) fn new(inbox: &Inbox) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, inbox.event(), EventData::new_u64(INBOX), flags)?;
        Ok(Self {
            epoll,
            all: RefCell::default(),
        })
    }

    /// Enters a socket; `ready` says that reads and writes are worth a try.
    pub(super) fn insert(&self, ready: bool) -> SourceId {
        let mut all = self.all.borrow_mut();
        all.generation = all.generation.wrapping_add(1);
        let generation = all.generation;
        let index = all.slots.insert(Source::new(generation, ready));
        SourceId {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            generation,
        }
    }

    /// Forgets a socket. Closing its descriptor takes it out of epoll.
    pub(super) fn remove(&self, id: SourceId) {
        let mut all = self.all.borrow_mut();
        if all.source(id).is_some()
            && let Ok(index) = usize::try_from(id.index)
        {
            all.slots.remove(index);
            if all.slots.is_empty() && all.slots.capacity() > KEPT {
                all.slots = Slab::new();
            }
        }
    }

    /// What is known of a socket, to read and change.
    pub(super) fn of<T>(&self, id: SourceId, look: impl FnOnce(&mut Source) -> T) -> Option<T> {
        self.all.borrow_mut().source(id).map(look)
    }

    /// Asks the kernel to report at least this. What is so already is reported
    /// too, so that nothing is missed in between.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub(super) fn ask(&self, id: SourceId, fd: BorrowedFd<'_>, wanted: Interest) -> io::Result<()> {
        let before = self.of(id, |source| {
            let before = source.interest;
            source.interest = before.max(wanted);
            before
        });
        let data = EventData::new_u64(id.pack());
        match before {
            Some(Interest::None) => epoll::add(&self.epoll, fd, data, wanted.flags())?,
            Some(before) if before < wanted => {
                epoll::modify(&self.epoll, fd, data, wanted.flags())?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Reports a listening socket as long as somebody waits there, or not at all.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub(super) fn watch(&self, id: SourceId, fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
        let known = self.of(id, |source| source.interest);
        let flags = if on {
            EventFlags::IN
        } else {
            EventFlags::empty()
        };
        let data = EventData::new_u64(id.pack());
        match known {
            Some(Interest::None) => epoll::add(&self.epoll, fd, data, flags)?,
            Some(_) => epoll::modify(&self.epoll, fd, data, flags)?,
            None => {}
        }
        self.of(id, |source| source.interest = Interest::Read);
        Ok(())
    }

    /// Waits for events, at most `patience`.
    pub(super) fn wait(
        &self,
        events: &mut Vec<Event>,
        patience: Option<Duration>,
    ) -> io::Result<()> {
        events.clear();
        // Whole milliseconds: plain epoll_wait, which every seccomp profile knows.
        let patience = patience.map(|patience| {
            let millis = patience.as_nanos().div_ceil(1_000_000);
            let millis = i64::try_from(millis).unwrap_or(i64::MAX).min(86_400_000);
            Timespec {
                tv_sec: millis / 1000,
                tv_nsec: millis % 1000 * 1_000_000,
            }
        });
        let buffer = rustix::buffer::spare_capacity(events);
        match epoll::wait(&self.epoll, buffer, patience.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes note of events and wakes who waits; answers whether the inbox has
    /// messages.
    pub(super) fn dispatch(&self, events: &[Event]) -> bool {
        let mut inbox = false;
        for event in events {
            let data = event.data.u64();
            if data == INBOX {
                inbox = true;
                continue;
            }
            let waker = self.of(SourceId::unpack(data), |source| {
                note(source, event.flags);
                source.waker.clone()
            });
            if let Some(waker) = waker.flatten() {
                waker.wake();
            }
        }
        inbox
    }
}

fn note(source: &mut Source, flags: EventFlags) {
    let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
    let ended = broken || flags.contains(EventFlags::RDHUP);
    source.heard = true;
    source.broken |= broken;
    // Both ends of a connection that ended in order are a hang-up as well.
    source.reset |= flags.contains(EventFlags::ERR) && !source.ended;
    source.ended |= ended;
    source.readable |= ended || flags.contains(EventFlags::IN);
    source.writable |= broken || flags.contains(EventFlags::OUT);
}
