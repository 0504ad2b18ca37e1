//! The audit trail as it is at one moment: what comes or goes meanwhile is not seen.

use sqlx::{AssertSqlSafe, Postgres, Sqlite, Transaction};

use super::audit::{AcceptedRow, AuditKeyRow, AuditRow, ChainRow, CheckpointRow};
use super::audit_blocks::{FoundBlock, behind};
use super::{Db, Store, StoreError};

/// See the module. It holds a connection.
pub struct AuditView(Reading);

enum Reading {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

macro_rules! read {
    ($view:expr, $db:ident => $body:expr) => {
        match &mut $view.0 {
            Reading::Sqlite(tx) => {
                let $db = &mut **tx;
                $body
            }
            Reading::Postgres(tx) => {
                let $db = &mut **tx;
                $body
            }
        }
    };
}

impl Store {
    /// The trail as it is when it is first read of.
    pub async fn audit_view(&self) -> Result<AuditView, StoreError> {
        Ok(AuditView(match &self.db {
            Db::Sqlite(db) => Reading::Sqlite(db.read.begin().await?),
            Db::Postgres(pool) => {
                Reading::Postgres(pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
            }
        }))
    }
}

impl AuditView {
    /// The keys that sign heads and checkpoints.
    pub async fn keys(&mut self) -> Result<Vec<AuditKeyRow>, StoreError> {
        Ok(read!(self, db => sqlx::query_as("SELECT * FROM audit_keys").fetch_all(db).await?))
    }

    /// All chains.
    pub async fn chains(&mut self) -> Result<Vec<ChainRow>, StoreError> {
        Ok(read!(self, db => sqlx::query_as("SELECT * FROM audit_chains ORDER BY chain").fetch_all(db).await?))
    }

    /// The names of all chains of which there is anything.
    pub async fn names(&mut self) -> Result<Vec<String>, StoreError> {
        let text = "SELECT chain FROM audit_chains UNION SELECT chain FROM audit_checkpoints
            UNION SELECT chain FROM audit_accepted UNION SELECT chain FROM audit_records
            UNION SELECT chain FROM audit_blocks ORDER BY chain";
        Ok(read!(self, db => sqlx::query_scalar(text).fetch_all(db).await?))
    }

    /// One chain.
    pub async fn chain(&mut self, chain: &str) -> Result<Option<ChainRow>, StoreError> {
        let text = "SELECT * FROM audit_chains WHERE chain = $1";
        Ok(read!(self, db => sqlx::query_as(text).bind(chain).fetch_optional(db).await?))
    }

    /// The checkpoints of a chain, oldest first.
    pub async fn checkpoints(&mut self, chain: &str) -> Result<Vec<CheckpointRow>, StoreError> {
        let text = "SELECT * FROM audit_checkpoints WHERE chain = $1 ORDER BY seq";
        Ok(read!(self, db => sqlx::query_as(text).bind(chain).fetch_all(db).await?))
    }

    /// What of a chain was taken as it is, in order.
    pub async fn accepted(&mut self, chain: &str) -> Result<Vec<AcceptedRow>, StoreError> {
        let text = "SELECT * FROM audit_accepted WHERE chain = $1 ORDER BY seq";
        Ok(read!(self, db => sqlx::query_as(text).bind(chain).fetch_all(db).await?))
    }

    /// Up to `most` blocks of a chain in which there are records behind that place, in their order.
    pub async fn blocks(&mut self, chain: &str, after: i64, most: i64) -> Result<Vec<FoundBlock>, StoreError> {
        let text = || AssertSqlSafe(behind());
        Ok(read!(self, db => sqlx::query_as(text()).bind(chain).bind(after.max(0)).bind(most).fetch_all(db).await?))
    }

    /// Up to `most` blocks of a chain of which nothing is kept any more: from where to where each is, and its texts as they stand there.
    pub async fn blocks_below(
        &mut self,
        chain: &str,
        begin: i64,
        most: i64,
    ) -> Result<Vec<(i64, i64, Vec<u8>)>, StoreError> {
        let text = "SELECT first_seq, last_seq, texts FROM audit_blocks
            WHERE chain = $1 AND first_seq <= $2 AND last_seq <= $2 ORDER BY first_seq LIMIT $3";
        Ok(read!(self, db => sqlx::query_as(text).bind(chain).bind(begin).bind(most).fetch_all(db).await?))
    }

    /// Up to `most` blocks of a chain that begin where another one still goes on, or end before they begin: from where to where each is, and
    /// its texts as they stand there. One that is too long goes on as far as a block can.
    pub async fn blocks_across(&mut self, chain: &str, most: i64) -> Result<Vec<(i64, i64, Vec<u8>)>, StoreError> {
        let text = "SELECT b.first_seq, b.last_seq, b.texts FROM audit_blocks b JOIN (
                SELECT first_seq, max(reach) OVER (
                    ORDER BY first_seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
                FROM (SELECT first_seq, CASE WHEN first_seq > 9000000000000000000 THEN last_seq
                    WHEN last_seq > first_seq + 255 THEN first_seq + 255 ELSE last_seq END AS reach
                    FROM audit_blocks WHERE chain = $1) AS reaching) AS behind ON behind.first_seq = b.first_seq
            WHERE b.chain = $1 AND (b.first_seq <= behind.before OR b.last_seq < b.first_seq)
            ORDER BY b.first_seq LIMIT $2";
        Ok(read!(self, db => sqlx::query_as(text).bind(chain).bind(most).fetch_all(db).await?))
    }

    /// Up to `most` records of a chain behind that place that stand alone, in their order.
    pub async fn rows(&mut self, chain: &str, after: i64, most: i64) -> Result<Vec<AuditRow>, StoreError> {
        let text = "SELECT * FROM audit_records WHERE chain = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        Ok(read!(self, db => sqlx::query_as(text).bind(chain).bind(after).bind(most).fetch_all(db).await?))
    }

    /// Up to `most` records of a chain that stand alone where none is kept any more.
    pub async fn records_below(&mut self, chain: &str, begin: i64, most: i64) -> Result<Vec<AuditRow>, StoreError> {
        let text = "SELECT * FROM audit_records WHERE chain = $1 AND seq <= $2 ORDER BY seq LIMIT $3";
        Ok(read!(self, db => sqlx::query_as(text).bind(chain).bind(begin).bind(most).fetch_all(db).await?))
    }
}
