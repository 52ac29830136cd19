//! What happens, for those who watch: the last events of this control plane, each
//! with a number. `observer` writes, `api::events` reads. A reader that comes back
//! says what it read last and misses nothing, unless it was away for too long or
//! comes from another control plane: then it is told to read everything again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use uuid::Uuid;

/// Events kept for readers that come back.
const KEPT: usize = 4096;
/// Readers at once.
const READERS: usize = 256;

/// Something that happened. An event says what to read again, and no more.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Event {
    /// The document or the facts have changed.
    Change { change: u64, revision: u64 },
    /// An agent joined, left, or said what it made of what is wanted of it; many did,
    /// where none is named.
    Agent {
        #[serde(skip_serializing_if = "Option::is_none")]
        agent: Option<Uuid>,
    },
    /// An agent sees a backend in another state; many do, where none is named.
    Backend {
        #[serde(flatten)]
        seen: Option<BackendEvent>,
    },
    /// Something was done: this is the last row of the audit.
    Audit { number: u64 },
    /// What agents report was written: there are new figures.
    Sample {
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
    },
}

/// Which backend, and who sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) struct BackendEvent {
    pub(crate) pool: String,
    pub(crate) backend: String,
    pub(crate) agent: Uuid,
}

impl Event {
    /// Its kind, as it is sent.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Change { .. } => "change",
            Self::Agent { .. } => "agent",
            Self::Backend { .. } => "backend",
            Self::Audit { .. } => "audit",
            Self::Sample { .. } => "sample",
        }
    }
}

/// The last events.
pub(crate) struct Journal {
    /// Another one after each start: numbers of two are never compared.
    id: Uuid,
    kept: Mutex<VecDeque<Event>>,
    /// The number of the last one. They are numbered from 1 without a gap.
    last: watch::Sender<u64>,
    places: Arc<Semaphore>,
}

/// Somebody who reads on.
pub(crate) struct Reader {
    journal: Arc<Journal>,
    /// The number of the event it read last; none where it has to read everything.
    read: Option<u64>,
    last: watch::Receiver<u64>,
    _place: OwnedSemaphorePermit,
}

/// What a reader gets.
#[derive(Debug, PartialEq)]
pub(crate) enum News {
    /// In their order, each with the name by which its reader comes back.
    Events(Vec<(String, Event)>),
    /// Some were missed. The name is that of the last.
    Missed(String),
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            id: Uuid::now_v7(),
            kept: Mutex::default(),
            last: watch::channel(0).0,
            places: Arc::new(Semaphore::new(READERS)),
        }
    }
}

impl Journal {
    /// Writes what happened.
    pub(crate) fn write(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut kept = self.kept();
        let count = events.len() as u64;
        kept.extend(events);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
        // Under the lock: who reads the number finds the events.
        self.last.send_modify(|last| *last += count);
    }

    /// Whether anybody reads.
    pub(crate) fn is_read(&self) -> bool {
        self.last.receiver_count() > 0
    }

