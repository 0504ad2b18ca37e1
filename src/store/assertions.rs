//! Signed assertions that were shown, until they expire by themselves.

use super::{Store, StoreError};

impl Store {
    /// Takes note of one; `false` when it was there. Of several that try at once, one is the first.
    pub async fn spend_assertion(&self, hash: &[u8; 32], expires_at: i64) -> Result<bool, StoreError> {
        let text = "INSERT INTO spent_assertions (hash, expires_at) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING";
        let done = on!(write self, tx => {
            sqlx::query(text).bind(hash.as_slice()).bind(expires_at).execute(&mut *tx).await?.rows_affected()
        });
        Ok(done == 1)
    }

    /// Removes up to 1,000 that had expired by `now`; says how many.
    pub async fn purge_assertions(&self, now: i64) -> Result<u64, StoreError> {
        let text = "DELETE FROM spent_assertions
            WHERE hash IN (SELECT hash FROM spent_assertions WHERE expires_at <= $1 ORDER BY expires_at LIMIT 1000)";
        Ok(on!(brief self, tx => sqlx::query(text).bind(now).execute(&mut *tx).await?.rows_affected()))
    }
}
