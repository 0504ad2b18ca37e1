//! ALL SQL. One enum of two pools and one macro, [`on!`], so that each query is written once and runs on SQLite and on
//! PostgreSQL; a file per table family holds the row and its queries. Rows are plain: what a column means is the
//! engines' affair, and a query on a tenant's table takes a `TenantId`.
//!
//! Every change of servers, users or keys goes through `on!(change …)`, which moves the registry's revision in the same
//! transaction: whoever polls [`Store::revision`] misses nothing, and on PostgreSQL [`Store::announcements`] tells at
//! once. Times are microseconds since 1970, because a number
//! sorts and divides alike in both databases.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
pub use sqlx::types::Json;
use sqlx::{Executor as _, PgPool};
use time::OffsetDateTime;

use self::sqlite::Sqlite;

/// Runs one query text on whichever database is open.
///
/// - `on!(read self, db => …)`: `db` is the pool.
/// - `on!(write self, tx => …)`: `tx` is the connection of a transaction, committed when the body ends; `?` in the body
///   leaves and rolls back. SQLite begins it `IMMEDIATE`, or two writers that both read first could deadlock.
/// - `on!(brief self, tx => …)`: the same for what is lost without harm when the power fails in the next moment: somebody
///   signs in again. SQLite does not wait for the disk then, which takes it milliseconds each time.
/// - `on!(alone self, db => …)`: `brief` for one statement, which is a transaction of its own and goes to the database and back
///   once instead of three times, while other writers wait. All that it returns must be fetched, or SQLite cannot say that
///   it failed to commit.
/// - `on!(change self, tx => …)`: like `write`, and the registry's revision moves. The counter's row is taken first, so on
///   PostgreSQL changes of the registry come one after the other as on SQLite. PostgreSQL tells other processes when the
///   transaction commits.
/// - `on!(brief change self, tx => …)`: both.
macro_rules! on {
    (read $store:expr, $db:ident => $body:expr) => {
        match &$store.db {
            $crate::store::Db::Sqlite($crate::store::sqlite::Sqlite { read: $db, .. }) => $body,
            $crate::store::Db::Postgres($db) => $body,
        }
    };
    (write $store:expr, $tx:ident => $body:expr) => {
        $crate::store::on!(@write $store, durable, $tx => $body, $body)
    };
    (brief change $store:expr, $tx:ident => $body:expr) => {
        $crate::store::on!(@change $store, brief, $tx => $body)
    };
    (brief $store:expr, $tx:ident => $body:expr) => {
        $crate::store::on!(@write $store, brief, $tx => $body, $body)
    };
    (alone $store:expr, $db:ident => $body:expr) => {
        match &$store.db {
            $crate::store::Db::Sqlite(db) => {
                let mut turn = db.turn().await?;
                let value = {
                    let $db = turn.brief.connection().await?;
                    $crate::store::on!(@written $body)
                };
                turn.brief.done();
                value
            }
            $crate::store::Db::Postgres($db) => $crate::store::on!(@written $body),
        }
    };
    (change $store:expr, $tx:ident => $body:expr) => {
        $crate::store::on!(@change $store, durable, $tx => $body)
    };
    (@change $store:expr, $writer:ident, $tx:ident => $body:expr) => {
        $crate::store::on!(@write $store, $writer, $tx => {
            sqlx::query($crate::store::MOVE).execute(&mut *$tx).await?;
            $body
        }, {
            sqlx::query($crate::store::MOVE).execute(&mut *$tx).await?;
            sqlx::query($crate::store::announcements::ANNOUNCE).execute(&mut *$tx).await?;
            $body
        })
    };
    (@write $store:expr, $writer:ident, $tx:ident => $sqlite:expr, $postgres:expr) => {
        match &$store.db {
            $crate::store::Db::Sqlite(db) => {
                let mut turn = db.turn().await?;
                let value = $crate::store::on!(@run turn.$writer.begin().await?, $tx => $sqlite);
                turn.$writer.done();
                value
            }
            $crate::store::Db::Postgres(pool) => $crate::store::on!(@run pool.begin().await?, $tx => $postgres),
        }
    };
    (@run $begun:expr, $tx:ident => $body:expr) => {{
        $crate::place::reached("before a transaction");
        let mut transaction = $begun;
        let value = {
            let $tx = &mut *transaction;
            $body
        };
        $crate::place::reached("before a commit");
        transaction.commit().await?;
        $crate::place::reached("after a commit");
        value
    }};
    (@written $body:expr) => {{
        $crate::place::reached("before a write");
        let value = $body;
        $crate::place::reached("after a write");
        value
    }};
}
pub(crate) use on;

/// Moves the registry's revision.
const MOVE: &str = "UPDATE counters SET value = value + 1 WHERE name = 'registry_revision'";

#[macro_use]
mod row;

