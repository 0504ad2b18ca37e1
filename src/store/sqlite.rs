//! SQLite's connections: some that read, and two that write, one after the other. SQLite lets one write at a time and has
//! others try again after a while; here they wait in a queue instead, and the next begins at once.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::{Mutex, OwnedMutexGuard};

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
    /// Writes what is on the disk when the commit returns: a revoked key stays revoked over a power cut.
    pub(super) durable: SqlitePool,
    /// Writes what reaches the disk a moment later, in the same order.
    pub(super) brief: SqlitePool,
    turn: Arc<Mutex<()>>,
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
        let pool = |most| SqlitePoolOptions::new().max_connections(most).acquire_timeout(ACQUIRE);
        // In WAL mode a commit that is not waited for may be lost, but leaves the file whole.
        let brief = options.clone().synchronous(SqliteSynchronous::Normal);
        Ok(Self {
            durable: pool(1).connect_with(options.clone()).await?,
            brief: pool(1).connect_lazy_with(brief),
            read: pool(most).connect_with(options).await?,
            turn: Arc::default(),
        })
    }

    /// The turn of who writes, until it is dropped; fails when it does not come within the time that a connection is waited for.
    pub(super) async fn turn(&self) -> Result<OwnedMutexGuard<()>, StoreError> {
        let turn = tokio::time::timeout(ACQUIRE, self.turn.clone().lock_owned()).await;
        turn.map_err(|_| StoreError::Database(sqlx::Error::PoolTimedOut))
    }

    /// Waits for what is written and closes the connections that write.
    pub(super) async fn close_writers(&self) {
        self.brief.close().await;
        self.durable.close().await;
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
