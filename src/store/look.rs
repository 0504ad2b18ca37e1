//! A look at a database before anything is done to it: that it can be reached and used, whether a gateway has been at work in
//! it, and under which keys its secrets are sealed. It makes no file and no table.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::{Store, StoreError, postgres_options, scheme, sqlite};
use crate::crypto::is_of_tenant;

/// Longest wait for one connection to be made and to answer.
const WAIT: Duration = Duration::from_secs(5);

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Which database, for people: kind and place, nothing secret.
    pub place: String,
    /// Whether there is a database at all.
    pub exists: bool,
    /// Whether a gateway has been started on it.
    pub in_use: bool,
    /// The first bytes of what is sealed under the master key, [`crate::crypto::MARK`] of each; those that are the same once.
    pub sealed: Vec<Vec<u8>>,
}

/// Asks one connection; both databases understand the same text but for where they list their tables and columns. An older gateway
/// kept a key in each tenant's row.
macro_rules! see {
    ($connection:ident, $seen:ident, $tables:literal, $keys:literal, $older_keys:literal) => {{
        let made: i64 = sqlx::query_scalar($tables).fetch_one(&mut $connection).await?;
        if made == 2 {
            let admins = "SELECT COUNT(*) FROM users WHERE role = 'admin'";
            let admins: i64 = sqlx::query_scalar(admins).fetch_one(&mut $connection).await?;
            // The length is `MARK`.
            let marks = "SELECT DISTINCT substr(secrets, 1, 5) FROM servers WHERE secrets IS NOT NULL";
            $seen.sealed = sqlx::query_scalar(marks).fetch_all(&mut $connection).await?;
            $seen.sealed.retain(|mark| !is_of_tenant(mark));
            for (there, marks) in [
                ($keys, "SELECT DISTINCT substr(sealed, 1, 5) FROM data_keys"),
                ($older_keys, "SELECT DISTINCT substr(data_key, 1, 5) FROM tenants WHERE data_key IS NOT NULL"),
            ] {
                let there: i64 = sqlx::query_scalar(there).fetch_one(&mut $connection).await?;
                if there == 1 {
                    let marks: Vec<Vec<u8>> = sqlx::query_scalar(marks).fetch_all(&mut $connection).await?;
                    $seen.sealed.extend(marks);
                }
            }
            $seen.sealed.sort_unstable();
            $seen.sealed.dedup();
            $seen.in_use = admins > 0 || !$seen.sealed.is_empty();
        }
        $connection.close().await
    }};
}

impl Store {
    /// Looks at the database at `url` and leaves it as it is. A SQLite file that is not there yet is no error.
    pub async fn look(url: &str) -> Result<Seen, StoreError> {
        let (place, looked) = if scheme(url)? == "sqlite" {
            let options = sqlite::options(url)?;
            let path = options.get_filename();
            let place = format!("SQLite in {}", path.display());
            // SQLite itself makes an empty file before it writes to it.
            match std::fs::metadata(path) {
                Ok(file) if file.len() > 0 => {}
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::Unusable { place, cause: error.to_string() });
                }
                _ => return Ok(Seen { place, ..Seen::default() }),
            }
            (place, tokio::time::timeout(WAIT, sqlite(options)).await)
        } else {
            let options = postgres_options(url)?;
            let place = match options.get_socket() {
                Some(folder) => format!("PostgreSQL at {}", folder.display()),
                None => format!("PostgreSQL at {}:{}", options.get_host(), options.get_port()),
            };
            (place, tokio::time::timeout(WAIT, postgres(options)).await)
        };
        match looked {
            Ok(Ok(seen)) => Ok(Seen { place, exists: true, ..seen }),
            Ok(Err(error)) => Err(told(place, &error)),
            Err(_) => Err(StoreError::Unreachable { place, cause: format!("no answer within {} s", WAIT.as_secs()) }),
        }
    }
}

async fn sqlite(options: SqliteConnectOptions) -> Result<Seen, sqlx::Error> {
    let mut connection = options.connect().await?;
    let mut seen = Seen::default();
    see!(
        connection,
        seen,
        "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name IN ('users', 'servers')",
        "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'data_keys'",
        "SELECT COUNT(*) FROM pragma_table_info('tenants') WHERE name = 'data_key'"
    )?;
    Ok(seen)
}

async fn postgres(options: PgConnectOptions) -> Result<Seen, sqlx::Error> {
    let mut connection = options.connect().await?;
    let mut seen = Seen::default();
    see!(
        connection,
        seen,
        "SELECT COUNT(*) FROM information_schema.tables
         WHERE table_schema = current_schema() AND table_name IN ('users', 'servers')",
        "SELECT COUNT(*) FROM information_schema.tables
         WHERE table_schema = current_schema() AND table_name = 'data_keys'",
        "SELECT COUNT(*) FROM information_schema.columns
         WHERE table_schema = current_schema() AND table_name = 'tenants' AND column_name = 'data_key'"
    )?;
    Ok(seen)
}

/// Whether waiting may help is told apart from what only somebody can mend.
fn told(place: String, error: &sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::Database(cause) => {
            let cause_text = cause.message().to_owned();
            // PostgreSQL: too many connections, and starting up.
            if matches!(cause.code().as_deref(), Some("53300" | "57P03")) {
                StoreError::Unreachable { place, cause: cause_text }
            } else {
                StoreError::Unusable { place, cause: cause_text }
            }
        }
        sqlx::Error::Io(cause) => StoreError::Unreachable { place, cause: cause.to_string() },
        other => StoreError::Unusable { place, cause: other.to_string() },
    }
}
