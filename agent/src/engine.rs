//! The event loop of a data thread: tasks, timers and sockets of one thread,
//! over one epoll instance. Connections are ordinary futures; what they wait for
//! costs no lock, no atomic and no allocation here, which a general runtime
//! cannot promise (ADR 007 has the figures).
//!
//! Owns no policy and no protocol. `worker` starts one per core; whatever runs
//! on it must come from here (sockets, sleeps, `spawn`) or be tied to no runtime
//! at all (`tokio::sync`, hyper, rustls). Other threads reach it by [`Handle`].

mod inbox;
mod net;
mod sources;
mod tasks;
mod time;
mod wheel;

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use self::inbox::{Inbox, Message};
pub(crate) use self::net::{Accepted, TcpListener, TcpStream, stream_socket};
use self::sources::Sources;
pub(crate) use self::tasks::{AbortOnDrop, TaskHandle, wake};
use self::tasks::{TaskId, Tasks};
pub(crate) use self::time::{HyperTimer, Sleep, sleep_until, timeout_at};
use self::wheel::Wheel;

/// Events taken from the kernel at once. What is ready beyond them comes next:
/// the more at once, the longer the first one's answer waits for the last one's.
const EVENTS: usize = 256;

/// Costly pieces of work begun in one turn.
const COSTLY: u32 = 4;

/// A future of a data thread.
type Work = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    static CURRENT: OnceCell<Engine> = const { OnceCell::new() };
}

/// One data thread's loop; lives in its thread and is never moved.
struct Engine {
    inbox: Arc<Inbox>,
    tasks: Tasks,
    sources: Sources,
    timers: RefCell<Wheel<std::task::Waker>>,
    /// Where the wheel's ticks are counted from.
    start: Instant,
    /// As of the last return from epoll_wait.
    now: Cell<Instant>,
    /// Costly pieces of work begun since then.
    costly: Cell<u32>,
}

/// Reaches a data thread from others.
#[derive(Clone)]
pub(crate) struct Handle {
    inbox: Arc<Inbox>,
}

impl Handle {
    /// Runs a future on that thread; the answer ends when the future has.
    pub(crate) fn spawn(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::sync::oneshot::Receiver<()> {
        let (ended, end) = tokio::sync::oneshot::channel();
        self.inbox.send(Message::Spawn(Box::pin(async move {
            future.await;
            // Nobody may be waiting.
            let _ = ended.send(());
        })));
        end
    }

    /// Ends the thread: what runs there is dropped.
    pub(crate) fn stop(&self) {
        self.inbox.send(Message::Stop);
    }
}

/// Starts a thread with a loop of its own.
///
/// # Errors
/// When the host refuses a thread, an epoll instance or an eventfd.
pub(crate) fn start(name: String) -> io::Result<Handle> {
    let inbox = Inbox::new()?;
    let engine = Parts::new(Arc::clone(&inbox))?;
    std::thread::Builder::new()
        .name(name)
        .spawn(move || engine.run())?;
    Ok(Handle { inbox })
}

/// What can fail of an [`Engine`], made before its thread.
struct Parts {
    inbox: Arc<Inbox>,
    sources: Sources,
}

impl Parts {
    fn new(inbox: Arc<Inbox>) -> io::Result<Self> {
        let sources = Sources::new(&inbox)?;
        Ok(Self { inbox, sources })
    }

    fn run(self) {
        let start = Instant::now();
        let engine = Engine {
            tasks: Tasks::new(self.inbox.number()),
            inbox: self.inbox,
            sources: self.sources,
            timers: RefCell::new(Wheel::default()),
            start,
            now: Cell::new(start),
            costly: Cell::new(0),
        };
        CURRENT.with(|current| current.get_or_init(|| engine).run());
    }
}

impl Engine {
    fn run(&self) {
        let mut events = Vec::with_capacity(EVENTS);
        let mut due = Vec::new();
        loop {
            self.tasks.run_ready();
            let patience = match self.tasks.any_ready() {
                true => Some(Duration::ZERO),
                false => self.until_next_timer(),
            };
            if let Err(error) = self.sources.wait(&mut events, patience) {
                // Nothing can be served without it, and nothing mends it.
                tracing::error!(%error, "epoll_wait failed: the data thread ends");
                break;
            }
            self.now.set(Instant::now());
            self.costly.set(0);
            if self.sources.dispatch(&events) && self.take_messages() {
                break;
            }
            self.timers
                .borrow_mut()
                .advance(self.tick(self.now.get()), &mut due);
            due.drain(..).for_each(std::task::Waker::wake);
        }
        self.inbox.close();
        self.tasks.clear();
    }

    /// Answers whether the thread is to end.
    fn take_messages(&self) -> bool {
        let mut stop = false;
        for message in self.inbox.take() {
            match message {
                Message::Wake(id) => self.tasks.wake(id),
                Message::Abort(id) => self.tasks.abort(id),
                Message::Spawn(work) => {
                    self.tasks.spawn(work);
                }
                Message::Stop => stop = true,
            }
        }
        stop
    }

    fn until_next_timer(&self) -> Option<Duration> {
        let next = self.timers.borrow().next()?;
        let at = self.start + Duration::from_millis(next);
        Some(at.saturating_duration_since(Instant::now()))
    }

    /// Whole milliseconds since the start.
    fn tick(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.start);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Runs a future on this data thread.
///
/// # Errors
/// On a thread that is none.
pub(crate) fn spawn(future: impl Future<Output = ()> + 'static) -> io::Result<TaskHandle> {
    with(|engine| TaskHandle::new(&engine.inbox, engine.tasks.spawn(Box::pin(future))))
}

/// Until a piece of costly work, a handshake above all, may begin: few of them have in
/// this turn of the loop. So whatever else is ready waits for a few at most, however many
/// clients want to shake hands at once.
pub(crate) async fn costly() {
    std::future::poll_fn(|cx| {
        let begun = with(|engine| engine.costly.replace(engine.costly.get() + 1));
        if begun.unwrap_or(0) < COSTLY {
            return Poll::Ready(());
        }
        // It is polled again in the next turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The time, exact to one turn of the loop; elsewhere the clock's.
pub(crate) fn now() -> Instant {
    with(|engine| engine.now.get()).unwrap_or_else(|_| Instant::now())
}

/// Wakes a task, from whichever thread.
fn wake_on(engine: u16, id: TaskId) {
    let local = with(|own| {
        let ours = own.inbox.number() == engine;
        if ours {
            own.tasks.wake(id);
        }
        ours
    });
    if !local.unwrap_or(false) {
        inbox::wake(engine, id);
    }
}

fn with<T>(act: impl FnOnce(&Engine) -> T) -> io::Result<T> {
    let elsewhere = || io::Error::other("not on a data thread");
    // Fails while the thread ends, when nothing is left to be served.
    CURRENT
        .try_with(|current| current.get().map(act))
        .ok()
        .flatten()
        .ok_or_else(elsewhere)
}

#[cfg(test)]
mod tests;
