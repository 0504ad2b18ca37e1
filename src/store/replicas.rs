//! Which processes serve from this database.

use uuid::Uuid;

use super::{Store, StoreError};

const HERE: &str =
    "INSERT INTO replicas (id, seen_at) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at";
const FORGET: &str = "DELETE FROM replicas WHERE seen_at < $1";
const COUNT: &str = "SELECT count(*) FROM replicas WHERE seen_at >= $1";
const LEAVE: &str = "DELETE FROM replicas WHERE id = $1";

impl Store {
    /// The process `id` is there `now`; those that were last seen before `gone` are not. Returns how many there are. Times in microseconds.
    pub async fn is_here(&self, id: Uuid, now: i64, gone: i64) -> Result<u32, StoreError> {
        let count: i64 = on!(write self, tx => {
            sqlx::query(HERE).bind(id).bind(now).execute(&mut *tx).await?;
            sqlx::query(FORGET).bind(gone).execute(&mut *tx).await?;
            sqlx::query_scalar(COUNT).bind(gone).fetch_one(&mut *tx).await?
        });
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// The process `id` ends.
    pub async fn leaves(&self, id: Uuid) -> Result<(), StoreError> {
        on!(write self, tx => sqlx::query(LEAVE).bind(id).execute(&mut *tx).await.map(drop)?);
        Ok(())
    }
}
