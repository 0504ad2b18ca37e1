//! What was asked for with a key of the caller's, and how it was answered. Who of several does it is decided by an insert.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

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

/// How many there may be within a day.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Of one account.
    pub of_account: i64,
    /// Of one tenant.
    pub of_tenant: i64,
}

/// What came of asking to do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The caller does it.
    Won,
    /// It was asked for before.
    Held(AskedRow),
    /// The account or its tenant has as many as it may have; when the oldest was begun.
    Full(i64),
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Whose it is.
    pub tenant: &'a TenantId,
    /// The account.
    pub user: Uuid,
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
        asking: Asking<'_>,
        id: &[u8],
        fingerprint: &[u8],
        (now, over): (i64, i64),
        most: Most,
    ) -> Result<Claim, StoreError> {
        let insert =
            "INSERT INTO idempotency (id, tenant_id, user_id, fingerprint, begun_at) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (id) DO UPDATE SET fingerprint = excluded.fingerprint, begun_at = excluded.begun_at,
                status = NULL, headers = NULL, body = NULL
            WHERE idempotency.begun_at < $6";
        let of_account =
            "SELECT COUNT(*), MIN(begun_at) FROM idempotency WHERE tenant_id = $1 AND user_id = $2 AND id <> $3";
        let of_tenant = "SELECT COUNT(*), MIN(begun_at) FROM idempotency WHERE tenant_id = $1 AND id <> $2";
        let find =
            "SELECT fingerprint, begun_at, status, headers, body FROM idempotency WHERE id = $1 AND tenant_id = $2";
        let Asking { tenant, user } = asking;
        // What is done after it is written durably, and this with it.
        let won = on!(brief self, tx => {
            let insert = sqlx::query(insert).bind(id).bind(tenant.as_str()).bind(user).bind(fingerprint);
            let done = insert.bind(now).bind(over).execute(&mut *tx).await?;
            if done.rows_affected() > 0 {
                let query = sqlx::query_as(of_account).bind(tenant.as_str()).bind(user).bind(id);
                let own: (i64, Option<i64>) = query.fetch_one(&mut *tx).await?;
                let query = sqlx::query_as(of_tenant).bind(tenant.as_str()).bind(id);
                let all: (i64, Option<i64>) = query.fetch_one(&mut *tx).await?;
                for ((others, oldest), most) in [(own, most.of_account), (all, most.of_tenant)] {
                    if others >= most {
                        // Rolled back.
                        return Ok(Claim::Full(oldest.unwrap_or(now)));
                    }
                }
            }
            done.rows_affected() > 0
        });
        if won {
            return Ok(Claim::Won);
        }
        let held = on!(read self, db => sqlx::query_as(find).bind(id).bind(tenant.as_str()).fetch_optional(db).await?);
        // It may have been let go between the two.
        held.map(Claim::Held).ok_or(StoreError::Stale)
    }

    /// Keeps the answer to what was claimed at `begun`, if nobody claimed it since.
    pub async fn keep_answer(
        &self,
        tenant: &TenantId,
        id: &[u8],
        begun: i64,
        status: i64,
        headers: &Headers,
        body: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let text = "UPDATE idempotency SET status = $1, headers = $2, body = $3
            WHERE id = $4 AND begun_at = $5 AND tenant_id = $6";
        on!(write self, tx => {
            let update = sqlx::query(text).bind(status).bind(Json(headers)).bind(body).bind(id).bind(begun);
            update.bind(tenant.as_str()).execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// Lets go of what was claimed at `begun` and changed nothing: it may be asked for anew.
    pub async fn let_go(&self, tenant: &TenantId, id: &[u8], begun: i64) -> Result<(), StoreError> {
        let text = "DELETE FROM idempotency WHERE id = $1 AND begun_at = $2 AND tenant_id = $3";
        on!(brief self, tx => {
            sqlx::query(text).bind(id).bind(begun).bind(tenant.as_str()).execute(&mut *tx).await?;
        });
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
