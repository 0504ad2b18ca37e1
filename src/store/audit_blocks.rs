//! Blocks of the audit trail: many records of a chain as one row. What stands in them is the affair of `audit::block`.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::audit::AuditRow;
use super::audit_search::{AuditSelection, found};
use super::{Db, Store, StoreError};

row! {
    /// A row of `audit_blocks`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct BlockRow {
        /// Of which chain.
        pub chain: String,
        /// Its first record.
        pub first_seq: i64,
        /// Its last one.
        pub last_seq: i64,
        /// The least of their ids.
        pub least_id: Uuid,
        /// The greatest.
        pub greatest_id: Uuid,
        /// Hashes of what is looked for.
        pub columns: Vec<u8>,
        /// The hash of each in the chain.
        pub hashes: Vec<u8>,
        /// Their texts, compressed.
        pub texts: Vec<u8>,
    }
}

row! {
    /// A block, and where its chain begins by now: that may be within the block.
    #[derive(Debug, Clone)]
    pub struct FoundBlock {
        rows {
            /// It.
            pub block: BlockRow,
        }
        /// The last record that is kept no longer.
        pub begin_seq: i64,
    }
}

row! {
    /// As much of a block as says whether it is worth opening.
    #[derive(Debug, Clone)]
    pub struct BlockColumns {
        /// Of which chain.
        pub chain: String,
        /// Its first record.
        pub first_seq: i64,
        /// The greatest of their ids.
        pub greatest_id: Uuid,
        /// Hashes of what is looked for.
        pub columns: Vec<u8>,
    }
}

/// What becomes of some records that stand one by one.
#[derive(Debug)]
pub struct Packed {
    /// What they are from now on, if that is a block: those in its range stand alone no longer.
    pub block: Option<BlockRow>,
    /// Behind which to go on; none: nothing is left.
    pub next: Option<i64>,
}

/// Reads a block with the beginning of its chain.
const FOUND: &str = "SELECT b.*, COALESCE(c.begin_seq, 0) AS begin_seq FROM audit_blocks b
    LEFT JOIN audit_chains c ON c.chain = b.chain";

pub(super) const ADD_BLOCK: &str = "INSERT INTO audit_blocks (chain, first_seq, last_seq, least_id, greatest_id,
        columns, hashes, texts)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// Adds a block in a transaction.
macro_rules! add_block {
    ($tx:ident, $block:expr) => {{
        let block: &$crate::store::audit_blocks::BlockRow = $block;
        let query = sqlx::query($crate::store::audit_blocks::ADD_BLOCK).bind(&block.chain).bind(block.first_seq);
        let query = query.bind(block.last_seq).bind(block.least_id).bind(block.greatest_id).bind(&block.columns);
        query.bind(&block.hashes).bind(&block.texts).execute(&mut *$tx).await?;
    }};
}
pub(super) use add_block;

/// Finds the blocks of a chain in which there are records behind a place that is not negative. No block holds more than 256, and so none
/// that holds one of these begins much before; the index knows where.
pub(super) fn behind() -> String {
    format!("{FOUND} WHERE b.chain = $1 AND b.last_seq > $2 AND b.first_seq > $2 - 256 ORDER BY b.first_seq LIMIT $3")
}

impl Store {
    /// Up to `most` blocks of a chain in which there are records behind that place, in their order.
    pub async fn audit_blocks(&self, chain: &str, after: i64, most: i64) -> Result<Vec<FoundBlock>, StoreError> {
        Ok(on!(read self, db => {
            sqlx::query_as(AssertSqlSafe(behind())).bind(chain).bind(after.max(0)).bind(most).fetch_all(db).await?
        }))
    }

    /// One block.
    pub async fn audit_block(&self, chain: &str, first: i64) -> Result<Option<FoundBlock>, StoreError> {
        let text = format!("{FOUND} WHERE b.chain = $1 AND b.first_seq = $2");
        Ok(on!(read self, db => {
            sqlx::query_as(AssertSqlSafe(text)).bind(chain).bind(first).fetch_optional(db).await?
        }))
    }

