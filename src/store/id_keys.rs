//! The key that seals what only programs keep, itself sealed by `vault`. There is one, which is made once, and again if it is damaged.

use uuid::Uuid;

use super::{Store, StoreError};

/// Its row.
pub const ID_KEY: Uuid = Uuid::from_u128(1);

impl Store {
    /// It, sealed, if it was made.
    pub async fn id_key(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let text = "SELECT sealed FROM id_keys WHERE id = $1";
        Ok(on!(read self, db => sqlx::query_scalar(text).bind(ID_KEY).fetch_optional(db).await?))
    }

    /// Keeps it, unless there is one: of several processes, one is first.
    pub async fn add_id_key(&self, sealed: &[u8], now: i64) -> Result<(), StoreError> {
        let text = "INSERT INTO id_keys (id, sealed, created_at) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING";
        on!(write self, tx => {
            sqlx::query(text).bind(ID_KEY).bind(sealed).bind(now).execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// Puts another in the place of exactly this one.
    pub async fn replace_id_key(&self, old: &[u8], new: &[u8]) -> Result<(), StoreError> {
        let text = "UPDATE id_keys SET sealed = $1 WHERE id = $2 AND sealed = $3";
        on!(write self, tx => {
            sqlx::query(text).bind(new).bind(ID_KEY).bind(old).execute(&mut *tx).await?;
        });
        Ok(())
    }
}
