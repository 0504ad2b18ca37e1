//! What is counted of records, by periods: the increments of a batch, and how they are added in the transaction that stores it.
//! `rollup_sums` reads them.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{Store, StoreError, places};
use crate::sketch::Sketch;

/// How long a period is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// 60 seconds.
    Minute,
    /// 3600 seconds.
    Hour,
    /// 86400 seconds, UTC.
    Day,
}

impl Span {
    /// Its length.
    pub const fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }

    /// The period of a time, microseconds since 1970.
    pub const fn of(self, micros: i64) -> Period {
        let seconds = micros.div_euclid(1_000_000);
        Period { span: self, at: seconds - seconds.rem_euclid(self.seconds()) }
    }
}

/// One period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    /// How long it is.
    pub span: Span,
    /// When it begins, seconds since 1970.
    pub at: i64,
}

/// Which calls are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallKey<'a> {
    /// Whose; empty of what was not let in.
    pub tenant: &'a str,
    /// When.
    pub period: Period,
    /// Where to.
    pub server: &'a str,
    /// What.
    pub method: &'a str,
    /// The tool or prompt.
    pub name: &'a str,
}

row! {
    /// Calls together.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct CallTotals {
        /// All.
        pub calls: i64,
        /// In which the tool failed.
        pub tool_errors: i64,
        /// In which something broke.
        pub errors: i64,
        /// Refused by a rule.
        pub denied: i64,
        /// Refused by a limit.
        pub rate_limited: i64,
        /// From clients.
        pub request_bytes: i64,
        /// To clients.
        pub response_bytes: i64,
        /// Microseconds.
        pub total_us: i64,
        /// Of that, waiting for servers.
        pub upstream_us: i64,
        /// That succeeded within a second.
        pub satisfied: i64,
        /// That succeeded later, within four.
        pub tolerated: i64,
    }
}

impl CallTotals {
    /// Adds others.
    fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.tool_errors += other.tool_errors;
        self.errors += other.errors;
        self.denied += other.denied;
        self.rate_limited += other.rate_limited;
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        self.total_us += other.total_us;
        self.upstream_us += other.upstream_us;
        self.satisfied += other.satisfied;
        self.tolerated += other.tolerated;
    }
}

/// Calls, with how long each took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in the table")]
pub struct CallSums {
    pub totals: CallTotals,
    pub latency: Sketch,
}

impl CallSums {
    /// Adds others.
    pub fn merge(&mut self, other: &Self) {
        self.totals.merge(&other.totals);
        self.latency.merge(&other.latency);
    }
}

/// Which events are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "as in the table")]
pub struct EventKey<'a> {
    pub tenant: &'a str,
    pub period: Period,
    pub kind: &'a str,
    pub what: &'a str,
    pub result: &'a str,
    pub reason: &'a str,
}

/// Events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventSums {
    /// How many.
    pub count: i64,
    /// How long they lasted together, microseconds.
    pub lasted_us: i64,
    /// How long each lasted.
    pub lasted: Sketch,
    /// The last one, microseconds since 1970.
    pub last_at: i64,
}

impl EventSums {
    /// Adds others.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.lasted_us += other.lasted_us;
        self.lasted.merge(&other.lasted);
        self.last_at = self.last_at.max(other.last_at);
    }
}

/// Which doings of an account are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "as in the table")]
pub struct UserKey<'a> {
    pub tenant: &'a str,
    pub period: Period,
    pub user: Uuid,
}

/// What an account did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in the table")]
pub struct UserSums {
    pub operations: i64,
    pub tool_calls: i64,
    pub errors: i64,
    pub last_at: i64,
}

impl UserSums {
    /// Adds others.
    pub fn merge(&mut self, other: &Self) {
        self.operations += other.operations;
        self.tool_calls += other.tool_calls;
        self.errors += other.errors;
        self.last_at = self.last_at.max(other.last_at);
    }
}