    /// Begins to read after the event of this name; `None` when there is no room for
    /// another reader.
    pub(crate) fn read(self: &Arc<Self>, after: Option<&str>) -> Option<Reader> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let last = self.last.subscribe();
        let now = *last.borrow();
        let read = after.and_then(|name| self.number(name));
        Some(Reader {
            journal: Arc::clone(self),
            read: read.filter(|read| *read <= now),
            last,
            _place: place,
        })
    }

    fn name(&self, number: u64) -> String {
        format!("{}-{number}", self.id.simple())
    }

    fn number(&self, name: &str) -> Option<u64> {
        let (id, number) = name.split_once('-')?;
        (id == self.id.simple().to_string()).then_some(())?;
        number.parse().ok()
    }

    /// What was written after an event, and the number of the last one.
    fn after(&self, read: Option<u64>) -> (u64, News) {
        let kept = self.kept();
        let last = *self.last.borrow();
        let forgotten = last.saturating_sub(kept.len() as u64);
        let Some(read) = read.filter(|read| (forgotten..=last).contains(read)) else {
            return (last, News::Missed(self.name(last)));
        };
        let read_of_kept = usize::try_from(read - forgotten).unwrap_or(usize::MAX);
        let news = kept.iter().skip(read_of_kept).zip(read + 1..);
        let news = news.map(|(event, number)| (self.name(number), event.clone()));
        (last, News::Events(news.collect()))
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// What happened since the last call; waits until something does. To be dropped
    /// and called again at will.
    pub(crate) async fn next(&mut self) -> News {
        if let Some(read) = self.read {
            // The journal is ours: it does not end before its reader.
            let _ = self.last.wait_for(|last| *last > read).await;
        }
        let (last, news) = self.journal.after(self.read);
        self.read = Some(last);
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(number: u64) -> Event {
        Event::Audit { number }
    }

    fn numbers(news: News) -> Vec<u64> {
        let News::Events(events) = news else {
            panic!("missed: {news:?}");
        };
        let number = |(_, event)| match event {
            Event::Audit { number } => number,
            other => panic!("{other:?}"),
        };
        events.into_iter().map(number).collect()
    }

    fn missed(news: News) -> String {
        let News::Missed(name) = news else {
            panic!("{news:?}");
        };
        name
    }

    #[tokio::test]
    async fn who_comes_first_reads_everything_and_then_what_happens() {
        let journal = Arc::new(Journal::default());
        journal.write(vec![audit(1)]);
        let mut reader = journal.read(None).unwrap();
        missed(reader.next().await);
        journal.write(vec![audit(2), audit(3)]);
        assert_eq!(numbers(reader.next().await), [2, 3]);
        let mut waiting = Box::pin(reader.next());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        journal.write(vec![audit(4)]);
        assert_eq!(numbers(waiting.await), [4]);
    }

    #[tokio::test]
    async fn who_comes_back_misses_nothing() {
        let journal = Arc::new(Journal::default());
        let mut reader = journal.read(None).unwrap();
        let name = missed(reader.next().await);
        drop(reader);
        assert!(!journal.is_read());
        journal.write((1..=5).map(audit).collect());
        let mut reader = journal.read(Some(&name)).unwrap();
        let News::Events(events) = reader.next().await else {
            panic!("missed");
        };
        assert_eq!(events.len(), 5);
        let third = events[2].0.clone();
        let mut reader = journal.read(Some(&third)).unwrap();
        assert_eq!(numbers(reader.next().await), [4, 5]);
        assert!(journal.is_read());
    }

    #[tokio::test]
    async fn who_was_away_for_too_long_is_told() {
        let journal = Arc::new(Journal::default());
        let mut reader = journal.read(None).unwrap();
        let name = missed(reader.next().await);
        journal.write((0..KEPT as u64).map(audit).collect());
        let kept = journal.read(Some(&name)).unwrap().next().await;
        assert_eq!(numbers(kept).len(), KEPT);
        journal.write(vec![audit(0)]);
        missed(journal.read(Some(&name)).unwrap().next().await);
        // A slow one as well: it costs no memory.
        missed(reader.next().await);
        journal.write(vec![audit(9)]);
        assert_eq!(numbers(reader.next().await), [9]);
    }

    #[tokio::test]
    async fn names_that_are_not_of_here_are_missed_not_believed() {
        let journal = Arc::new(Journal::default());
        journal.write(vec![audit(1)]);
        let other = Journal::default().name(1);
        let later = journal.name(2);
        let most = journal.name(u64::MAX);
        for name in ["", "-", "x", "1", &other, &later, &most] {
            missed(journal.read(Some(name)).unwrap().next().await);
        }
    }

    #[test]
    fn readers_are_bounded() {
        let journal = Arc::new(Journal::default());
        let readers: Vec<_> = (0..READERS).map(|_| journal.read(None).unwrap()).collect();
        assert!(journal.read(None).is_none());
        drop(readers);
        assert!(journal.read(None).is_some());
    }

    #[test]
    fn an_event_says_what_to_read_again() {
        let agent = Uuid::nil();
        let seen = BackendEvent {
            pool: "p".into(),
            backend: "b".into(),
            agent,
        };
        let rows = [
            (
                Event::Change {
                    change: 3,
                    revision: 2,
                },
                r#"{"change":3,"revision":2}"#,
            ),
            (Event::Agent { agent: None }, "{}"),
            (Event::Backend { seen: None }, "{}"),
            (
                Event::Backend { seen: Some(seen) },
                r#"{"pool":"p","backend":"b","agent":"00000000-0000-0000-0000-000000000000"}"#,
            ),
        ];
        for (event, json) in rows {
            assert_eq!(serde_json::to_string(&event).unwrap(), json);
        }
    }
}
