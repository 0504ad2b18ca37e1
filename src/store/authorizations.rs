//! Authorization requests under way. Rows are minutes old at most; what is in them is sealed by `grants`, and only hashes of the
//! cookie and the state that reach them are kept.

use uuid::Uuid;

use super::{Store, StoreError};

/// A row of `authorizations`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AuthorizationRow {
    /// UUID version 7.
    pub id: Uuid,
    /// SHA-256 of the cookie of the browser that it is bound to.
    pub browser_hash: Vec<u8>,
    /// SHA-256 of the state that a provider was sent.
    pub state_hash: Option<Vec<u8>>,
    /// What was asked for, sealed.
    pub request: Vec<u8>,
    /// Microseconds since 1970.
    pub created_at: i64,
    /// Microseconds since 1970.
    pub expires_at: i64,
}

impl Store {
    /// Inserts one, unless `most` are there already; says whether it did. Several at once may go over it by as many.
    pub async fn insert_authorization(&self, row: &AuthorizationRow, most: i64) -> Result<bool, StoreError> {
        let text = "INSERT INTO authorizations (id, browser_hash, state_hash, request, created_at, expires_at)
            SELECT $1, $2, $3, $4, $5, $6
            WHERE (SELECT COUNT(*) FROM (SELECT 1 FROM authorizations LIMIT $7) AS counted) < $7";
        let done = on!(alone self, db => {
            sqlx::query(text)
                .bind(row.id)
                .bind(row.browser_hash.as_slice())
                .bind(row.state_hash.as_deref())
                .bind(row.request.as_slice())
                .bind(row.created_at)
                .bind(row.expires_at)
                .bind(most)
                .execute(db)
                .await?
                .rows_affected()
        });
        Ok(done > 0)
    }

    /// The one of that id, if it is bound to that browser and not over by `now`.
    pub async fn authorization(
        &self,
        id: Uuid,
        browser: &[u8; 32],
        now: i64,
    ) -> Result<Option<AuthorizationRow>, StoreError> {
        let text = "SELECT * FROM authorizations WHERE id = $1 AND browser_hash = $2 AND expires_at > $3";
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(id).bind(browser.as_slice()).bind(now).fetch_optional(db).await?
        }))
    }

    /// The one of that id, whichever browser it is bound to, if it is not over by `now`.
    pub async fn any_authorization(&self, id: Uuid, now: i64) -> Result<Option<AuthorizationRow>, StoreError> {
        let text = "SELECT * FROM authorizations WHERE id = $1 AND expires_at > $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(id).bind(now).fetch_optional(db).await?))
    }

    /// The id of the one whose browser was sent to a provider with that state.
    pub async fn authorization_of_state(&self, state: &[u8; 32], now: i64) -> Result<Option<Uuid>, StoreError> {
        let text = "SELECT id FROM authorizations WHERE state_hash = $1 AND expires_at > $2";
        Ok(on!(read self, db => {
            sqlx::query_scalar(text).bind(state.as_slice()).bind(now).fetch_optional(db).await?
        }))
    }

    /// Writes the sealed request and the state's hash over `read`; `Stale` when the row is not as it was read.
    pub async fn update_authorization(
        &self,
        read: &AuthorizationRow,
        request: &[u8],
        state: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let text = "UPDATE authorizations SET request = $1, state_hash = $2 WHERE id = $3 AND request = $4";
        let done = on!(alone self, db => {
            sqlx::query(text)
                .bind(request)
                .bind(state)
                .bind(read.id)
                .bind(read.request.as_slice())
                .execute(db)
                .await?
                .rows_affected()
        });
        if done == 0 { Err(StoreError::Stale) } else { Ok(()) }
    }

    /// Removes and returns the one of that id and browser; with `state`, only if that is its state. Of several that try at
    /// once, one gets it.
    pub async fn take_authorization(
        &self,
        id: Uuid,
        browser: &[u8; 32],
        state: Option<&[u8; 32]>,
        now: i64,
    ) -> Result<Option<AuthorizationRow>, StoreError> {
        let text = "DELETE FROM authorizations
            WHERE id = $1 AND browser_hash = $2 AND ($3 IS NULL OR state_hash = $3) AND expires_at > $4 RETURNING *";
        let taken: Vec<AuthorizationRow> = on!(alone self, db => {
            sqlx::query_as(text)
                .bind(id)
                .bind(browser.as_slice())
                .bind(state.map(<[u8; 32]>::as_slice))
                .bind(now)
                .fetch_all(db)
                .await?
        });
        Ok(taken.into_iter().next())
    }

    /// Removes up to 1,000 that were over by `now`; says how many.
    pub async fn purge_authorizations(&self, now: i64) -> Result<u64, StoreError> {
        let text = "DELETE FROM authorizations
            WHERE id IN (SELECT id FROM authorizations WHERE expires_at <= $1 ORDER BY expires_at LIMIT 1000)";
        Ok(on!(brief self, tx => sqlx::query(text).bind(now).execute(&mut *tx).await?.rows_affected()))
    }
}
