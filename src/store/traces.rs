//! Attempts to sign in, one row each. The steps are one object, so that a row is read and written whole.

use serde_json::Value;
use sqlx::AssertSqlSafe;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Db, Store, StoreError};
use crate::id::TenantId;

row! {
    /// A row of `sign_in_traces`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct TraceRow {
        /// UUID version 7.
        pub id: Uuid,
        /// Whose it is, as far as known.
        pub tenant_id: Option<String>,
        /// Who it was, as far as known.
        pub user_id: Option<Uuid>,
        /// What the person is called, lower case.
        pub username: Option<String>,
        /// Which client, as it is shown.
        pub client_id: Option<String>,
        /// What the client calls itself.
        pub client_name: Option<String>,
        /// The grant that came of it.
        pub grant_id: Option<Uuid>,
        /// `under_way`, `success`, `failure` or `abandoned`.
        pub outcome: String,
        /// An object with what happened.
        pub steps: Json<Value>,
        /// Microseconds since 1970.
        pub started_at: i64,
        /// Microseconds since 1970.
        pub updated_at: i64,
    }
}

/// Which rows to list; what is none does not matter.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceSelection<'a> {
    /// Of that tenant; none: of every tenant and of nobody yet.
    pub tenant: Option<&'a TenantId>,
    /// Of nobody yet too.
    pub unclaimed: bool,
    /// Of the account of that id.
    pub user: Option<Uuid>,
    /// Of the person of that name, lower case.
    pub username: Option<&'a str>,
    /// Of clients whose id or name holds this, lower case.
    pub client: Option<&'a str>,
    /// That went so: the stored words, separated by commas.
    pub outcomes: Option<&'a str>,
    /// Last changed at that time or later, microseconds since 1970.
    pub since: Option<i64>,
    /// Behind the one last changed at that time, of that id.
    pub after: Option<(i64, Uuid)>,
}

/// Most rows of one statement.
const AT_ONCE: usize = 100;
/// Columns of a row.
const COLUMNS: usize = 11;

/// Reads so many rows. Only numbers of parameters are put into the text.
fn these(count: usize) -> String {
    let places = (1..=count).map(|at| format!("${at}")).collect::<Vec<_>>().join(", ");
    format!("SELECT * FROM sign_in_traces WHERE id IN ({places}) ORDER BY id")
}

/// Inserts so many rows, or writes over those that are there.
fn put(count: usize) -> String {
    let row = |at: usize| {
        let places = (1..=COLUMNS).map(|column| format!("${}", at * COLUMNS + column)).collect::<Vec<_>>();
        format!("({})", places.join(", "))
    };
    let rows = (0..count).map(row).collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO sign_in_traces (id, tenant_id, user_id, username, client_id, client_name, grant_id, outcome,
            steps, started_at, updated_at)
        VALUES {rows}
        ON CONFLICT (id) DO UPDATE SET tenant_id = excluded.tenant_id, user_id = excluded.user_id,
            username = excluded.username, client_id = excluded.client_id, client_name = excluded.client_name,
            grant_id = excluded.grant_id, outcome = excluded.outcome, steps = excluded.steps,
            updated_at = excluded.updated_at"
    )
}

macro_rules! put {
    ($tx:ident, $rows:expr) => {
        $rows
            .iter()
            .fold(sqlx::query(AssertSqlSafe(put($rows.len()))).persistent(false), |query, row| {
                query
                    .bind(row.id)
                    .bind(row.tenant_id.as_deref())
                    .bind(row.user_id)
                    .bind(row.username.as_deref())
                    .bind(row.client_id.as_deref())
                    .bind(row.client_name.as_deref())
                    .bind(row.grant_id)
                    .bind(&row.outcome)
                    .bind(&row.steps)
                    .bind(row.started_at)
                    .bind(row.updated_at)
            })
            .execute(&mut *$tx)
            .await?
    };
}

impl Store {
    /// Writes `new` ones, and others as `change` says, all of it or nothing. Of several processes that change one at once, each
    /// sees what the one before wrote; one that is gone is left alone. Many go in two statements: other writers of SQLite wait
    /// meanwhile.
    pub async fn write_traces(
        &self,
        new: &[TraceRow],
        changed: &[Uuid],
        mut change: impl FnMut(&mut TraceRow) + Send,
    ) -> Result<(), StoreError> {
        let mut changed = changed.to_vec();
        // Always in the same order, so that no two processes wait for one another.
        changed.sort_unstable();
        // SQLite's transaction has taken them all already.
        let take = if matches!(self.db, Db::Postgres(_)) { " FOR UPDATE" } else { "" };
        on!(brief self, tx => {
            for new in new.chunks(AT_ONCE) {
                put!(tx, new);
            }
            for ids in changed.chunks(AT_ONCE) {
                let text = these(ids.len()) + take;
                let query = sqlx::query_as(AssertSqlSafe(text)).persistent(false);
                let query = ids.iter().fold(query, |query, id| query.bind(*id));
                let mut rows: Vec<TraceRow> = query.fetch_all(&mut *tx).await?;
                if !rows.is_empty() {
                    rows.iter_mut().for_each(&mut change);
                    put!(tx, &rows);
                }
            }
        });
        Ok(())
    }

