//! Asks at a fixed rate, whatever the answers do: requests are due at even distances,
//! and each one's time counts from when it was due. A system that stalls for a moment
//! is charged for every request that was due meanwhile, not for the one that it held
//! up ("coordinated omission").
//!
//! Connections are tasks of one thread, as in [`driver`](super::driver). The next idle
//! one takes what is due next; when none is idle, requests wait, and that counts.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinSet;

use super::http::{After, Client};
use super::spawn_runtime;
use super::wire::Wire;
use crate::systems::Trouble;

/// What is asked of which system.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Where it listens.
    pub address: SocketAddr,
    /// Each request on a connection of its own, or all on kept ones.
    pub after: After,
    /// How many connections there are at once, at most.
    pub connections: usize,
    /// How far apart requests are due.
    pub gap: Duration,
    /// How many of the first do not count.
    pub unheeded: u32,
    /// How many count.
    pub requests: u32,
    /// The body of an answer, in bytes.
    pub size: usize,
    /// What bodies are made of.
    pub block: &'static [u8],
}

impl Pace {
    /// Asks, on that processor, until everything has its answer: how long each took from
    /// when it was due to the last byte of its answer, in no order.
    ///
    /// # Errors
    /// When an answer is wrong, or does not come.
    pub async fn keep(self, processor: Option<usize>) -> Result<Vec<Duration>, Trouble> {
        let (tell, told) = oneshot::channel();
        let thread = spawn_runtime("pace", processor, move || async move {
            let mut tell = tell;
            tokio::select! {
                times = self.ask() => {
                    let _nobody_waits = tell.send(times);
                }
                // Nobody waits: a system that hangs holds up nobody.
                () = tell.closed() => {}
            }
        })?;
        let asking = Asking {
            told: Some(told),
            thread: Some(thread),
        };
        asking.times().await
    }

    async fn ask(self) -> Result<Vec<Duration>, Trouble> {
        let due = Rc::new(Mutex::new(Due::new(self)?));
        let mut connections = JoinSet::new();
        let tasks = tokio::task::LocalSet::new();
        for _ in 0..self.connections {
            connections.spawn_local_on(self.serve(Rc::clone(&due)), &tasks);
        }
        tasks
            .run_until(async {
                let mut all = Vec::new();
                while let Some(ended) = connections.join_next().await {
                    all.append(&mut ended.map_err(Trouble::broken)??);
                }
                Ok(all)
            })
            .await
    }

    /// One connection, or one at a time.
    async fn serve(self, schedule: Rc<Mutex<Due>>) -> Result<Vec<Duration>, Trouble> {
        let count = AtomicU64::new(0);
        let mut times = Vec::new();
        let mut kept = match self.after {
            After::Keep => Some(self.connect().await?),
            After::Close => None,
        };
        loop {
            // The lock is held while nothing is due: others queue, first come first served.
            let Some((number, due)) = schedule.lock().await.next().await? else {
                return Ok(times);
            };
            let mut client = match kept.take() {
                Some(client) => client,
                None => self.connect().await?,
            };
            client.answer(self.size, self.after, &count).await?;
            if number >= self.unheeded {
                times.push(due.elapsed());
            }
            match self.after {
                After::Keep => kept = Some(client),
                After::Close => client.end().await?,
            }
        }
    }

    async fn connect(&self) -> io::Result<Client> {
        let wire = Wire::connect(self.address, None).await?;
        Ok(Client::new(wire, self.block, 4 * 1024))
    }
}

/// A thread that asks; it ends when this is dropped.
struct Asking {
    told: Option<oneshot::Receiver<Result<Vec<Duration>, Trouble>>>,
    thread: Option<JoinHandle<()>>,
}

