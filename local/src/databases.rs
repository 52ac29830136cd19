//! Databases for tests: each test has one of its own, copied from a template that
//! was migrated once, and dropped with the test.
//!
//! They are on the server that [`SERVER`] names (`tidegate-postgres run` sets it for
//! a whole run of tests) or, without it, on a private one of this process.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use thiserror::Error;
use tokio::sync::Mutex;

use crate::postgres::{self, Durability, Server};

/// The variable with the address of a server for tests.
pub const SERVER: &str = "TIDEGATE_TEST_POSTGRES";

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// Two processes that need the template at once: one makes it, one waits.
const TEMPLATE_LOCK: i64 = 0x7469_6465;

/// Why there is no database.
#[derive(Debug, Error)]
pub enum Error {
    /// No server.
    #[error(transparent)]
    Server(#[from] postgres::Error),
    /// The server refused something.
    #[error("the Postgres for tests")]
    Sql(#[from] sqlx::Error),
    /// A migration is wrong.
    #[error("migrating the template")]
    Migration(#[from] MigrateError),
    /// No directory for a private server.
    #[error("a directory for a private Postgres")]
    Directory(#[from] io::Error),
}

/// A migrated database; dropped when dropped.
pub struct Database {
    name: String,
    url: String,
    server: Arc<Host>,
}

/// The server of tests' databases.
struct Host {
    /// Of its database `postgres`.
    url: String,
    template: String,
    _private: Option<Private>,
}

/// In this order: the server ends, then its directory goes.
struct Private {
    _server: Server,
    _directory: TempDir,
}

impl Database {
    /// A new one on the server for tests.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn create() -> Result<Self, Error> {
        static SHARED: Mutex<Weak<Host>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        let server = match shared.upgrade() {
            Some(server) => server,
            None => Arc::new(Host::find().await?),
        };
        *shared = Arc::downgrade(&server);
        drop(shared);
        Self::on(server).await
    }

    /// A new one on the server at `url`, whatever that database is.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn create_at(url: &str) -> Result<Self, Error> {
        Self::on(Arc::new(Host::at(url.to_owned(), None).await?)).await
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name on the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a statement in it: what a test cannot wait for, such as a day to pass.
    ///
    /// # Errors
    /// As the server refuses.
    pub async fn execute(&self, sql: &'static str) -> Result<u64, Error> {
        let mut connection = PgConnection::connect(&self.url).await?;
        let done = sqlx::query(sql).execute(&mut connection).await?;
        connection.close().await?;
        Ok(done.rows_affected())
    }

    async fn on(server: Arc<Host>) -> Result<Self, Error> {
        let name = unique_name();
        let (template, url) = (&server.template, with_database(&server.url, &name));
        let mut connection = PgConnection::connect(&server.url).await?;
        run(
            &mut connection,
            format!("create database {name} template {template}"),
        )
        .await?;
        connection.close().await?;
        Ok(Self { name, url, server })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The thread that drops us may be inside a runtime, where nothing may block
        // on another one.
        let (url, name) = (&self.server.url, &self.name);
        std::thread::scope(|scope| {
            let dropped = scope.spawn(|| remove(url, name)).join();
            if !matches!(dropped, Ok(Ok(()))) {
                eprintln!("the test's database {name} is left on its server: {dropped:?}");
            }
        });
    }
}

#[tokio::main(flavor = "current_thread")]
async fn remove(server: &str, name: &str) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect(server).await?;
    // Also when a killed control plane's connections are still there.
    run(
        &mut connection,
        format!("drop database {name} with (force)"),
    )
    .await?;
    connection.close().await
}

impl Host {
    async fn find() -> Result<Self, Error> {
        if let Ok(url) = std::env::var(SERVER) {
            return Self::at(url, None).await;
        }
        let directory = postgres::temporary_directory()?;
        let server = Server::start(directory.path(), Durability::Fast).await?;
        let url = server.url("postgres");
        let private = Private {
            _server: server,
            _directory: directory,
        };
        Self::at(url, Some(private)).await
    }

    async fn at(url: String, private: Option<Private>) -> Result<Self, Error> {
        let template = template_name();
        make_template(&url, &template).await?;
        Ok(Self {
            url,
            template,
            _private: private,
        })
    }
}

/// Makes the migrated template on a server that does not have it yet.
///
/// # Errors
/// See [`enum@Error`].
pub async fn prepare(server: &str) -> Result<(), Error> {
    make_template(server, &template_name()).await
}

async fn make_template(server: &str, name: &str) -> Result<(), Error> {
    let mut connection = PgConnection::connect(server).await?;
    // Given back with the connection, however this ends.
    sqlx::query("select pg_advisory_lock($1)")
        .bind(TEMPLATE_LOCK)
        .execute(&mut connection)
        .await?;
    let found: Option<(i32,)> = sqlx::query_as("select 1 from pg_database where datname = $1")
        .bind(name)
        .fetch_optional(&mut connection)
        .await?;
    if found.is_none() {
        // Its name only when it is whole.
        let new = format!("{name}_new");
        run(
            &mut connection,
            format!("drop database if exists {new} with (force)"),
        )
        .await?;
        run(&mut connection, format!("create database {new}")).await?;
        migrate(&with_database(server, &new)).await?;
        run(
            &mut connection,
            format!("alter database {new} rename to {name}"),
        )
        .await?;
        // A connection to a template would keep it from being copied.
        run(
            &mut connection,
            format!("alter database {name} with is_template true allow_connections false"),
        )
        .await?;
    }
    Ok(connection.close().await?)
}

async fn migrate(url: &str) -> Result<(), Error> {
    let mut connection = PgConnection::connect(url).await?;
    MIGRATIONS.run(&mut connection).await?;
    Ok(connection.close().await?)
}

/// Runs a statement that takes names, which are never from outside.
async fn run(connection: &mut PgConnection, sql: String) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await?;
    Ok(())
}

/// One per content of `migrations/`.
fn template_name() -> String {
    let mut hasher = DefaultHasher::new();
    for migration in MIGRATIONS.iter() {
        (migration.version, &migration.checksum).hash(&mut hasher);
    }
    format!("template_{:016x}", hasher.finish())
}

/// Unlike any other name also after process numbers have come round.
fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut name = format!("test_{}", std::process::id());
    for part in [
        u128::from(NEXT.fetch_add(1, Ordering::Relaxed)),
        time.unwrap_or_default().as_micros(),
    ] {
        // A string takes all that is written.
        let _written = write!(name, "_{part}");
    }
    name
}

