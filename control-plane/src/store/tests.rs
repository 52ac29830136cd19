//! The store against a real Postgres: the promises that hold between many writers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::AssertSqlSafe;
use tidegate_core::document::Document;
use tidegate_local::databases::Database;

use super::Store;
use crate::clock;
use crate::model::Author;
use crate::seal::Kek;

impl Store {
    /// For rows that no method writes.
    pub(crate) async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(&self.pool).await.unwrap();
    }

    /// As when the database goes away.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

async fn store() -> (Store, Database) {
    let database = Database::create().await.unwrap();
    let store = Store::connect(database.url()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kek = Kek::in_file(&folder.path().join("kek"), true).unwrap();
    store.cluster(&kek, clock::now()).await.unwrap();
    (store, database)
}

fn document(weight: u16) -> Document {
    let text = format!("pools: [{{ name: p, backends: [{{ address: ':1', weight: {weight} }}] }}]");
    Document::parse(&text).unwrap()
}

const WRITERS: u16 = 8;
const COMMITS: u16 = 250;

/// Commits of one writer: every one changes something, whatever others did.
async fn write_many(store: Store, writer: u16) {
    let author = Author(format!("writer {writer}"));
    for _ in 0..COMMITS {
        let mut writing = store.write(&author).await.unwrap();
        let before = writing.document().pools.first();
        let before = before.map_or(0, |pool| pool.backends[0].weight.get());
        writing.set_document(document(before % 256 + 1), "apply", "config");
        let numbers = writing.numbers();
        let commit = writing.commit().await.unwrap();
        assert!(commit.changed);
        assert_eq!(commit.numbers.revision, numbers.revision + 1);
        assert_eq!(commit.numbers.change, numbers.change + 1);
    }
}

/// Follows the numbers, as a replica does: all that are new are there, whole.
async fn follow(store: Store, done: Arc<AtomicBool>) -> u64 {
    let mut seen = 0;
    loop {
        let last_look = done.load(Ordering::SeqCst);
        let numbers = store.numbers().await.unwrap();
        assert!(
            numbers.revision >= seen,
            "{} after {seen}",
            numbers.revision
        );
        assert_eq!(numbers.revision, numbers.change);
        let new = u32::try_from(numbers.revision - seen).unwrap();
        let revisions = store
            .revisions(Some(numbers.revision + 1), new.max(1))
            .await
            .unwrap();
        let there: Vec<u64> = revisions.iter().rev().map(|r| r.number).collect();
        let expected: Vec<u64> = (seen + 1..=numbers.revision).collect();
        if new > 0 {
            assert_eq!(there, expected);
        }
        seen = numbers.revision;
        if last_look {
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_are_never_skipped_nor_out_of_order_under_eight_writers() {
    let (store, _database) = store().await;
    let done = Arc::new(AtomicBool::new(false));
    let poller = tokio::spawn(follow(store.clone(), Arc::clone(&done)));
    let writers = (0..WRITERS).map(|writer| tokio::spawn(write_many(store.clone(), writer)));
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    let seen = tokio::time::timeout(Duration::from_secs(60), poller).await;
    assert_eq!(seen.unwrap().unwrap(), u64::from(WRITERS * COMMITS));
}
