//! The records of a chain in their order, wherever they stand: alone or in blocks.

use sha2::{Digest as _, Sha256};

use super::block::{Block, HASH, Kept, MOST, Told, digest};
use crate::crypto::hexadecimal;
use crate::store::audit::AuditRow;
use crate::store::audit_blocks::{BlockRow, FoundBlock};
use crate::store::audit_view::AuditView;
use crate::store::{Store, StoreError};

/// Where records are read: the trail as it is by now, or as it is at one moment.
pub(super) trait Source {
    /// The last record that is there already: what comes later may be seen while what comes before it is not.
    fn last(&mut self, chain: &str) -> impl Future<Output = Result<i64, StoreError>> + Send;

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
    async fn last(&mut self, chain: &str) -> Result<i64, StoreError> {
        self.audit_last(chain).await
    }

    async fn rows(&mut self, chain: &str, after: i64, most: i64) -> Result<Vec<AuditRow>, StoreError> {
        self.audit_rows(chain, after, most).await
    }

    async fn blocks(&mut self, chain: &str, after: i64, most: i64) -> Result<Vec<FoundBlock>, StoreError> {
        self.audit_blocks(chain, after, most).await
    }
}

impl Source for &mut AuditView {
    async fn last(&mut self, _: &str) -> Result<i64, StoreError> {
        // Nothing comes meanwhile.
        Ok(i64::MAX)
    }

    async fn rows(&mut self, chain: &str, after: i64, most: i64) -> Result<Vec<AuditRow>, StoreError> {
        AuditView::rows(self, chain, after, most).await
    }

    async fn blocks(&mut self, chain: &str, after: i64, most: i64) -> Result<Vec<FoundBlock>, StoreError> {
        AuditView::blocks(self, chain, after, most).await
    }
}

/// A block with which something is wrong.
#[derive(Debug)]
pub(super) struct Unsound {
    pub(super) first: i64,
    pub(super) last: i64,
    /// SHA-256 of what stands there, hexadecimal.
    pub(super) digest: String,
    /// The hash that its last record has, as it says.
    pub(super) hash: Vec<u8>,
}

impl Unsound {
    fn new(block: &BlockRow, digest: String) -> Self {
        let hash = block.hashes.last_chunk::<HASH>().map(|hash| hash.to_vec()).unwrap_or_default();
        Self { first: block.first_seq, last: block.last_seq, digest, hash }
    }
}

/// Some records of a chain.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// In their order. A place comes twice only where two records claim it.
    pub(super) records: Vec<Kept>,
    /// The places that come twice, with the same record.
    pub(super) twice: Vec<i64>,
    /// The blocks that cannot be opened, in their order.
    pub(super) damaged: Vec<Unsound>,
    /// The blocks that lie about their ids: searches pass over them, or open them in vain.
    pub(super) lying: Vec<Unsound>,
    /// Behind which place to go on; none at the end of the chain.
    pub(super) next: Option<i64>,
}

/// About `most` records behind that place.
pub(super) async fn piece(mut source: impl Source, chain: &str, after: i64, most: i64) -> Result<Piece, StoreError> {
    let last = source.last(chain).await?;
    // Those that stand alone first: one that becomes part of a block meanwhile is seen twice, and else it would not be seen at all.
    let rows = source.rows(chain, after, most).await?;
    let (blocks, mut end) = blocks(&mut source, chain, after, most / whole(MOST)).await?;
    // As far as both say everything.
    if rows.len() >= usize::try_from(most).unwrap_or_default() {
        end = end.min(rows.last().map_or(after, |row| row.seq));
    }
    let mut piece = Piece { next: (end < last).then_some(end), ..Piece::default() };
    let end = end.min(last);
    piece.records.extend(rows.into_iter().filter(|row| row.seq <= end).map(Kept::alone));
    for FoundBlock { block, begin_seq } in &blocks {
        let Ok(open) = Block::open(block) else {
            piece.damaged.push(Unsound::new(block, digest(block)));
            continue;
        };
        let all: Vec<_> = (0..open.count()).map(|at| open.record(at)).collect();
        if !is_within(block, &all) {
            let bounds = format!("{} {}", block.least_id, block.greatest_id);
            piece.lying.push(Unsound::new(block, hexadecimal(&Sha256::digest(bounds))));
        }
        let is_wanted = |seq: i64| seq > after.max(*begin_seq) && seq <= end;
        piece.records.extend(all.into_iter().filter(|kept| is_wanted(kept.row.seq)));
    }
    piece.records.sort_by_key(|kept| kept.row.seq);
    let twice = &mut piece.twice;
    piece.records.dedup_by(|one, other| {
        let same = one.row == other.row;
        if same {
            twice.push(one.row.seq);
        }
        same
    });
    Ok(piece)
}

