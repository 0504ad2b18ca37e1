//! What was asked for with a key of the caller's, and how it was answered. Who of several does it is decided by an insert.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Json, Store, StoreError};
use crate::id::TenantId;

/// Headers of an answer.
pub type Headers = BTreeMap<String, String>;

row! {
    /// A row of `idempotency`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AskedRow {
        /// SHA-256 of key and body; the key is nowhere else.
        pub fingerprint: Vec<u8>,
        /// When it was begun, in microseconds since 1970.
        pub begun_at: i64,
        /// How it was answered; none: it is under way, or whoever did it ended with the process.
        pub status: Option<i64>,
        /// Headers of the answer.
        pub headers: Option<Json<Headers>>,
        /// The answer, if it was kept.
        pub body: Option<Vec<u8>>,
    }
}

/// What came of asking to do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The caller does it.
    Won,
    /// It was asked for before.
    Held(AskedRow),
    /// The tenant has as many as it may have.
    Full,
}

/// For how long answers are kept.
pub const KEPT: Duration = Duration::from_hours(24);
/// Rows that are removed in one transaction: what waits for the database beside it waits for milliseconds.
const AT_ONCE: i64 = 500;

impl Store {
    /// Lets the caller do what `id` names, unless somebody does it or did. Rows begun before `over` count no more.
    /// `Stale` when it was let go at this moment.
    pub async fn claim(
        &self,
        tenant: &TenantId,
        id: &[u8],
        fingerprint: &[u8],
        (now, over): (i64, i64),
        most: i64,
    ) -> Result<Claim, StoreError> {
        let insert = "INSERT INTO idempotency (id, tenant_id, fingerprint, begun_at) VALUES ($1, $2, $3, $4)
            ON CONFLICT (id) DO UPDATE SET fingerprint = excluded.fingerprint, begun_at = excluded.begun_at,
                status = NULL, headers = NULL, body = NULL
            WHERE idempotency.begun_at < $5";
        let count = "SELECT COUNT(*) FROM idempotency WHERE tenant_id = $1";
        let find = "SELECT fingerprint, begun_at, status, headers, body FROM idempotency WHERE id = $1";
        // What is done after it is written durably, and this with it.
        let won = on!(brief self, tx => {
            let insert = sqlx::query(insert).bind(id).bind(tenant.as_str()).bind(fingerprint);
            let done = insert.bind(now).bind(over).execute(&mut *tx).await?;
            if done.rows_affected() > 0 {
                let held: i64 = sqlx::query_scalar(count).bind(tenant.as_str()).fetch_one(&mut *tx).await?;
                if held > most {
                    // Rolled back.
                    return Ok(Claim::Full);
                }
            }
            done.rows_affected() > 0
        });
        if won {
            return Ok(Claim::Won);
        }
        let held = on!(read self, db => sqlx::query_as(find).bind(id).fetch_optional(db).await?);
        // It may have been let go between the two.
        held.map(Claim::Held).ok_or(StoreError::Stale)
    }

    /// Keeps the answer to what was claimed at `begun`, if nobody claimed it since.
    pub async fn keep_answer(
        &self,
        id: &[u8],
        begun: i64,
        status: i64,
        headers: &Headers,
        body: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let text = "UPDATE idempotency SET status = $1, headers = $2, body = $3 WHERE id = $4 AND begun_at = $5";
        on!(write self, tx => {
            let update = sqlx::query(text).bind(status).bind(Json(headers)).bind(body).bind(id).bind(begun);
            update.execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// Lets go of what was claimed at `begun` and changed nothing: it may be asked for anew.
    pub async fn let_go(&self, id: &[u8], begun: i64) -> Result<(), StoreError> {
        let text = "DELETE FROM idempotency WHERE id = $1 AND begun_at = $2";
        on!(brief self, tx => { sqlx::query(text).bind(id).bind(begun).execute(&mut *tx).await?; });
        Ok(())
    }

    /// Removes those that began before that time; says how many.
    pub async fn purge_answers(&self, before: i64) -> Result<u64, StoreError> {
        let text = "DELETE FROM idempotency
            WHERE id IN (SELECT id FROM idempotency WHERE begun_at < $1 ORDER BY begun_at LIMIT $2)";
        let mut purged = 0;
        loop {
            let batch: u64 = on!(brief self, tx => {
                sqlx::query(text).bind(before).bind(AT_ONCE).execute(&mut *tx).await?.rows_affected()
            });
            purged += batch;
            if batch < AT_ONCE.unsigned_abs() {
                return Ok(purged);
            }
        }
    }
}