    /// Up to `limit` of them, the last changed first.
    pub async fn traces(&self, which: TraceSelection<'_>, limit: i64) -> Result<Vec<TraceRow>, StoreError> {
        // The words of outcomes are no parts of one another.
        let text = r"SELECT * FROM sign_in_traces
            WHERE ($1 IS NULL OR tenant_id = $1 OR (tenant_id IS NULL AND $2 = 1))
            AND ($3 IS NULL OR user_id = $3) AND ($4 IS NULL OR username = $4)
            AND ($5 IS NULL OR LOWER(client_id) LIKE $5 ESCAPE '\' OR LOWER(client_name) LIKE $5 ESCAPE '\')
            AND ($6 IS NULL OR $6 LIKE '%' || outcome || '%')
            AND updated_at >= $7 AND (updated_at < $8 OR (updated_at = $8 AND id < $9))
            ORDER BY updated_at DESC, id DESC LIMIT $10";
        let (time, id) = which.after.unwrap_or((i64::MAX, Uuid::max()));
        Ok(on!(read self, db => {
            sqlx::query_as(text)
                .bind(which.tenant.map(TenantId::as_str))
                .bind(i64::from(which.unclaimed))
                .bind(which.user)
                .bind(which.username)
                .bind(which.client.map(pattern))
                .bind(which.outcomes)
                .bind(which.since.unwrap_or(i64::MIN))
                .bind(time)
                .bind(id)
                .bind(limit)
                .fetch_all(db)
                .await?
        }))
    }

    /// The one of that id, of whichever tenant.
    pub async fn trace(&self, id: Uuid) -> Result<Option<TraceRow>, StoreError> {
        let text = "SELECT * FROM sign_in_traces WHERE id = $1";
        Ok(on!(read self, db => sqlx::query_as(text).bind(id).fetch_optional(db).await?))
    }

    /// The id of the one that a grant came of.
    pub async fn trace_of_grant(&self, grant: Uuid) -> Result<Option<Uuid>, StoreError> {
        let text = "SELECT id FROM sign_in_traces WHERE grant_id = $1 ORDER BY id LIMIT 1";
        Ok(on!(read self, db => sqlx::query_scalar(text).bind(grant).fetch_optional(db).await?))
    }

    /// Up to `limit` that are under way and that nothing was heard of since `silent`, the longest silent first.
    pub async fn silent_traces(&self, silent: i64, limit: i64) -> Result<Vec<TraceRow>, StoreError> {
        let text = "SELECT * FROM sign_in_traces WHERE outcome = 'under_way' AND updated_at < $1
            ORDER BY updated_at LIMIT $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(silent).bind(limit).fetch_all(db).await?))
    }

    /// Up to `limit` whose client was still expected to call and has: each with the first use of a token that was noted,
    /// microseconds since 1970.
    pub async fn traces_of_first_calls(&self, limit: i64) -> Result<Vec<(Uuid, i64)>, StoreError> {
        let text = "SELECT s.id, MIN(t.used_at) FROM sign_in_traces s JOIN access_tokens t ON t.grant_id = s.grant_id
            WHERE s.outcome IN ('under_way', 'abandoned') AND t.used_at IS NOT NULL GROUP BY s.id LIMIT $1";
        Ok(on!(read self, db => sqlx::query_as(text).bind(limit).fetch_all(db).await?))
    }

    /// Removes up to 1,000 that were last changed before `old`, or are beyond the newest `most` of those of which it is known who it
    /// was, or beyond the newest `nobodys` of the others, which anybody can make; says how many.
    pub async fn purge_traces(&self, old: i64, most: i64, nobodys: i64) -> Result<u64, StoreError> {
        let past = "DELETE FROM sign_in_traces WHERE id IN
            (SELECT id FROM sign_in_traces WHERE updated_at < $1 ORDER BY updated_at LIMIT 1000)";
        let surplus = "DELETE FROM sign_in_traces WHERE id IN
            (SELECT id FROM sign_in_traces WHERE user_id IS NOT NULL OR username IS NOT NULL
             ORDER BY updated_at DESC, id DESC LIMIT 1000 OFFSET $1)";
        let of_nobody = "DELETE FROM sign_in_traces WHERE id IN
            (SELECT id FROM sign_in_traces WHERE user_id IS NULL AND username IS NULL
             ORDER BY updated_at DESC, id DESC LIMIT 1000 OFFSET $1)";
        Ok(on!(brief self, tx => {
            let mut gone = 0;
            for (text, bound) in [(past, old), (of_nobody, nobodys), (surplus, most)] {
                if gone < 1000 {
                    gone += sqlx::query(text).bind(bound).execute(&mut *tx).await?.rows_affected();
                }
            }
            gone
        }))
    }
}

/// A text as a pattern that finds it anywhere, with `\` before what patterns take for something else.
fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}
