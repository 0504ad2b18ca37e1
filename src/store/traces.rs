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
    /// Which client.
    pub client_id: Option<String>,
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
    /// Of that account.
    pub user: Option<Uuid>,
    /// Of that client.
    pub client_id: Option<&'a str>,
    /// That went so.
    pub outcome: Option<&'a str>,
    /// Last changed before that time, microseconds since 1970.
    pub before: Option<i64>,
}

impl Store {
    /// Inserts one.
    pub async fn insert_trace(&self, row: &TraceRow) -> Result<(), StoreError> {
        let text =
            "INSERT INTO sign_in_traces (id, tenant_id, user_id, client_id, outcome, steps, started_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        on!(brief self, tx => {
            sqlx::query(text)
                .bind(row.id)
                .bind(row.tenant_id.as_deref())
                .bind(row.user_id)
                .bind(row.client_id.as_deref())
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
        let text = "UPDATE sign_in_traces SET tenant_id = $1, user_id = $2, client_id = $3, outcome = $4, steps = $5,
            updated_at = $6 WHERE id = $7";
        on!(brief self, tx => {
            let row: Option<TraceRow> = sqlx::query_as(take).bind(id).fetch_optional(&mut *tx).await?;
            if let Some(mut row) = row {
                change(&mut row);
                sqlx::query(text)
                    .bind(row.tenant_id.as_deref())
                    .bind(row.user_id)
                    .bind(row.client_id.as_deref())
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
        let text = "SELECT * FROM sign_in_traces
            WHERE ($1 IS NULL OR tenant_id = $1) AND ($2 IS NULL OR user_id = $2)
            AND ($3 IS NULL OR client_id = $3) AND ($4 IS NULL OR outcome = $4) AND updated_at < $5
            ORDER BY updated_at DESC, id DESC LIMIT $6";
        Ok(on!(read self, db => {
            sqlx::query_as(text)
                .bind(which.tenant.map(TenantId::as_str))
                .bind(which.user)
                .bind(which.client_id)
                .bind(which.outcome)
                .bind(which.before.unwrap_or(i64::MAX))
                .bind(limit)
                .fetch_all(db)
                .await?
        }))
    }

    /// Marks as abandoned up to 1,000 that nothing was heard of since `silent`, and removes up to 1,000 that were last changed
    /// before `old` or are beyond the newest `most`; says how many it removed.
    pub async fn purge_traces(&self, silent: i64, old: i64, most: i64) -> Result<u64, StoreError> {
        let abandon = "UPDATE sign_in_traces SET outcome = 'abandoned' WHERE outcome = 'under_way' AND id IN
            (SELECT id FROM sign_in_traces WHERE outcome = 'under_way' AND updated_at < $1 LIMIT 1000)";
        let past = "DELETE FROM sign_in_traces WHERE id IN
            (SELECT id FROM sign_in_traces WHERE updated_at < $1 ORDER BY updated_at LIMIT 1000)";
        let surplus = "DELETE FROM sign_in_traces WHERE id IN
            (SELECT id FROM sign_in_traces ORDER BY updated_at DESC, id DESC LIMIT 1000 OFFSET $1)";
        Ok(on!(brief self, tx => {
            sqlx::query(abandon).bind(silent).execute(&mut *tx).await?;
            let mut gone = sqlx::query(past).bind(old).execute(&mut *tx).await?.rows_affected();
            if gone < 1000 {
                gone += sqlx::query(surplus).bind(most).execute(&mut *tx).await?.rows_affected();
            }
            gone
        }))
    }
}