impl Asking {
    async fn times(mut self) -> Result<Vec<Duration>, Trouble> {
        let Some(told) = &mut self.told else {
            return pending().await;
        };
        told.await.map_err(Trouble::broken)?
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.told.take();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// What is due next, and when.
struct Due {
    began: Instant,
    gap: Duration,
    next: u32,
    end: u32,
    alarm: AsyncFd<OwnedFd>,
}

impl Due {
    /// The first request is due now.
    fn new(pace: Pace) -> io::Result<Self> {
        // The runtime's own timers know milliseconds.
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let alarm = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            unsafe_code,
            reason = "tokio registers a descriptor on its owner's word"
        )]
        // SAFETY: an `OwnedFd` is one open descriptor, always the same one, until it is
        // dropped, which happens after it is deregistered.
        let alarm = unsafe { AsyncFd::register_with_interest(alarm, Interest::READABLE) };
        Ok(Self {
            began: Instant::now(),
            gap: pace.gap,
            next: 0,
            end: pace.unheeded.saturating_add(pace.requests),
            alarm: alarm.map_err(io::Error::from)?,
        })
    }

    /// Waits until the next request is due: its number and that time, which is long past
    /// when nobody was idle. `None` after the last one.
    async fn next(&mut self) -> io::Result<Option<(u32, Instant)>> {
        if self.next >= self.end {
            return Ok(None);
        }
        let (number, due) = (self.next, self.began + self.gap * self.next);
        self.next += 1;
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            self.sleep(left).await?;
        }
        Ok(Some((number, due)))
    }

    async fn sleep(&self, time: Duration) -> io::Result<()> {
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(time).map_err(io::Error::other)?,
        };
        timerfd_settime(&self.alarm, TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.alarm.readable().await?;
            let rung = ready.try_io(|alarm| Ok(rustix::io::read(alarm, &mut [0; 8])?));
            if let Ok(rung) = rung {
                return rung.map(|_| ());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    static BLOCK: &[u8] = b"0123456789";

    fn pace(address: SocketAddr, gap: Duration) -> Pace {
        Pace {
            address,
            after: After::Keep,
            connections: 1,
            gap,
            unheeded: 0,
            requests: 20,
            size: 1,
            block: BLOCK,
        }
    }

    /// Answers one connection; the first answer is held back so long.
    async fn held_back(listener: TcpListener, time: Duration) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let mut waits = Some(time);
        while stream.read(&mut request).await.unwrap() > 0 {
            if let Some(time) = waits.take() {
                tokio::time::sleep(time).await;
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0";
            stream.write_all(answer).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_was_due_while_a_system_stalled_is_charged_for_the_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (gap, stall) = (Duration::from_millis(1), Duration::from_millis(40));
        let pace = pace(listener.local_addr().unwrap(), gap);
        let (mut times, ()) = tokio::join!(
            async { pace.keep(None).await.unwrap() },
            held_back(listener, stall)
        );
        times.sort();
        assert_eq!(times.len(), 20);
        // The last of them was due 19 ms after the first.
        let shortest = times.first().unwrap();
        assert!(*shortest >= stall - gap * 19, "{times:?}");
    }

    #[tokio::test]
    async fn requests_are_due_at_even_distances_and_none_early() {
        let gap = Duration::from_micros(300);
        let mut due = Due::new(pace(([127, 0, 0, 1], 1).into(), gap)).unwrap();
        let began = due.began;
        for number in 0..20 {
            let (told, time) = due.next().await.unwrap().unwrap();
            assert_eq!((told, time), (number, began + gap * number));
            assert!(Instant::now() >= time);
        }
        assert!(due.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn those_that_warm_up_do_not_count() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pace = Pace {
            unheeded: 5,
            requests: 10,
            ..pace(listener.local_addr().unwrap(), Duration::ZERO)
        };
        let (times, ()) = tokio::join!(
            async { pace.keep(None).await.unwrap() },
            held_back(listener, Duration::ZERO)
        );
        assert_eq!(times.len(), 10);
    }

    #[tokio::test]
    async fn a_wrong_answer_is_no_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pace = Pace {
            size: 2,
            ..pace(listener.local_addr().unwrap(), Duration::ZERO)
        };
        // It sees its connection broken off, before or after the error is told.
        let answering = tokio::spawn(held_back(listener, Duration::ZERO));
        let times = pace.keep(None).await;
        assert!(matches!(times, Err(Trouble::Wrong(_))), "{times:?}");
        answering.abort();
    }
}
