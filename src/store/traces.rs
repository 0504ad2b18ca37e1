//! Attempts to sign in, one row each. The steps are one object, so that a row is read and written whole.

use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::id::TenantId;

/// A row of `sign_in_traces`.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
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

impl Store {
    /// Inserts one.
    pub async fn insert_trace(&self, row: &TraceRow) -> Result<(), StoreError> {
        let text =
            "INSERT INTO sign_in_traces (id, tenant_id, user_id, username, client_id, client_name, grant_id, outcome,
                steps, started_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        on!(brief self, tx => {
            sqlx::query(text)
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
                .execute(&mut *tx)
                .await?;
        });
        Ok(())
    }

    /// Changes one as `change` says; of several at once, each sees what the one before wrote. A row that is gone is no error.
    pub async fn change_trace(&self, id: Uuid, change: impl FnOnce(&mut TraceRow) + Send) -> Result<(), StoreError> {
        // Takes the row for the rest of the transaction, in both databases.
        let take = "UPDATE sign_in_traces SET updated_at = updated_at WHERE id = $1 RETURNING *";
        let text = "UPDATE sign_in_traces SET tenant_id = $1, user_id = $2, username = $3, client_id = $4,
                client_name = $5, grant_id = $6, outcome = $7, steps = $8, updated_at = $9
            WHERE id = $10";
        on!(brief self, tx => {
            let row: Option<TraceRow> = sqlx::query_as(take).bind(id).fetch_optional(&mut *tx).await?;
            if let Some(mut row) = row {
                change(&mut row);
                sqlx::query(text)
                    .bind(row.tenant_id.as_deref())
                    .bind(row.user_id)
                    .bind(row.username.as_deref())
                    .bind(row.client_id.as_deref())
                    .bind(row.client_name.as_deref())
                    .bind(row.grant_id)
                    .bind(&row.outcome)
                    .bind(&row.steps)
                    .bind(row.updated_at)
                    .bind(id)
                    .execute(&mut *tx)
                    .await?;
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
