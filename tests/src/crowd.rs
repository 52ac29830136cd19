//! Many open WebSockets that all echo, all the time, while a test does something
//! to the fleet; afterwards each says whether it lived through it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::task::JoinHandle;

use crate::client::ws::Ws;
use crate::until;

/// Between two echoes of one member: often enough to meet every change, seldom
/// enough that hundreds leave the machine to what is tested.
const PACE: Duration = Duration::from_millis(100);

/// The open WebSockets; closed when dropped.
pub struct Crowd {
    members: Vec<Member>,
}

struct Member {
    backend: String,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    echoes: AtomicU64,
    ended: AtomicBool,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Crowd {
    /// Opens `count` WebSockets; `open` says how the one of that number does.
    pub async fn open(count: usize, open: impl AsyncFn(usize) -> io::Result<Ws>) -> Self {
        let opening = (0..count).map(|i| open(i));
        let opened = try_join_all(opening).await.expect("the fleet serves");
        Self {
            members: opened.into_iter().map(Member::new).collect(),
        }
    }

    /// How many are with a backend.
    pub fn at(&self, backend: &str) -> usize {
        self.members.iter().filter(|m| m.backend == backend).count()
    }

    /// The backends of those that have ended.
    pub fn ended(&self) -> Vec<&str> {
        let ended = self
            .members
            .iter()
            .filter(|m| m.seen.ended.load(Ordering::Acquire));
        ended.map(|m| m.backend.as_str()).collect()
    }

    /// Waits until each has echoed something that it sent after this call, or has
    /// ended: from then on [`Crowd::ended`] knows of everything before the call.
    pub async fn round(&self) {
        let echoes = |m: &Member| m.seen.echoes.load(Ordering::Acquire);
        let before: Vec<u64> = self.members.iter().map(echoes).collect();
        until("a round of echoes", async || {
            // The first echo after the call may have been under way at its time.
            let moved = |(m, before): (&Member, &u64)| echoes(m) >= before + 2;
            let ended = |m: &Member| m.seen.ended.load(Ordering::Acquire);
            self.members
                .iter()
                .zip(&before)
                .all(|(m, b)| ended(m) || moved((m, b)))
        })
        .await;
    }
}

impl Member {
    fn new(mut ws: Ws) -> Self {
        let backend = ws.backend().to_owned();
        let seen = Arc::new(Seen::default());
        let told = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(PACE);
            loop {
                pace.tick().await;
                let number = told.echoes.load(Ordering::Relaxed);
                if ws.echo(&format!("echo {number}")).await.is_err() {
                    break told.ended.store(true, Ordering::Release);
                }
                told.echoes.store(number + 1, Ordering::Release);
            }
        });
        Self {
            backend,
            seen,
            task,
        }
    }
}
