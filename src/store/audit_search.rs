//! Records of the audit trail as people look for them: the newest first, by what is known of them. The statement holds only what is
//! asked for, so that the database finds the index for it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::audit::AuditRow;
use super::{Db, Store, StoreError};

/// Longest that the database may look.
const LONGEST: Duration = Duration::from_secs(10);
/// Steps of SQLite's machine between two looks at the clock: some milliseconds.
const STEPS: i32 = 100_000;

/// Which records; what is none does not matter.
#[derive(Debug, Clone, Default)]
pub struct AuditSelection<'a> {
    /// Of that tenant; empty: of none.
    pub chain: Option<&'a str>,
    /// Of the account with this id.
    pub user: Option<Uuid>,
    /// Of the accounts that have this name now.
    pub username: Option<&'a str>,
    /// Of this kind.
    pub action: Option<&'a str>,
    /// At that server.
    pub server: Option<&'a str>,
    /// Of this tool, prompt, resource or path.
    pub name: Option<&'a str>,
    /// Which came out so.
    pub outcome: Option<&'a str>,
    /// From there.
    pub address: Option<&'a str>,
    /// Through that client.
    pub client: Option<&'a str>,
    /// Of that request.
    pub request_id: Option<&'a str>,
    /// That began then or later, microseconds since 1970.
    pub from: Option<i64>,
    /// That began before then.
    pub to: Option<i64>,
    /// Before the one of this id.
    pub before: Option<Uuid>,
    /// Behind this place of its chain: the oldest first then.
    pub after: Option<i64>,
}

enum Value<'a> {
    Text(&'a str),
    Number(i64),
    Id(Uuid),
}

impl<'a> AuditSelection<'a> {
    /// Whether an index leads to what is asked for, or nearly all records are like that, so that none is looked through in vain.
    pub fn is_indexed(&self) -> bool {
        let place = [self.server, self.address, self.client, self.request_id, self.username];
        let by_name = self.name.is_some() && self.chain.is_some();
        let rare = self.action.is_some_and(|action| action != COMMON_ACTION)
            || self.outcome.is_some_and(|outcome| outcome != COMMON_OUTCOME);
        let any = self.name.is_some() || self.action.is_some() || self.outcome.is_some();
        self.user.is_some() || place.iter().any(Option::is_some) || by_name || rare || self.after.is_some() || !any
    }

    /// The statement that finds them, and what is put in for its parameters.
    fn statement(&self, most: i64) -> (String, Vec<Value<'a>>) {
        let (mut text, mut values) = ("SELECT * FROM audit_records WHERE 1 = 1".to_owned(), Vec::new());
        let mut and = |what: &str, value: Value<'a>| {
            values.push(value);
            _ = write!(text, " AND {}", what.replace('?', &format!("${}", values.len())));
        };
        let texts = [
            ("chain = ?", self.chain),
            // By the index of ids; names would need one of their own.
            ("user_id IN (SELECT id FROM users WHERE username = ?)", self.username),
            ("action = ?", self.action),
            ("server IS NOT NULL AND server = ?", self.server),
            ("name IS NOT NULL AND name = ?", self.name),
            ("outcome = ?", self.outcome),
            ("address IS NOT NULL AND address = ?", self.address),
            ("client IS NOT NULL AND client = ?", self.client),
            ("request_id IS NOT NULL AND request_id = ?", self.request_id),
        ];
        for (what, value) in texts {
            if let Some(value) = value {
                and(what, Value::Text(value));
            }
        }
        if let Some(user) = self.user {
            and("user_id IS NOT NULL AND user_id = ?", Value::Id(user));
        }
        // Ids sort by time, to the millisecond.
        if let Some(from) = self.from {
            and("id >= ?", Value::Id(id_of(from)));
            and("at >= ?", Value::Number(from));
        }
        if let Some(to) = self.to {
            and("id < ?", Value::Id(id_of(to.saturating_add(999))));
            and("at < ?", Value::Number(to));
        }
        if let Some(before) = self.before {
            and("id < ?", Value::Id(before));
        }
        if let Some(after) = self.after {
            and("seq > ?", Value::Number(after));
        }
        values.push(Value::Number(most));
        let end = values.len();
        // What indexes leave out, a parameter cannot say.
        for (column, common, value) in
            [("action", COMMON_ACTION, self.action), ("outcome", COMMON_OUTCOME, self.outcome)]
        {
            if value.is_some_and(|value| value != common) {
                _ = write!(text, " AND {column} <> '{common}'");
            }
        }
        let order = if self.after.is_some() { "seq" } else { "id DESC" };
        _ = write!(text, " ORDER BY {order} LIMIT ${end}");
        (text, values)
    }
}

