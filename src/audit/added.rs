//! What a batch adds to one chain: blocks where there is much of it, else records that stand alone until there is.

use super::block::{Loose, MOST};
use super::{Brief, chain};
use crate::store::audit::{AuditRow, ChainRow};
use crate::store::audit_blocks::BlockRow;

/// Least records that are worth a block of their own: fewer make searches read more of them.
const LEAST: usize = MOST / 4;

/// See the module. Made before the transaction, in which nothing is left to do but to hash.
#[derive(Default)]
pub(super) struct Added<'a> {
    rows: Vec<AuditRow>,
    /// Before those.
    blocks: Vec<Loose<'a>>,
}

impl<'a> Added<'a> {
    /// Of the records of one chain and their texts, in their order.
    pub(super) fn of(records: &[(Brief<'_>, &'a str)]) -> Self {
        if records.len() < LEAST {
            let rows = records.iter().map(|(record, text)| chain::row(record, (*text).to_owned())).collect();
            return Self { rows, blocks: Vec::new() };
        }
        // Of about the same length, so that none is short.
        let each = records.len().div_ceil(records.len().div_ceil(MOST));
        Self { rows: Vec::new(), blocks: records.chunks(each).map(Loose::of).collect() }
    }

    pub(super) fn count(&self) -> usize {
        self.rows.len() + self.blocks.iter().map(Loose::count).sum::<usize>()
    }

    /// Records that stand alone, behind all else.
    pub(super) fn push(&mut self, rows: impl IntoIterator<Item = AuditRow>) {
        self.rows.extend(rows);
    }

    /// Hangs all of it behind the head of its chain, which is its last record then.
    pub(super) fn link(self, head: &mut ChainRow) -> (Vec<AuditRow>, Vec<BlockRow>) {
        let Self { mut rows, blocks } = self;
        let blocks = blocks.into_iter().map(|block| block.link(head)).collect();
        for row in &mut rows {
            // A number that somebody made up may be the last that there is: the database refuses the next then.
            head.seq = head.seq.saturating_add(1);
            (row.seq, row.hash) = (head.seq, chain::hash(&head.hash, &row.text));
            head.hash.clone_from(&row.hash);
        }
        (rows, blocks)
    }
}