/// What of an account's doings has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "as in the table")]
pub struct WordKey<'a> {
    pub tenant: &'a str,
    pub user: Uuid,
    pub day: Period,
    pub kind: &'a str,
    pub place: &'a str,
    pub word: &'a str,
}

/// What a batch of records adds. Each list is in the order of its keys, in which all processes write: no two of them wait for each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Increments<'a> {
    /// Of calls.
    pub calls: BTreeMap<CallKey<'a>, CallSums>,
    /// Of events.
    pub events: BTreeMap<EventKey<'a>, EventSums>,
    /// Of accounts.
    pub users: BTreeMap<UserKey<'a>, UserSums>,
    /// Of what accounts did.
    pub words: BTreeMap<WordKey<'a>, i64>,
}

impl Increments<'_> {
    /// Whether there is nothing to add.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.events.is_empty() && self.users.is_empty() && self.words.is_empty()
    }
}

/// Nothing is counted for a tenant that is gone, whose records may still come.
macro_rules! there {
    ($tenant:literal) => {
        concat!(" WHERE ", $tenant, " = '' OR EXISTS (SELECT 1 FROM tenants WHERE id = ", $tenant, ")")
    };
}

/// Answers how many calls there are now and the sketch as it was, or is if the row is new.
pub(super) const ADD_CALLS: &str = concat!(
    "INSERT INTO rollup_calls (span, tenant_id, at, server, method, name, calls, tool_errors, errors, denied, rate_limited,
        request_bytes, response_bytes, total_us, upstream_us, satisfied, tolerated, latency)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18",
    there!("$2"),
    " ON CONFLICT (span, tenant_id, at, server, method, name) DO UPDATE SET calls = rollup_calls.calls + excluded.calls,
        tool_errors = rollup_calls.tool_errors + excluded.tool_errors, errors = rollup_calls.errors + excluded.errors,
        denied = rollup_calls.denied + excluded.denied, rate_limited = rollup_calls.rate_limited + excluded.rate_limited,
        request_bytes = rollup_calls.request_bytes + excluded.request_bytes,
        response_bytes = rollup_calls.response_bytes + excluded.response_bytes,
        total_us = rollup_calls.total_us + excluded.total_us, upstream_us = rollup_calls.upstream_us + excluded.upstream_us,
        satisfied = rollup_calls.satisfied + excluded.satisfied, tolerated = rollup_calls.tolerated + excluded.tolerated
    RETURNING calls, latency"
);
pub(super) const SET_LATENCY: &str = "UPDATE rollup_calls SET latency = $7
    WHERE span = $1 AND tenant_id = $2 AND at = $3 AND server = $4 AND method = $5 AND name = $6";

/// The same of events.
pub(super) const ADD_EVENTS: &str = concat!(
    "INSERT INTO rollup_events (span, tenant_id, at, kind, what, result, reason, count, lasted_us, lasted, last_at)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11",
    there!("$2"),
    " ON CONFLICT (span, tenant_id, at, kind, what, result, reason) DO UPDATE SET
        count = rollup_events.count + excluded.count, lasted_us = rollup_events.lasted_us + excluded.lasted_us,
        last_at = CASE WHEN excluded.last_at > rollup_events.last_at THEN excluded.last_at ELSE rollup_events.last_at END
    RETURNING count, lasted"
);
pub(super) const SET_LASTED: &str = "UPDATE rollup_events SET lasted = $8
    WHERE span = $1 AND tenant_id = $2 AND at = $3 AND kind = $4 AND what = $5 AND result = $6 AND reason = $7";

/// Rows of one statement, of what is only added to.
pub(super) const ROWS: usize = 50;

/// What stands around rows that are added: before and behind them.
pub(super) type Around = (&'static str, &'static str);

