//! What was counted of records, as reports read it. Of periods those are meant that begin at `from` or later and before `to`, seconds since
//! 1970; without a tenant all tenants, and what concerns none.

use std::ops::Range;

use uuid::Uuid;

use super::rollups::{CallTotals, Span};
use super::{Store, StoreError};
use crate::id::TenantId;
use crate::sketch::Sketch;

row! {
    /// Calls of one tool.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ToolTotals {
        /// Its server.
        pub server: String,
        /// Its name.
        pub name: String,
        /// All calls.
        pub calls: i64,
        /// In which the tool or something else failed.
        pub failed: i64,
        /// Microseconds.
        pub total_us: i64,
    }
}

row! {
    /// Events of one kind together.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct EventTotals {
        /// How somebody came, which pattern, what of a ban.
        pub what: String,
        /// How it came out.
        pub result: String,
        /// Why.
        pub reason: String,
        /// How many.
        pub count: i64,
        /// How long they lasted together, microseconds.
        pub lasted_us: i64,
        /// The last one, microseconds since 1970.
        pub last_at: i64,
    }
}

row! {
    /// What an account did.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct UserTotals {
        /// All.
        pub operations: i64,
        /// Of that, calls of tools.
        pub tool_calls: i64,
        /// Of all, what failed.
        pub errors: i64,
        /// The last one, microseconds since 1970.
        pub last_at: Option<i64>,
    }
}

row! {
    /// What of an account's doings has a name.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct WordTotals {
        /// `tool`, `error`, `pattern` or `login`.
        pub kind: String,
        /// Of a tool its server.
        pub place: String,
        /// The name.
        pub word: String,
        /// How often.
        pub count: i64,
    }
}

/// Most names of one account that are read.
const MOST_WORDS: i64 = 500;

macro_rules! totals {
    () => {
        "COALESCE(CAST(SUM(calls) AS BIGINT), 0) AS calls, COALESCE(CAST(SUM(tool_errors) AS BIGINT), 0) AS tool_errors,
        COALESCE(CAST(SUM(errors) AS BIGINT), 0) AS errors, COALESCE(CAST(SUM(denied) AS BIGINT), 0) AS denied,
        COALESCE(CAST(SUM(rate_limited) AS BIGINT), 0) AS rate_limited,
        COALESCE(CAST(SUM(request_bytes) AS BIGINT), 0) AS request_bytes,
        COALESCE(CAST(SUM(response_bytes) AS BIGINT), 0) AS response_bytes,
        COALESCE(CAST(SUM(total_us) AS BIGINT), 0) AS total_us, COALESCE(CAST(SUM(upstream_us) AS BIGINT), 0) AS upstream_us,
        COALESCE(CAST(SUM(satisfied) AS BIGINT), 0) AS satisfied, COALESCE(CAST(SUM(tolerated) AS BIGINT), 0) AS tolerated"
    };
}

