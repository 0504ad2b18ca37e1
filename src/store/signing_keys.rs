//! The keys with which the gateway signs; sealed by who signs.

use uuid::Uuid;

use super::{Store, StoreError};

row! {
    /// A row of `signing_keys`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct SigningKeyRow {
        /// UUID version 7.
        pub id: Uuid,
        /// The key, sealed.
        pub sealed: Vec<u8>,
        /// Microseconds since 1970.
        pub created_at: i64,
    }
}

impl Store {
    /// All of them, oldest first.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, StoreError> {
        let text = "SELECT * FROM signing_keys ORDER BY created_at, id";
        Ok(on!(read self, db => sqlx::query_as(text).fetch_all(db).await?))
    }

    /// Keeps one, unless there is another that was made after `after`: of several processes, one is first.
    pub async fn add_signing_key(&self, row: &SigningKeyRow, after: i64) -> Result<(), StoreError> {
        let text = "INSERT INTO signing_keys (id, sealed, created_at)
            SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT 1 FROM signing_keys WHERE created_at > $4)";
        on!(write self, tx => {
            let query = sqlx::query(text).bind(row.id).bind(&row.sealed).bind(row.created_at).bind(after);
            query.execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// Removes those that were replaced by one made before `before`.
    pub async fn purge_signing_keys(&self, before: i64) -> Result<(), StoreError> {
        let text = "DELETE FROM signing_keys
            WHERE created_at < (SELECT max(created_at) FROM signing_keys WHERE created_at < $1)";
        on!(write self, tx => { sqlx::query(text).bind(before).execute(&mut *tx).await?; });
        Ok(())
    }
}