/// What most records are: indexes leave it out.
const COMMON_ACTION: &str = "tools/call";
const COMMON_OUTCOME: &str = "success";

/// Ends a look of SQLite's that takes too long, or whose asker is gone.
struct Watch(Arc<AtomicU8>);

const LOOKING: u8 = 0;
const LEFT: u8 = 1;
const OVER: u8 = 2;

impl Watch {
    /// One, and what says whether to go on.
    fn new() -> (Self, impl FnMut() -> bool + Send + 'static) {
        let (state, until) = (Arc::new(AtomicU8::new(LOOKING)), Instant::now() + LONGEST);
        let watched = Arc::clone(&state);
        let goes_on = move || match watched.load(Ordering::Relaxed) {
            LOOKING => Instant::now() < until,
            // The connection is another's next.
            LEFT => {
                watched.store(OVER, Ordering::Relaxed);
                false
            }
            _ => true,
        };
        (Self(state), goes_on)
    }

    fn is_over(&self) {
        self.0.store(OVER, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        _ = self.0.compare_exchange(LOOKING, LEFT, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// The least id of a time.
fn id_of(micros: i64) -> Uuid {
    let millis = u64::try_from(micros.div_euclid(1_000)).unwrap_or_default();
    Uuid::from_u128(u128::from(millis) << 80)
}

impl Store {
    /// Up to `most` of them, the newest first; none where it takes too long to find them.
    pub async fn audit_records(&self, which: &AuditSelection<'_>, most: i64) -> Result<Vec<AuditRow>, StoreError> {
        let (text, values) = which.statement(most);
        macro_rules! found {
            ($db:expr) => {{
                let query = sqlx::query_as(AssertSqlSafe(text));
                let query = values.iter().fold(query, |query, value| match value {
                    Value::Text(text) => query.bind(*text),
                    Value::Number(number) => query.bind(*number),
                    Value::Id(id) => query.bind(*id),
                });
                query.fetch_all($db).await
            }};
        }
        let found = match &self.db {
            Db::Sqlite(db) => {
                let mut connection = db.read.acquire().await?;
                let (watch, goes_on) = Watch::new();
                connection.lock_handle().await?.set_progress_handler(STEPS, goes_on);
                let found = found!(&mut *connection);
                watch.is_over();
                connection.lock_handle().await?.remove_progress_handler();
                found
            }
            Db::Postgres(pool) => {
                let mut tx = pool.begin().await?;
                let longest = format!("SET LOCAL statement_timeout = {}", LONGEST.as_millis());
                sqlx::query(AssertSqlSafe(longest)).execute(&mut *tx).await?;
                let found = found!(&mut *tx);
                tx.rollback().await?;
                found
            }
        };
        Ok(found?)
    }

    /// One of them; of that chain, or of any.
    pub async fn audit_record(&self, chain: Option<&str>, id: Uuid) -> Result<Option<AuditRow>, StoreError> {
        let text = "SELECT * FROM audit_records WHERE id = $1";
        let found: Option<AuditRow> = on!(read self, db => sqlx::query_as(text).bind(id).fetch_optional(db).await?);
        Ok(found.filter(|row| chain.is_none_or(|chain| row.chain == chain)))
    }
}
