//! Makes blocks of records that stand alone, where there are enough of them beside one another or they have done so for long. What does
//! not stand as it was written stays as it is, so that it is found out.

use super::block::{Block, HASH, Kept, Loose, MOST, Told};
use super::records::whole;
use super::{Brief, Record, chain, frame};
use crate::store::audit::AuditRow;
use crate::store::audit_blocks::{BlockRow, Packed};
use crate::store::{Store, StoreError};

/// How long few records stand alone, microseconds.
const LONG: i64 = 6 * chain::TIME;
/// Most pieces of a chain that one run looks at.
const AT_ONCE: usize = 500;

/// Makes blocks; says whether there is more to do. What cannot be done in one chain does not keep others waiting.
pub async fn pack(store: &Store, now: i64) -> Result<bool, StoreError> {
    let mut more = false;
    for chain in store.audit_packable(whole(MOST), now - LONG).await? {
        more |= match pack_chain(store, &chain, now).await {
            Ok(more) => more,
            // Somebody wrote to the trail, or more than one process makes blocks just now.
            Err(error) if error.is_of_rows() => {
                tracing::warn!(
                    chain,
                    "records of the audit trail stay as they are for now, as others stand in their place: {error}; \
                     if this comes again, see `audit verify`"
                );
                false
            }
            Err(error) => return Err(error),
        };
    }
    Ok(more)
}

/// Makes blocks of a chain; says whether there may be more of them.
async fn pack_chain(store: &Store, chain: &str, now: i64) -> Result<bool, StoreError> {
    let (mut next, mut made) = (Some(0), false);
    for _ in 0..AT_ONCE {
        let Some(after) = next else { return Ok(false) };
        let pack = |rows| {
            let packed = packed(rows, now);
            made |= packed.block.is_some();
            packed
        };
        next = store.pack_audit(chain, after, whole(MOST), pack).await?;
    }
    // Where none can be made there will be none in a moment either.
    Ok(made)
}

/// What becomes of the next records of a chain: those at the beginning that stand beside one another are a block, if there are enough, or
/// they are old, or none can come between them and the next.
fn packed(rows: Vec<AuditRow>, now: i64) -> Packed {
    let Some((first, is_old)) = rows.first().map(|row| (row.seq, row.at < now - LONG)) else {
        return Packed { block: None, next: None };
    };
    let count = rows.len();
    let mut rows = rows.into_iter().map(Kept::alone).peekable();
    let mut run: Vec<AuditRow> = Vec::with_capacity(count);
    while let Some(kept) = rows.next_if(|kept| is_good(kept) && run.last().is_none_or(|last| follows(&kept.row, last)))
    {
        run.push(kept.row);
    }
    let Some(last) = run.last().map(|row| row.seq) else {
        // Each of these is passed over, up to one that is as it was written.
        let bad = rows.take_while(|kept| !is_good(kept)).last();
        return Packed { block: None, next: Some(bad.map_or(first, |kept| kept.row.seq)) };
    };
    if run.len() == count && count < MOST && !is_old {
        return Packed { block: None, next: None };
    }
    let records: Vec<_> =
        run.iter().filter_map(|row| Some((Record::read(&row.text).ok()?, row.text.as_str()))).collect();
    let records: Vec<_> = records.iter().map(|(record, text)| (Brief::from(record), *text)).collect();
    let block = Loose::of(&records).keep(first, run.iter().map(|row| row.hash.as_slice()));
    if !holds(&block, &run) {
        tracing::error!(
            chain = block.chain,
            first,
            last,
            "records of the audit trail stay as they are: no block holds them as they are"
        );
        return Packed { block: None, next: Some(last) };
    }
    Packed { block: Some(block), next: Some(last) }
}

/// Whether a record can stand in a block: what is wrong with it is its own affair, and not that of all that would stand there with it.
fn is_good(kept: &Kept) -> bool {
    let Kept { row, told } = kept;
    matches!(told, Told::Same) && row.hash.len() == HASH && row.text.len() <= frame::LONGEST
}

fn follows(row: &AuditRow, last: &AuditRow) -> bool {
    last.seq.checked_add(1) == Some(row.seq) && row.hash == chain::hash(&last.hash, &row.text)
}

/// Whether what comes out of a block is what was put in: nobody else has it any more then.
fn holds(block: &BlockRow, rows: &[AuditRow]) -> bool {
    let Ok(block) = Block::open(block) else { return false };
    block.count() == rows.len()
        && rows.iter().enumerate().all(|(at, row)| {
            let kept = block.record(at);
            matches!(kept.told, Told::Same) && kept.row == *row
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: i64) -> Vec<AuditRow> {
        let mut hash = vec![7; HASH];
        let one = |seq: i64| {
            let id = uuid::Uuid::from_u128(u128::from(seq.unsigned_abs()));
            let text = format!(
                r#"{{"id":"{id}","at":{seq},"instance":"{id}","surface":"mcp","action":"tools/call","tenant":"acme","outcome":"success"}}"#
            );
            hash = chain::hash(&hash, &text);
            let record = Record::read(&text).unwrap();
            AuditRow { seq, hash: hash.clone(), ..chain::row(&Brief::from(&record), text.clone()) }
        };
        (1..=count).map(one).collect()
    }

    fn range(rows: Vec<AuditRow>) -> (Option<(i64, i64)>, Option<i64>) {
        let Packed { block, next } = packed(rows, i64::MAX);
        (block.map(|block| (block.first_seq, block.last_seq)), next)
    }

    #[test]
    fn one_bad_record_is_kept_out_of_a_block() {
        assert_eq!(range(rows(60)), (Some((1, 60)), Some(60)));
        let ways: [fn(&mut AuditRow); 4] = [
            |row| row.hash.truncate(31),
            |row| row.hash[0] ^= 1,
            |row| row.username = Some("eve".to_owned()),
            |row| row.text.push_str(&" ".repeat(frame::LONGEST)),
        ];
        for change in ways {
            let mut some = rows(60);
            change(&mut some[39]);
            assert_eq!(range(some.clone()), (Some((1, 39)), Some(39)));
            let (block, next) = range(some[39..].to_vec());
            // Of one of which nobody can say here whether it follows, or of none.
            assert!([None, Some((40, 40))].contains(&block) && next == Some(40), "{block:?}, {next:?}");
            assert_eq!(range(some[40..].to_vec()), (Some((41, 60)), Some(60)));
        }
    }

    #[test]
    fn all_bad_records_are_passed_over_at_once() {
        let mut some = rows(100);
        some[..70].iter_mut().for_each(|row| row.hash.clear());
        assert_eq!(range(some), (None, Some(70)));
    }

    #[test]
    fn the_last_number_that_there_is_comes_after_the_one_before() {
        let mut some = rows(2);
        (some[0].seq, some[1].seq) = (i64::MAX - 1, i64::MAX);
        assert_eq!(range(some), (Some((i64::MAX - 1, i64::MAX)), Some(i64::MAX)));
    }
}