pub(super) const USERS: Around = (
    "INSERT INTO rollup_users (span, tenant_id, at, user_id, operations, tool_calls, errors, last_at)",
    "ON CONFLICT (span, tenant_id, at, user_id) DO UPDATE SET operations = rollup_users.operations + excluded.operations,
        tool_calls = rollup_users.tool_calls + excluded.tool_calls, errors = rollup_users.errors + excluded.errors,
        last_at = CASE WHEN excluded.last_at > rollup_users.last_at THEN excluded.last_at ELSE rollup_users.last_at END",
);

pub(super) const WORDS: Around = (
    "INSERT INTO rollup_user_words (at, tenant_id, user_id, kind, place, word, count)",
    "ON CONFLICT (tenant_id, user_id, at, kind, place, word) DO UPDATE SET
        count = rollup_user_words.count + excluded.count",
);

/// Adds so many rows of so many columns, the second of which says whose they are. Only places are put into the text.
pub(super) fn rows((before, behind): Around, numbered: bool, columns: usize, count: usize) -> String {
    let rows = places::rows(numbered, columns, count);
    // So both databases call the columns of such rows.
    let names = (1..=columns).map(|column| format!("column{column}")).collect::<Vec<_>>().join(", ");
    let there = "column2 = '' OR EXISTS (SELECT 1 FROM tenants WHERE id = column2)";
    format!("{before} SELECT {names} FROM (VALUES {rows}) AS added WHERE {there} {behind}")
}

/// The sketch to be stored, if that is another one than what a row that was just added to holds; `is_new` when the row was made.
pub(super) fn merged(stored: &[u8], is_new: bool, more: &Sketch) -> Result<Option<Vec<u8>>, StoreError> {
    if is_new || more.count() == 0 {
        return Ok(None);
    }
    let stored = Sketch::from_bytes(stored).ok_or_else(|| StoreError::Corrupt("a sketch of times".into()))?;
    let mut sum = stored;
    sum.merge(more);
    Ok(Some(sum.to_bytes()))
}

/// Adds the increments of a batch, in the transaction that stores it.
macro_rules! add_increments {
    ($tx:ident, $increments:expr, $numbered:expr) => {{
        use $crate::store::rollups::{
            ADD_CALLS, ADD_EVENTS, ROWS, SET_LASTED, SET_LATENCY, USERS, WORDS, merged, rows,
        };
        let increments: &$crate::store::rollups::Increments<'_> = $increments;
        for (key, sums) in &increments.calls {
            let (span, at, totals) = (key.period.span.seconds(), key.period.at, &sums.totals);
            let query =
                sqlx::query_as(ADD_CALLS).bind(span).bind(key.tenant).bind(at).bind(key.server).bind(key.method);
            let query = query.bind(key.name).bind(totals.calls).bind(totals.tool_errors).bind(totals.errors);
            let query = query.bind(totals.denied).bind(totals.rate_limited).bind(totals.request_bytes);
            let query = query.bind(totals.response_bytes).bind(totals.total_us).bind(totals.upstream_us);
            let query = query.bind(totals.satisfied).bind(totals.tolerated);
            let row: Option<(i64, Vec<u8>)> = query.bind(sums.latency.to_bytes()).fetch_optional(&mut *$tx).await?;
            let Some((calls, stored)) = row else { continue };
            if let Some(latency) = merged(&stored, calls == totals.calls, &sums.latency)? {
                let query = sqlx::query(SET_LATENCY).bind(span).bind(key.tenant).bind(at).bind(key.server);
                query.bind(key.method).bind(key.name).bind(latency).execute(&mut *$tx).await?;
            }
        }
        for (key, sums) in &increments.events {
            let (span, at) = (key.period.span.seconds(), key.period.at);
            let query = sqlx::query_as(ADD_EVENTS).bind(span).bind(key.tenant).bind(at).bind(key.kind).bind(key.what);
            let query = query.bind(key.result).bind(key.reason).bind(sums.count).bind(sums.lasted_us);
            let query = query.bind(sums.lasted.to_bytes()).bind(sums.last_at);
            let row: Option<(i64, Vec<u8>)> = query.fetch_optional(&mut *$tx).await?;
            let Some((count, stored)) = row else { continue };
            if let Some(lasted) = merged(&stored, count == sums.count, &sums.lasted)? {
                let query = sqlx::query(SET_LASTED).bind(span).bind(key.tenant).bind(at).bind(key.kind).bind(key.what);
                query.bind(key.result).bind(key.reason).bind(lasted).execute(&mut *$tx).await?;
            }
        }
        let users: Vec<_> = increments.users.iter().collect();
        for some in users.chunks(ROWS) {
            let text = rows(USERS, $numbered, 8, some.len());
            let mut query = sqlx::query(sqlx::AssertSqlSafe(text)).persistent(some.len() == ROWS);
            for (key, sums) in some {
                query = query.bind(key.period.span.seconds()).bind(key.tenant).bind(key.period.at).bind(key.user);
                query = query.bind(sums.operations).bind(sums.tool_calls).bind(sums.errors).bind(sums.last_at);
            }
            query.execute(&mut *$tx).await?;
        }
        let words: Vec<_> = increments.words.iter().collect();
        for some in words.chunks(ROWS) {
            let text = rows(WORDS, $numbered, 7, some.len());
            let mut query = sqlx::query(sqlx::AssertSqlSafe(text)).persistent(some.len() == ROWS);
            for (key, count) in some {
                query = query.bind(key.day.at).bind(key.tenant).bind(key.user).bind(key.kind).bind(key.place);
                query = query.bind(key.word).bind(**count);
            }
            query.execute(&mut *$tx).await?;
        }
    }};
}
pub(super) use add_increments;