/// About `most` blocks with records behind that place, and up to where there is nothing in any other. Where somebody put in so many that
/// they say nothing even of the next record, all that can hold it.
async fn blocks(
    source: &mut impl Source,
    chain: &str,
    after: i64,
    most: i64,
) -> Result<(Vec<FoundBlock>, i64), StoreError> {
    for most in [most.max(1), whole(MOST) + 1] {
        let mut blocks = source.blocks(chain, after, most + 1).await?;
        if whole(blocks.len()) <= most {
            return Ok((blocks, i64::MAX));
        }
        let first = blocks.pop().map_or(i64::MAX, |next| next.block.first_seq);
        if first > after.saturating_add(1) {
            return Ok((blocks, first - 1));
        }
    }
    Err(StoreError::Corrupt(format!("the blocks of the audit trail behind record {after} of `{chain}`")))
}

/// Whether the least and the greatest id of a block are those of its records; of one that cannot be read nobody knows which it has.
fn is_within(block: &BlockRow, all: &[Kept]) -> bool {
    let ids: Vec<_> =
        all.iter().filter(|kept| !matches!(kept.told, Told::Unreadable(_))).map(|kept| kept.row.id).collect();
    let (Some(least), Some(greatest)) = (ids.iter().min(), ids.iter().max()) else { return true };
    if ids.len() == all.len() {
        return (*least, *greatest) == (block.least_id, block.greatest_id);
    }
    *least >= block.least_id && *greatest <= block.greatest_id
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::block::Loose;
    use crate::audit::{Brief, Record};

    /// A chain that grows between two reads.
    #[derive(Default)]
    struct Growing {
        rows: Vec<AuditRow>,
        blocks: Vec<FoundBlock>,
        last: i64,
        /// What comes next: so many records, and whether as a block.
        batches: Vec<(usize, bool)>,
    }

    impl Growing {
        fn grow(&mut self) {
            let Some((count, as_block)) = self.batches.pop() else { return };
            let texts: Vec<_> = (0..whole(count)).map(|at| text(self.last + 1 + at)).collect();
            let records: Vec<_> = texts.iter().map(|text| (Record::read(text).unwrap(), text.as_str())).collect();
            let briefs: Vec<_> = records.iter().map(|(record, text)| (Brief::from(record), *text)).collect();
            let block = Loose::of(&briefs).keep(self.last + 1, std::iter::repeat_n(&[7; 32][..], count));
            if as_block {
                self.blocks.push(FoundBlock { block, begin_seq: 0 });
            } else {
                let open = Block::open(&block).unwrap_or_else(|_| panic!("it was made just now"));
                self.rows.extend((0..count).map(|at| open.record(at).row));
            }
            self.last += whole(count);
        }
    }

    fn text(seq: i64) -> String {
        let id = uuid::Uuid::from_u128(u128::from(seq.unsigned_abs()));
        format!(
            r#"{{"id":"{id}","at":{seq},"instance":"{id}","surface":"mcp","action":"tools/call","tenant":"acme","outcome":"success"}}"#
        )
    }

    impl Source for &mut Growing {
        async fn last(&mut self, _: &str) -> Result<i64, StoreError> {
            let last = self.last;
            self.grow();
            Ok(last)
        }

        async fn rows(&mut self, _: &str, after: i64, most: i64) -> Result<Vec<AuditRow>, StoreError> {
            let most = usize::try_from(most).unwrap();
            let rows = self.rows.iter().filter(|row| row.seq > after).take(most).cloned().collect();
            self.grow();
            self.grow();
            Ok(rows)
        }

        async fn blocks(&mut self, _: &str, after: i64, most: i64) -> Result<Vec<FoundBlock>, StoreError> {
            let most = usize::try_from(most).unwrap();
            let blocks = self.blocks.iter().filter(|found| found.block.last_seq > after).take(most).cloned().collect();
            self.grow();
            Ok(blocks)
        }
    }

    #[tokio::test]
    async fn whoever_follows_a_chain_that_grows_misses_nothing() {
        for most in [1, 100, 500] {
            for salt in 0..6_usize {
                let kind = |at: usize| {
                    if (at * 7 + salt * at / 3).is_multiple_of(3) { (64 + at, true) } else { (1 + at % 10, false) }
                };
                let mut source = Growing { batches: (0..40).map(kind).collect(), ..Growing::default() };
                let (mut after, mut seen) = (0, Vec::new());
                loop {
                    let piece = piece(&mut source, "acme", after, most).await.unwrap();
                    seen.extend(piece.records.iter().map(|kept| kept.row.seq));
                    after = seen.last().copied().max(piece.next).unwrap_or(after);
                    if source.batches.is_empty() && after == source.last {
                        break;
                    }
                }
                assert_eq!(seen, (1..=source.last).collect::<Vec<_>>(), "{salt}, {most} at once");
            }
        }
    }
}
