//! Which processes serve from this database, by its own clock: those of their machines need not agree.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{Db, Store, StoreError};

const LEAVE: &str = "DELETE FROM replicas WHERE id = $1";

impl Store {
    /// The process `id` is there; those that were last seen so long ago are not. Returns how many there are.
    pub async fn is_here(&self, id: Uuid, gone: Duration) -> Result<u32, StoreError> {
        let now = match self.db {
            Db::Sqlite(_) => "CAST(unixepoch('subsec') * 1000000 AS BIGINT)",
            Db::Postgres(_) => "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
        };
        let here = format!(
            "INSERT INTO replicas (id, seen_at) VALUES ($1, {now}) ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at"
        );
        let forget = format!("DELETE FROM replicas WHERE seen_at < {now} - $1");
        let gone = i64::try_from(gone.as_micros()).unwrap_or(i64::MAX);
        let count: i64 = on!(write self, tx => {
            sqlx::query(AssertSqlSafe(here.as_str())).bind(id).execute(&mut *tx).await?;
            sqlx::query(AssertSqlSafe(forget.as_str())).bind(gone).execute(&mut *tx).await?;
            sqlx::query_scalar("SELECT count(*) FROM replicas").fetch_one(&mut *tx).await?
        });
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// The process `id` ends.
    pub async fn leaves(&self, id: Uuid) -> Result<(), StoreError> {
        on!(write self, tx => sqlx::query(LEAVE).bind(id).execute(&mut *tx).await.map(drop)?);
        Ok(())
    }
}