pub mod access_rules;
pub mod announcements;
pub mod assertions;
pub mod audit;
pub mod audit_blocks;
pub mod audit_search;
pub mod audit_view;
pub mod authorizations;
pub mod bans;
pub mod catalogs;
pub mod connection_clients;
pub mod connections;
pub mod consents;
pub mod data_keys;
pub mod directories;
pub mod families;
pub mod grants;
pub mod id_keys;
pub mod idempotency;
pub mod keys;
pub mod live_tokens;
pub mod logins;
pub mod look;
mod migrations;
pub mod oauth_clients;
pub mod people;
mod places;
pub mod refreshes;
pub mod replicas;
pub mod resealings;
pub mod rollup_sums;
pub mod rollups;
pub mod samples;
pub mod sealed;
pub mod servers;
pub mod signing_keys;
mod sqlite;
pub mod tenants;
pub mod traces;
pub mod trusted_issuers;
pub mod users;

/// Why the store did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another row of the tenant has this name already.
    #[error("the name is taken")]
    Taken,
    /// There is no such row in this tenant.
    #[error("no such row")]
    Missing,
    /// The row was changed since it was read.
    #[error("the row was changed meanwhile")]
    Stale,
    /// The directory's people are another tenant's.
    #[error("the directory {directory} belongs to the tenant `{tenant}`")]
    DirectoryHeld {
        /// Which.
        directory: uuid::Uuid,
        /// Whose it is.
        tenant: String,
    },
    /// The change would leave nobody who can administer the gateway.
    #[error("this is the last active administrator")]
    LastAdmin,
    /// A stored value cannot be read; the row was written by something else.
    #[error("a stored value cannot be read: {0}")]
    Corrupt(String),
    /// The address names no database that this program speaks to.
    #[error("`{0}` is no database address; use sqlite://PATH or postgres://USER@HOST/DATABASE")]
    Address(String),
    /// The database's file cannot be made or protected.
    #[error("cannot open the database file {path}: {cause}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        cause: std::io::Error,
    },
    /// Nothing answers at the database's address, or it takes no connection now.
    #[error("{place} cannot be reached: {cause}; see that it runs, and that MREG_DATABASE_URL is right")]
    Unreachable {
        /// Which database.
        place: String,
        /// Why.
        cause: String,
    },
    /// It answers, but not to this program: wrong user, password or name, or no database at all.
    #[error("{place} cannot be used: {cause}; correct MREG_DATABASE_URL, or what it refuses")]
    Unusable {
        /// Which database.
        place: String,
        /// Why.
        cause: String,
    },
    // The texts of the last two hold their causes: as sources they would be told twice.
    /// The tables could not be brought up to date.
    #[error("cannot bring the database up to date: {0}")]
    Migrate(sqlx::migrate::MigrateError),
    /// The database looked for so long that it was told to stop.
    #[error("the database looked for too long")]
    TooLong,
    /// The database failed or is away.
    #[error("database: {0}")]
    Database(sqlx::Error),
}

impl StoreError {
    /// Whether the database refused what is in the rows, as it always will, and did not just fail.
    pub(crate) fn is_of_content(&self) -> bool {
        match self {
            Self::Taken | Self::Database(sqlx::Error::Encode(_)) => true,
            Self::Database(sqlx::Error::Database(cause)) => cause.code().is_some_and(|code| match code.len() {
                // SQLSTATE: data exceptions, broken constraints, and what is too large for an index.
                5 => ["22", "23", "54"].iter().any(|class| code.starts_with(class)),
                // SQLite's extended codes: too large, broken constraints, wrong types.
                _ => code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 18..=20)),
            }),
            _ => false,
        }
    }

    /// Whether it is about these rows, as somebody else wrote them or just now writes them, and others may be well.
    pub(crate) fn is_of_rows(&self) -> bool {
        matches!(self, Self::Stale | Self::Database(sqlx::Error::ColumnDecode { .. })) || self.is_of_content()
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Migrate(error)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(cause) if cause.is_unique_violation() => Self::Taken,
            sqlx::Error::Database(cause) if cause.is_foreign_key_violation() => Self::Missing,
            // SQLSTATE of a cancelled statement; SQLite's code of an interrupted one.
            sqlx::Error::Database(cause) if matches!(cause.code().as_deref(), Some("57014" | "9")) => Self::TooLong,
            sqlx::Error::RowNotFound => Self::Missing,
            _ => Self::Database(error),
        }
    }
}

/// The open database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
}

#[derive(Debug, Clone)]
enum Db {
    Sqlite(Sqlite),
    Postgres(PgPool),
}

/// How long a query waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(10);

impl Store {
    /// Whether other processes may have the same database open.
    pub fn is_shared(&self) -> bool {
        matches!(self.db, Db::Postgres(_))
    }

