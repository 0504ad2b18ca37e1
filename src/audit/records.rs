//! The records of a chain in their order, wherever they stand: alone or in blocks.

use super::block::{Block, Kept, MOST, digest};
use crate::store::audit::AuditRow;
use crate::store::audit_blocks::FoundBlock;
use crate::store::audit_view::AuditView;
use crate::store::{Store, StoreError};

/// Where records are read: the trail as it is by now, or as it is at one moment.
pub(super) trait Source {
    /// Up to `most` that stand alone behind that place, in their order.
    fn rows(
        &mut self,
        chain: &str,
        after: i64,
        most: i64,
    ) -> impl Future<Output = Result<Vec<AuditRow>, StoreError>> + Send;

    /// Up to `most` blocks in which there are some, in their order.
    fn blocks(
        &mut self,
        chain: &str,
        after: i64,
        most: i64,
    ) -> impl Future<Output = Result<Vec<FoundBlock>, StoreError>> + Send;
}

impl Source for &Store {
    async fn rows(&mut self, chain: &str, after: i64, most: i64) -> Result<Vec<AuditRow>, StoreError> {
        self.audit_rows(chain, after, most).await
    }

    async fn blocks(&mut self, chain: &str, after: i64, most: i64) -> Result<Vec<FoundBlock>, StoreError> {
        self.audit_blocks(chain, after, most).await
    }
}

impl Source for &mut AuditView {
    async fn rows(&mut self, chain: &str, after: i64, most: i64) -> Result<Vec<AuditRow>, StoreError> {
        AuditView::rows(self, chain, after, most).await
    }

    async fn blocks(&mut self, chain: &str, after: i64, most: i64) -> Result<Vec<FoundBlock>, StoreError> {
        AuditView::blocks(self, chain, after, most).await
    }
}

/// A block that cannot be opened.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) first: i64,
    pub(super) last: i64,
    /// SHA-256 of what stands there, hexadecimal.
    pub(super) digest: String,
}

/// Some records of a chain.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// In their order. A place comes twice only where two records claim it.
    pub(super) records: Vec<Kept>,
    /// The blocks that cannot be opened, in their order.
    pub(super) damaged: Vec<Unreadable>,
    /// Behind which place to go on; none at the end of the chain.
    pub(super) next: Option<i64>,
}

/// About `most` records behind that place.
pub(super) async fn piece(mut source: impl Source, chain: &str, after: i64, most: i64) -> Result<Piece, StoreError> {
    let whole = whole(MOST);
    let blocks_at_once = (most / whole).max(1);
    // Those that stand alone first: one that becomes part of a block meanwhile is seen twice, and else it would not be seen at all.
    let rows = source.rows(chain, after, most).await?;
    let blocks = source.blocks(chain, after, blocks_at_once).await?;
    // As far as both say everything.
    let mut end = i64::MAX;
    if rows.len() >= usize::try_from(most).unwrap_or_default() {
        end = end.min(rows.last().map_or(after, |row| row.seq));
    }
    if blocks.len() >= usize::try_from(blocks_at_once).unwrap_or_default() {
        let last = |found: &FoundBlock| found.block.last_seq.min(found.block.first_seq.saturating_add(whole - 1));
        end = end.min(blocks.last().map_or(after, last).max(after + 1));
    }
    let mut piece = Piece { next: (end < i64::MAX).then_some(end), ..Piece::default() };
    piece.records.extend(rows.into_iter().filter(|row| row.seq <= end).map(Kept::alone));
    for FoundBlock { block, begin_seq } in &blocks {
        let Ok(open) = Block::open(block) else {
            let (first, last) = (block.first_seq.max(after + 1), block.last_seq);
            piece.damaged.push(Unreadable { first, last, digest: digest(block) });
            continue;
        };
        let is_wanted = |seq: i64| seq > after.max(*begin_seq) && seq <= end;
        piece.records.extend((0..open.count()).filter(|at| is_wanted(open.seq(*at))).map(|at| open.record(at)));
    }
    piece.records.sort_by_key(|kept| kept.row.seq);
    piece.records.dedup_by(|one, other| one.row == other.row);
    Ok(piece)
}

/// The first `most` records of a chain behind that place that can be read.
pub async fn records(store: &Store, chain: &str, mut after: i64, most: usize) -> Result<Vec<AuditRow>, StoreError> {
    let mut all = Vec::new();
    loop {
        let piece = piece(store, chain, after, i64::try_from(most - all.len()).unwrap_or(i64::MAX)).await?;
        all.extend(piece.records.into_iter().map(|kept| kept.row));
        all.truncate(most);
        match piece.next {
            Some(next) if all.len() < most => after = next,
            _ => return Ok(all),
        }
    }
}

pub(super) fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