/// What a tenant that is purged leaves behind here.
pub(super) const OF_TENANT: [&str; 4] = [
    "DELETE FROM rollup_calls WHERE tenant_id = $1",
    "DELETE FROM rollup_events WHERE tenant_id = $1",
    "DELETE FROM rollup_users WHERE tenant_id = $1",
    "DELETE FROM rollup_user_words WHERE tenant_id = $1",
];

/// Rows that are removed in one statement.
const AT_ONCE: i64 = 2_000;

impl Store {
    /// Adds the increments of a batch by themselves.
    pub async fn add_increments(&self, increments: &Increments<'_>) -> Result<(), StoreError> {
        on!(brief self, tx => add_increments!(tx, increments, self.is_shared()));
        Ok(())
    }

    /// Removes some of the periods of that length that began before `before`, seconds since 1970; says how many rows. Those that are left
    /// are for the next time.
    pub async fn purge_rollups(&self, span: Span, before: i64) -> Result<u64, StoreError> {
        let mut gone = 0;
        // Both databases name a row for themselves.
        let row = if self.is_shared() { "ctid" } else { "rowid" };
        for table in ["rollup_calls", "rollup_events", "rollup_users"] {
            let text = format!(
                "DELETE FROM {table} WHERE {row} IN (SELECT {row} FROM {table} WHERE span = $1 AND at < $2 LIMIT {AT_ONCE})"
            );
            gone += self.purged(&text, span.seconds(), before).await?;
        }
        if span == Span::Day {
            let text = format!(
                "DELETE FROM rollup_user_words WHERE {row} IN (SELECT {row} FROM rollup_user_words
                WHERE $1 = 86400 AND at < $2 LIMIT {AT_ONCE})"
            );
            gone += self.purged(&text, span.seconds(), before).await?;
        }
        Ok(gone)
    }

    async fn purged(&self, text: &str, span: i64, before: i64) -> Result<u64, StoreError> {
        let query = || sqlx::AssertSqlSafe(text);
        Ok(on!(alone self, db => sqlx::query(query()).bind(span).bind(before).execute(db).await?.rows_affected()))
    }
}