    /// Opens `url` (`sqlite://PATH` or `postgres://…`) with at most `max_connections` connections (at least 1), makes the
    /// file when there is none (readable by its owner only) and brings the tables up to date.
    pub async fn connect(url: &str, max_connections: u32) -> Result<Self, StoreError> {
        let most = max_connections.max(1);
        let db = match scheme(url)? {
            "sqlite" => Db::Sqlite(Sqlite::open(url, most).await?),
            _ => Db::Postgres(open_postgres(url, most).await?),
        };
        let store = Self { db };
        let migrator = migrations::migrator();
        on!(read store, db => migrator.run(db).await?);
        store.date_first_start().await?;
        Ok(store)
    }

    /// Answers when the database does.
    pub async fn ping(&self) -> Result<(), StoreError> {
        on!(read self, db => sqlx::query("SELECT 1").execute(db).await.map(drop)?);
        Ok(())
    }

    /// Grows with every change of servers, users or keys, of any tenant and by any process.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        let text = "SELECT value FROM counters WHERE name = 'registry_revision'";
        Ok(on!(read self, db => sqlx::query_scalar(text).fetch_one(db).await?))
    }

    /// Connections in use, open but idle, and the most that there may be. The one that writes to SQLite is among them.
    pub fn connections(&self) -> [(&'static str, usize); 3] {
        let (open, idle, most) =
            on!(read self, db => (db.size() as usize, db.num_idle(), db.options().get_max_connections() as usize));
        let (writing, resting) = match &self.db {
            Db::Sqlite(db) if db.is_writing() => (1, 0),
            Db::Sqlite(_) => (0, 1),
            Db::Postgres(_) => (0, 0),
        };
        [("in_use", open.saturating_sub(idle) + writing), ("idle", idle + resting), ("limit", most + writing + resting)]
    }

    /// How long it takes now until there is a connection, or it is plain that there will be none. It is given back at once.
    pub async fn wait_for_connection(&self) -> Duration {
        let began = std::time::Instant::now();
        on!(read self, db => db.acquire().await.map(drop).unwrap_or_default());
        if let Db::Sqlite(db) = &self.db {
            _ = db.turn().await;
        }
        began.elapsed()
    }

    /// Waits for what runs and closes every connection.
    pub async fn close(&self) {
        if let Db::Sqlite(db) = &self.db {
            db.close_writers().await;
        }
        on!(read self, db => db.close().await);
    }
}

/// Which of the two databases an address is of: `sqlite`, `postgres` or `postgresql`.
fn scheme(url: &str) -> Result<&str, StoreError> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some(scheme @ ("sqlite" | "postgres" | "postgresql")) => Ok(scheme),
        // The address may hold a password: only its scheme is repeated.
        other => Err(StoreError::Address(other.unwrap_or("").chars().take(20).collect())),
    }
}

fn postgres_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(|_| StoreError::Address("postgres".into()))?;
    Ok(options.application_name("mcp-gateway"))
}

async fn open_postgres(url: &str, most: u32) -> Result<PgPool, StoreError> {
    let options = postgres_options(url)?;
    let pool = PgPoolOptions::new().max_connections(most).acquire_timeout(ACQUIRE);
    // What a process that is cut off amid a transaction has locked, others wait for.
    let pool = pool.after_connect(|connection, _| {
        Box::pin(async move {
            connection.execute("SET idle_in_transaction_session_timeout = '60s'").await?;
            Ok(())
        })
    });
    Ok(pool.connect_with(options).await?)
}

/// What a change of `rows` rows came to that was to change one: where it named a version (`expected`), one that is not there any more was
/// changed as well.
fn changed_one(rows: u64, expected: Option<i64>) -> Result<(), StoreError> {
    match (rows, expected) {
        (0, Some(_)) => Err(StoreError::Stale),
        (0, None) => Err(StoreError::Missing),
        _ => Ok(()),
    }
}

/// Microseconds since 1970; what a column of time holds.
pub fn micros(time: OffsetDateTime) -> i64 {
    time.unix_timestamp() * 1_000_000 + i64::from(time.microsecond())
}

/// A span as columns hold times.
fn micros_of(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 4)
}

/// The time that a column holds.
pub fn at(micros: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The time that a column may hold.
pub fn at_opt(micros: Option<i64>) -> Option<OffsetDateTime> {
    micros.map(at)
}

/// Now, as exactly as it can be stored.
pub fn now() -> OffsetDateTime {
    at(micros(crate::clock::now()))
}

/// Runs a text on a SQLite database past every store: for tests of what follows when it is not as it should be.
#[cfg(test)]
pub(crate) async fn run(address: &str, text: &str) {
    use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

    let mut connection = sqlx::SqliteConnection::connect(address).await.unwrap();
    connection.execute(AssertSqlSafe(text.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}
