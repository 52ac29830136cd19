//! Pipes for splice(2): between two TCP sockets the kernel moves pages from one queue
//! to the other, and nobody copies. A thread keeps few of them; a direction has one
//! only while it carries much, and does without when there is none.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// Pipes of a thread, in use or not; each has two descriptors.
const PIPES: usize = 16;
/// Descriptors that a thread's pipes may take.
pub(crate) const DESCRIPTORS: usize = 2 * PIPES;
/// Bytes that a pipe is made to hold, and so moved at once.
pub(super) const CAPACITY: usize = 256 << 10;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { free: Vec::new(), made: 0 }) };
}

struct Pool {
    free: Vec<Ends>,
    made: usize,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe, back in its thread's pool when dropped empty.
pub(super) struct Pipe {
    ends: Option<Ends>,
    /// Bytes in it.
    pub(super) held: usize,
}

impl Pipe {
    /// A pipe with nothing in it, if there is one to be had.
    pub(super) fn take() -> Option<Self> {
        let ends = POOL.with_borrow_mut(|pool| {
            pool.free.pop().or_else(|| {
                let ends = (pool.made < PIPES).then(Ends::new).flatten()?;
                pool.made += 1;
                Some(ends)
            })
        })?;
        Some(Self {
            ends: Some(ends),
            held: 0,
        })
    }

    /// Where bytes go in.
    pub(super) fn write_end(&self) -> Option<BorrowedFd<'_>> {
        self.ends.as_ref().map(|ends| ends.write.as_fd())
    }

    /// Where they come out.
    pub(super) fn read_end(&self) -> Option<BorrowedFd<'_>> {
        self.ends.as_ref().map(|ends| ends.read.as_fd())
    }
}

impl Ends {
    fn new() -> Option<Self> {
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (read, write) = pipe_with(flags).ok()?;
        // A user's pipes have a bound together (pipe(7)); a smaller one works too.
        let _ = fcntl_setpipe_size(&write, CAPACITY);
        Some(Self { read, write })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        POOL.with_borrow_mut(|pool| {
            if self.held == 0 {
                pool.free.push(ends);
            } else {
                // What is in it must not reach another connection.
                pool.made -= 1;
            }
        });
    }
}
