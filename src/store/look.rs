//! A look at a database before anything is done to it: that it can be reached and used, whether a gateway has been at work in
//! it, and under which keys its secrets are sealed. It makes no file and no table.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::{Store, StoreError, postgres_options, scheme, sqlite};
use crate::crypto::FROM_TENANTS;

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
    /// The same of the keys that the gateway itself would make anew: that of the ids that programs keep, and the newest that it signs with.
    pub own: Vec<Vec<u8>>,
}

impl Seen {
    /// How everything begins that the master key must open.
    pub fn marks(&self) -> impl Iterator<Item = &[u8]> {
        self.sealed.iter().chain(&self.own).map(Vec::as_slice)
    }
}

/// Where marks are, and of which of these two kinds, as far as a table is there; the length is `MARK`. Of the keys that it signs with an
/// older one may be a stranger's, whom the newest has succeeded.
const MARKS: [(&str, &str, bool); 5] = [
    (
        "servers",
        "SELECT DISTINCT substr(secrets, 1, 5) FROM servers WHERE secrets IS NOT NULL AND substr(secrets, 1, 5) < $1",
        false,
    ),
    (
        "logins",
        "SELECT DISTINCT substr(tokens, 1, 5) FROM logins WHERE tokens IS NOT NULL AND substr(tokens, 1, 5) < $1",
        false,
    ),
    ("data_keys", "SELECT DISTINCT substr(sealed, 1, 5) FROM data_keys WHERE substr(sealed, 1, 5) < $1", false),
    ("id_keys", "SELECT DISTINCT substr(sealed, 1, 5) FROM id_keys WHERE substr(sealed, 1, 5) < $1", true),
    (
        "signing_keys",
        "SELECT substr(sealed, 1, 5) FROM signing_keys WHERE substr(sealed, 1, 5) < $1 ORDER BY created_at DESC LIMIT 1",
        true,
    ),
];

/// Asks one connection; both databases understand the same text but for where they list their tables and columns. An older gateway
/// kept a key in each tenant's row.
macro_rules! see {
    ($connection:ident, $seen:ident, $table:literal, $older_keys:literal) => {{
        let mut made = 0;
        for table in ["users", "servers"] {
            made += sqlx::query_scalar::<_, i64>($table).bind(table).fetch_one(&mut $connection).await?;
        }
        if made == 2 {
            let admins = "SELECT COUNT(*) FROM users WHERE role = 'admin'";
            let admins: i64 = sqlx::query_scalar(admins).fetch_one(&mut $connection).await?;
            for (table, marks, is_own) in MARKS {
                let there: i64 = sqlx::query_scalar($table).bind(table).fetch_one(&mut $connection).await?;
                if there == 1 {
                    let marks = sqlx::query_scalar(marks).bind(FROM_TENANTS.as_slice());
                    let found: Vec<Vec<u8>> = marks.fetch_all(&mut $connection).await?;
                    if is_own { $seen.own.extend(found) } else { $seen.sealed.extend(found) }
                }
            }
            let there: i64 = sqlx::query_scalar($older_keys).fetch_one(&mut $connection).await?;
            if there == 1 {
                let marks = "SELECT DISTINCT substr(data_key, 1, 5) FROM tenants WHERE data_key IS NOT NULL";
                let found: Vec<Vec<u8>> = sqlx::query_scalar(marks).fetch_all(&mut $connection).await?;
                $seen.sealed.extend(found);
            }
            for marks in [&mut $seen.sealed, &mut $seen.own] {
                marks.sort_unstable();
                marks.dedup();
            }
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
        "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = $1",
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
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = $1",
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