impl Store {
    /// All calls of tenants; without one, of all of them, and not of what was not let in.
    pub async fn call_totals(
        &self,
        tenant: Option<&TenantId>,
        span: Span,
        Range { start, end }: Range<i64>,
    ) -> Result<CallTotals, StoreError> {
        // Two texts, so that each has the index that it needs.
        let of_one = concat!(
            "SELECT ",
            totals!(),
            " FROM rollup_calls WHERE span = $1 AND tenant_id = $4 AND at >= $2 AND at < $3 AND method = ''"
        );
        let of_all = concat!(
            "SELECT ",
            totals!(),
            " FROM rollup_calls WHERE span = $1 AND at >= $2 AND at < $3 AND method = '' AND tenant_id <> $4"
        );
        let text = if tenant.is_some() { of_one } else { of_all };
        let tenant = tenant.map(TenantId::as_str).unwrap_or_default();
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(span.seconds()).bind(start).bind(end).bind(tenant).fetch_one(db).await?
        }))
    }

    /// Calls by tenant.
    pub async fn calls_by_tenant(
        &self,
        span: Span,
        Range { start, end }: Range<i64>,
    ) -> Result<Vec<(String, i64)>, StoreError> {
        let text = "SELECT tenant_id, CAST(SUM(calls) AS BIGINT) FROM rollup_calls
            WHERE span = $1 AND at >= $2 AND at < $3 AND method = '' AND tenant_id <> '' GROUP BY tenant_id ORDER BY tenant_id";
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(span.seconds()).bind(start).bind(end).fetch_all(db).await?
        }))
    }

    /// How long calls of a tenant took; of all that it did, or of one tool.
    pub async fn call_times(
        &self,
        tenant: &TenantId,
        span: Span,
        Range { start, end }: Range<i64>,
        tool: Option<(&str, &str)>,
    ) -> Result<Sketch, StoreError> {
        let text = "SELECT latency FROM rollup_calls WHERE span = $1 AND tenant_id = $2 AND at >= $3 AND at < $4
            AND server = $5 AND method = $6 AND name = $7";
        let method = if tool.is_some() { "tools/call" } else { "" };
        let (server, name) = tool.unwrap_or_default();
        let rows: Vec<Vec<u8>> = on!(read self, db => {
            let query = sqlx::query_scalar(text).bind(span.seconds()).bind(tenant.as_str()).bind(start).bind(end);
            query.bind(server).bind(method).bind(name).fetch_all(db).await?
        });
        sum(&rows)
    }

    /// The tools of a tenant that were called most.
    pub async fn top_tools(
        &self,
        tenant: &TenantId,
        span: Span,
        Range { start, end }: Range<i64>,
        most: i64,
    ) -> Result<Vec<ToolTotals>, StoreError> {
        let text = "SELECT server, name, CAST(SUM(calls) AS BIGINT) AS calls,
                CAST(SUM(tool_errors + errors) AS BIGINT) AS failed, CAST(SUM(total_us) AS BIGINT) AS total_us
            FROM rollup_calls WHERE span = $1 AND tenant_id = $2 AND at >= $3 AND at < $4 AND method = 'tools/call'
                AND name <> ''
            GROUP BY server, name ORDER BY calls DESC, server, name LIMIT $5";
        Ok(on!(read self, db => {
            let query = sqlx::query_as(text).bind(span.seconds()).bind(tenant.as_str()).bind(start).bind(end);
            query.bind(most).fetch_all(db).await?
        }))
    }

    /// Events of one kind, by what, result and reason; the most frequent first.
    pub async fn event_totals(
        &self,
        tenant: Option<&TenantId>,
        span: Span,
        Range { start, end }: Range<i64>,
        kind: &str,
    ) -> Result<Vec<EventTotals>, StoreError> {
        let text = "SELECT what, result, reason, CAST(SUM(count) AS BIGINT) AS count,
                CAST(SUM(lasted_us) AS BIGINT) AS lasted_us, MAX(last_at) AS last_at
            FROM rollup_events WHERE span = $1 AND at >= $2 AND at < $3 AND kind = $4 AND ($5 IS NULL OR tenant_id = $5)
            GROUP BY what, result, reason ORDER BY count DESC, what, result, reason";
        let tenant = tenant.map(TenantId::as_str);
        Ok(on!(read self, db => {
            let query = sqlx::query_as(text).bind(span.seconds()).bind(start).bind(end).bind(kind).bind(tenant);
            query.fetch_all(db).await?
        }))
    }

    /// How long events of one kind lasted, by their reason.
    pub async fn event_times(
        &self,
        tenant: &TenantId,
        span: Span,
        Range { start, end }: Range<i64>,
        kind: &str,
        reason: &str,
    ) -> Result<Sketch, StoreError> {
        let text = "SELECT lasted FROM rollup_events WHERE span = $1 AND tenant_id = $2 AND at >= $3 AND at < $4
            AND kind = $5 AND reason = $6";
        let rows: Vec<Vec<u8>> = on!(read self, db => {
            let query = sqlx::query_scalar(text).bind(span.seconds()).bind(tenant.as_str()).bind(start).bind(end);
            query.bind(kind).bind(reason).fetch_all(db).await?
        });
        sum(&rows)
    }

    /// Events of one kind by the hour of the day, UTC, in which they were.
    pub async fn events_by_hour(
        &self,
        tenant: &TenantId,
        Range { start, end }: Range<i64>,
        kind: &str,
    ) -> Result<[i64; 24], StoreError> {
        let text = "SELECT (at % 86400) / 3600, CAST(SUM(count) AS BIGINT) FROM rollup_events
            WHERE span = 3600 AND tenant_id = $1 AND at >= $2 AND at < $3 AND kind = $4 GROUP BY (at % 86400) / 3600";
        let rows: Vec<(i64, i64)> = on!(read self, db => {
            sqlx::query_as(text).bind(tenant.as_str()).bind(start).bind(end).bind(kind).fetch_all(db).await?
        });
        let mut hours = [0; 24];
        for (hour, count) in rows {
            if let Some(slot) = usize::try_from(hour).ok().and_then(|hour| hours.get_mut(hour)) {
                *slot = count;
            }
        }
        Ok(hours)
    }

    /// How many accounts of each tenant did something since then, microseconds since 1970.
    pub async fn active_accounts(&self, since: i64) -> Result<Vec<(String, i64)>, StoreError> {
        let text = "SELECT tenant_id, COUNT(DISTINCT user_id) FROM rollup_users WHERE span = 3600 AND at >= $1 AND last_at >= $2
            GROUP BY tenant_id ORDER BY tenant_id";
        let from = Span::Hour.of(since).at;
        Ok(on!(read self, db => sqlx::query_as(text).bind(from).bind(since).fetch_all(db).await?))
    }

    /// What one account did.
    pub async fn user_totals(
        &self,
        tenant: &TenantId,
        user: Uuid,
        span: Span,
        Range { start, end }: Range<i64>,
    ) -> Result<UserTotals, StoreError> {
        let text = "SELECT COALESCE(CAST(SUM(operations) AS BIGINT), 0) AS operations,
                COALESCE(CAST(SUM(tool_calls) AS BIGINT), 0) AS tool_calls,
                COALESCE(CAST(SUM(errors) AS BIGINT), 0) AS errors, MAX(last_at) AS last_at
            FROM rollup_users WHERE tenant_id = $1 AND user_id = $2 AND span = $3 AND at >= $4 AND at < $5";
        Ok(on!(read self, db => {
            let query = sqlx::query_as(text).bind(tenant.as_str()).bind(user).bind(span.seconds());
            query.bind(start).bind(end).fetch_one(db).await?
        }))
    }

    /// What of an account's doings has a name, the most frequent first.
    pub async fn user_words(
        &self,
        tenant: &TenantId,
        user: Uuid,
        Range { start, end }: Range<i64>,
    ) -> Result<Vec<WordTotals>, StoreError> {
        let text = "SELECT kind, place, word, CAST(SUM(count) AS BIGINT) AS count FROM rollup_user_words
            WHERE tenant_id = $1 AND user_id = $2 AND at >= $3 AND at < $4
            GROUP BY kind, place, word ORDER BY count DESC, kind, place, word LIMIT $5";
        Ok(on!(read self, db => {
            let query = sqlx::query_as(text).bind(tenant.as_str()).bind(user).bind(start).bind(end);
            query.bind(MOST_WORDS).fetch_all(db).await?
        }))
    }
}

fn sum(rows: &[Vec<u8>]) -> Result<Sketch, StoreError> {
    let mut sum = Sketch::default();
    for row in rows {
        sum.merge(&Sketch::from_bytes(row).ok_or_else(|| StoreError::Corrupt("a sketch of times".into()))?);
    }
    Ok(sum)
}
