//! SQLite's connections: some that read, and two that write, one after the other. SQLite lets one write at a time and has
//! others try again after a while; here they wait in a queue instead, and the next begins at once.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Sqlite as Database, SqliteConnection, SqlitePool, Transaction};
use tokio::sync::{Mutex, MutexGuard};

use super::{ACQUIRE, StoreError};

/// How long a writer waits for one of another process.
const BUSY: Duration = Duration::from_secs(10);
/// Pages that a connection keeps in memory, KiB; the system keeps the file besides.
const PAGES: &str = "-512";

/// See the module. Clones are one.
#[derive(Debug, Clone)]
pub(super) struct Sqlite {
    /// Reads.
    pub(super) read: SqlitePool,
    writers: Arc<Mutex<Writers>>,
}

/// The connections that write. Who holds them has the turn.
#[derive(Debug)]
pub(super) struct Writers {
    /// Writes what is on the disk when the commit returns: a revoked key stays revoked over a power cut.
    pub(super) durable: Writer,
    /// Writes what reaches the disk a moment later, in the same order.
    pub(super) brief: Writer,
}

/// A connection that writes. It is of no pool, which would ask before and after each use whether it still lives, while everybody
/// else waits for the turn.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    /// Opened when it is first needed.
    open: Option<SqliteConnection>,
    /// Since somebody began and until they are done: whoever leaves half-way, leaves it so.
    busy: bool,
    closed: bool,
}

impl Writer {
    fn new(options: SqliteConnectOptions) -> Self {
        Self { options, open: None, busy: false, closed: false }
    }

    /// The connection, for one statement that is a transaction of its own. Say [`Writer::done`] afterwards.
    pub(super) async fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        if self.closed {
            return Err(sqlx::Error::PoolClosed);
        }
        // What was left half-way is rolled back before it answers; if its thread has ended, another one takes its place.
        if std::mem::replace(&mut self.busy, true)
            && let Some(open) = &mut self.open
            && open.ping().await.is_err()
        {
            self.open = None;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => self.options.connect().await?,
        };
        Ok(self.open.insert(open))
    }

    /// A transaction that may write. Say [`Writer::done`] after its commit.
    pub(super) async fn begin(&mut self) -> Result<Transaction<'_, Database>, sqlx::Error> {
        self.connection().await?.begin_with("BEGIN IMMEDIATE").await
    }

    /// Nothing was left half-way.
    pub(super) fn done(&mut self) {
        self.busy = false;
    }

    async fn close(&mut self) {
        self.closed = true;
        if let Some(open) = self.open.take()
            && let Err(error) = open.close().await
        {
            tracing::debug!(%error, "a connection to the database did not close");
        }
    }
}

impl Sqlite {
    /// Opens the file that `url` names; makes it when there is none. At most `most` connections read.
    pub(super) async fn open(url: &str, most: u32) -> Result<Self, StoreError> {
        let options = options(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .pragma("cache_size", PAGES)
            .synchronous(SqliteSynchronous::Full);
        let path = options.get_filename().to_owned();
        protect(&path).map_err(|cause| StoreError::File { path: path.display().to_string(), cause })?;
        // A file does not go away between two questions.
        let pool = SqlitePoolOptions::new().max_connections(most).acquire_timeout(ACQUIRE).test_before_acquire(false);
        // In WAL mode a commit that is not waited for may be lost, but leaves the file whole.
        let brief = Writer::new(options.clone().synchronous(SqliteSynchronous::Normal));
        let durable = Writer::new(options.clone());
        let writers = Arc::new(Mutex::new(Writers { durable, brief }));
        Ok(Self { writers, read: pool.connect_with(options).await? })
    }

    /// The turn of who writes, until it is dropped; fails when it does not come within the time that a connection is waited for.
    pub(super) async fn turn(&self) -> Result<MutexGuard<'_, Writers>, StoreError> {
        let turn = tokio::time::timeout(ACQUIRE, self.writers.lock()).await;
        turn.map_err(|_| StoreError::Database(sqlx::Error::PoolTimedOut))
    }

    /// Whether it is somebody's turn.
    pub(super) fn is_writing(&self) -> bool {
        self.writers.try_lock().is_err()
    }

    /// Waits for what is written and closes the connections that write.
    pub(super) async fn close_writers(&self) {
        let mut writers = self.writers.lock().await;
        writers.brief.close().await;
        writers.durable.close().await;
    }
}

/// How the file that `url` names is opened, if it is there.
pub(super) fn options(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    let options = SqliteConnectOptions::from_str(url).map_err(|_| StoreError::Address("sqlite".into()))?;
    Ok(options.create_if_missing(false).foreign_keys(true).busy_timeout(BUSY))
}

/// Makes the file before SQLite does, so that it is never readable by others; the files beside it inherit its mode.
fn protect(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}