    /// Up to `most` blocks in which there may be a record of that time and chain, with the greatest ids; behind `below`.
    pub async fn audit_block_columns(
        &self,
        which: &AuditSelection<'_>,
        below: Option<&BlockColumns>,
        most: i64,
    ) -> Result<Vec<BlockColumns>, StoreError> {
        Ok(found!(self, which.of_blocks(below, most)))
    }

    /// Up to `most` blocks in which the record of this id may be, of that chain, or of any; those with ids just as great first, behind
    /// `behind`.
    pub async fn audit_blocks_around(
        &self,
        chain: Option<&str>,
        id: Uuid,
        behind: Option<&BlockColumns>,
        most: i64,
    ) -> Result<Vec<BlockColumns>, StoreError> {
        let of = if chain.is_some() { " AND chain = $6" } else { "" };
        let text = format!(
            "SELECT chain, first_seq, greatest_id, columns FROM audit_blocks
             WHERE greatest_id >= $1 AND least_id <= $1 AND (greatest_id, chain, first_seq) > ($2, $3, $4){of}
             ORDER BY greatest_id, chain, first_seq LIMIT $5"
        );
        let (greatest, of, first) =
            behind.map_or((id, "", i64::MIN), |block| (block.greatest_id, block.chain.as_str(), block.first_seq));
        Ok(on!(read self, db => {
            let query = sqlx::query_as(AssertSqlSafe(text)).bind(id).bind(greatest).bind(of).bind(first).bind(most);
            let query = if let Some(chain) = chain { query.bind(chain) } else { query };
            query.fetch_all(db).await?
        }))
    }

    /// The chains of which at least `many` records stand alone, or the first of these began before that time.
    pub async fn audit_packable(&self, many: i64, before: i64) -> Result<Vec<String>, StoreError> {
        let text = "SELECT y.chain FROM (SELECT chain, count(*) AS many, min(seq) AS seq FROM audit_records GROUP BY chain) y
            JOIN audit_records r ON r.chain = y.chain AND r.seq = y.seq WHERE y.many >= $1 OR r.at < $2 ORDER BY y.chain";
        Ok(on!(read self, db => sqlx::query_scalar(text).bind(many).bind(before).fetch_all(db).await?))
    }

    /// Makes a block of some of the up to `most` records behind that place that stand alone, as `pack` says; all of it or nothing. Says
    /// behind which place to go on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Stale`] when the block is not of these records.
    pub async fn pack_audit(
        &self,
        chain: &str,
        after: i64,
        most: i64,
        pack: impl FnOnce(Vec<AuditRow>) -> Packed + Send,
    ) -> Result<Option<i64>, StoreError> {
        let postgres = matches!(self.db, Db::Postgres(_));
        let read = "SELECT * FROM audit_records WHERE chain = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        let remove = "DELETE FROM audit_records WHERE chain = $1 AND seq >= $2 AND seq <= $3";
        // What the power cuts off here stands alone as before.
        Ok(on!(brief self, tx => {
            if postgres {
                super::audit::lock_chain!(tx, chain);
            }
            let rows: Vec<AuditRow> =
                sqlx::query_as(read).bind(chain).bind(after).bind(most).fetch_all(&mut *tx).await?;
            let Packed { block, next } = pack(rows);
            if let Some(block) = block {
                let query = sqlx::query(remove).bind(chain).bind(block.first_seq).bind(block.last_seq);
                let removed = query.execute(&mut *tx).await?.rows_affected();
                let held = block.last_seq.saturating_sub(block.first_seq).saturating_add(1);
                if i64::try_from(removed).ok() != Some(held) || block.chain != chain {
                    return Err(StoreError::Stale);
                }
                add_block!(tx, &block);
            }
            next
        }))
    }
}
