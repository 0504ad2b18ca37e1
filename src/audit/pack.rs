//! Makes blocks of records that stand alone, where there are enough of them beside one another or they have done so for long. What does
//! not stand as it was written stays as it is, so that it is found out.

use super::block::{Kept, Loose, MOST, Told};
use super::records::whole;
use super::{Brief, Record, chain};
use crate::store::audit::AuditRow;
use crate::store::audit_blocks::Packed;
use crate::store::{Store, StoreError};

/// How long few records stand alone, microseconds.
const LONG: i64 = 6 * chain::TIME;
/// Most pieces that one run looks at.
const AT_ONCE: usize = 500;

/// Makes blocks; says whether there is more to do.
pub async fn pack(store: &Store, now: i64) -> Result<bool, StoreError> {
    let mut left = AT_ONCE;
    for chain in store.audit_packable(whole(MOST), now - LONG).await? {
        let mut next = Some(0);
        while let Some(after) = next {
            if left == 0 {
                return Ok(true);
            }
            left -= 1;
            next = store.pack_audit(&chain, after, whole(MOST), |rows| packed(rows, now)).await?;
        }
    }
    Ok(false)
}

/// What becomes of the next records of a chain: those at the beginning that stand beside one another are a block, if there are enough, or
/// they are old, or none can come between them and the next.
fn packed(rows: Vec<AuditRow>, now: i64) -> Packed {
    let Some(first) = rows.first().map(|row| row.seq) else { return Packed { block: None, next: None } };
    let (count, is_old) = (rows.len(), rows[0].at < now - LONG);
    let beside = |(at, kept): &(usize, Kept)| matches!(kept.told, Told::Same) && kept.row.seq == first + whole(*at);
    let run: Vec<_> =
        rows.into_iter().map(Kept::alone).enumerate().take_while(beside).map(|(_, kept)| kept.row).collect();
    let Some(last) = run.last().map(|row| row.seq) else { return Packed { block: None, next: Some(first) } };
    if run.len() == count && count < MOST && !is_old {
        return Packed { block: None, next: None };
    }
    let records: Vec<_> =
        run.iter().filter_map(|row| Some((Record::read(&row.text).ok()?, row.text.as_str()))).collect();
    let records: Vec<_> = records.iter().map(|(record, text)| (Brief::from(record), *text)).collect();
    let block = Loose::of(&records).keep(first, run.iter().map(|row| row.hash.as_slice()));
    Packed { block: Some(block), next: Some(last) }
}