/// The address of another database on the same server.
fn with_database(url: &str, name: &str) -> String {
    let (server, parameters) = match url.split_once('?') {
        Some((server, parameters)) => (server, format!("?{parameters}")),
        None => (url, String::new()),
    };
    let start = server.find("://").map_or(0, |at| at + "://".len());
    let (scheme, rest) = server.split_at(start);
    let host = rest.split_once('/').map_or(rest, |(host, _)| host);
    format!("{scheme}{host}/{name}{parameters}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_of_a_server_changes_only_the_name() {
        for (url, expected) in [
            (
                "postgres:///postgres?host=/run/pg&user=me",
                "postgres:///x?host=/run/pg&user=me",
            ),
            (
                "postgres://me:secret@host:5433",
                "postgres://me:secret@host:5433/x",
            ),
            ("postgres://host/old", "postgres://host/x"),
        ] {
            assert_eq!(with_database(url, "x"), expected);
        }
    }

    #[tokio::test]
    async fn each_test_has_a_migrated_database_of_its_own_that_goes_with_it() {
        let (one, other) = (
            Database::create().await.unwrap(),
            Database::create().await.unwrap(),
        );
        assert_ne!(one.name(), other.name());
        let _connection = PgConnection::connect(one.url()).await.unwrap();
        let sql = "insert into leases values ('a', gen_random_uuid(), now())";
        assert_eq!(one.execute(sql).await.unwrap(), 1);
        let mut elsewhere = PgConnection::connect(other.url()).await.unwrap();
        let (count,): (i64,) = sqlx::query_as("select count(*) from leases")
            .fetch_one(&mut elsewhere)
            .await
            .unwrap();
        assert_eq!(count, 0);

        // With its connection still open.
        let name = one.name().to_owned();
        drop(one);
        let left: Option<(i32,)> = sqlx::query_as("select 1 from pg_database where datname = $1")
            .bind(name)
            .fetch_optional(&mut elsewhere)
            .await
            .unwrap();
        assert_eq!(left, None);
    }

    #[tokio::test]
    async fn a_template_is_made_once_also_by_many_at_once() {
        let database = Database::create().await.unwrap();
        let url = &database.server.url;
        let name = format!("{}_t", database.name());
        let made = tokio::try_join!(
            make_template(url, &name),
            make_template(url, &name),
            make_template(url, &name),
        );
        made.unwrap();
        let mut connection = PgConnection::connect(url).await.unwrap();
        let (copies,): (i64,) =
            sqlx::query_as("select count(*) from pg_database where datname like $1 || '%'")
                .bind(&name)
                .fetch_one(&mut connection)
                .await
                .unwrap();
        assert_eq!(copies, 1);
        run(
            &mut connection,
            format!("alter database {name} is_template false"),
        )
        .await
        .unwrap();
        run(&mut connection, format!("drop database {name}"))
            .await
            .unwrap();
    }
}
