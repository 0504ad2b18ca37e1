//! Records as people look for them, the newest first, wherever they stand: alone or in blocks. A block is opened only where its columns
//! say that something may fit, and blocks are looked at from the newest on, until none can hold a record that is newer than those found.

use std::ops::RangeInclusive;
use std::time::Duration;

use ahash::AHashSet;
use uuid::Uuid;

use super::block::{Block, Column, Columns, Told, time};
use super::records;
use crate::store::audit::AuditRow;
use crate::store::audit_blocks::{BlockColumns, FoundBlock};
use crate::store::audit_search::{AuditSelection, id_of};
use crate::store::{Store, StoreError};

/// Blocks whose columns are read at first, and later.
const FIRST: i64 = 4;
const LATER: i64 = 64;
/// Records that are read at a time in the order of their chain.
const AT_ONCE: i64 = 500;

/// Longest that a search goes on.
const LONGEST: Duration = Duration::from_secs(10);

/// Up to `most` of them, the newest first, or the oldest behind a place of one chain; none where it takes too long to find them.
pub async fn search(store: &Store, which: &AuditSelection<'_>, most: usize) -> Result<Vec<AuditRow>, StoreError> {
    tokio::time::timeout(LONGEST, found(store, which, most)).await.map_err(|_| StoreError::TooLong)?
}

async fn found(store: &Store, which: &AuditSelection<'_>, most: usize) -> Result<Vec<AuditRow>, StoreError> {
    let wanted = Wanted::new(store, which).await?;
    if wanted.is_nobody() {
        return Ok(Vec::new());
    }
    if let (Some(chain), Some(after)) = (which.chain, which.after) {
        return behind(store, &wanted, (chain, after), most).await;
    }
    // Those that stand alone first: one that becomes part of a block meanwhile is seen twice, and else it would not be seen at all.
    let mut found = store.audit_rows_like(which, i64::try_from(most).unwrap_or(i64::MAX)).await?;
    let (mut below, mut at_once): (Option<BlockColumns>, _) = (None, FIRST);
    loop {
        let mut blocks = store.audit_block_columns(which, below.as_ref(), at_once).await?;
        for block in &blocks {
            if most.checked_sub(1).and_then(|last| found.get(last)).is_some_and(|last| last.id > block.greatest_id) {
                return Ok(found);
            }
            let places = wanted.places(block);
            if places.is_empty() {
                continue;
            }
            // It may have gone meanwhile, as it was too old.
            let Some(whole) = store.audit_block(&block.chain, block.first_seq).await? else { continue };
            found.extend(fitting(&whole, &places).filter(|row| wanted.is(row)));
            found.sort_by(|one, other| (other.id, &other.chain, other.seq).cmp(&(one.id, &one.chain, one.seq)));
            found.dedup_by(|one, other| (&one.chain, one.seq, one.id) == (&other.chain, other.seq, other.id));
            found.truncate(most);
        }
        if blocks.len() < usize::try_from(at_once).unwrap_or_default() {
            return Ok(found);
        }
        (below, at_once) = (blocks.pop(), LATER);
    }
}

/// Those behind a place of a chain, in their order.
async fn behind(
    store: &Store,
    wanted: &Wanted<'_>,
    (chain, after): (&str, i64),
    most: usize,
) -> Result<Vec<AuditRow>, StoreError> {
    let (mut found, mut next) = (Vec::new(), Some(after));
    while let Some(after) = next.filter(|_| found.len() < most) {
        let piece = records::piece(store, chain, after, AT_ONCE).await?;
        next = piece.next;
        found.extend(piece.records.into_iter().map(|kept| kept.row).filter(|row| wanted.is(row)));
    }
    found.truncate(most);
    Ok(found)
}

/// One record; of that chain, or of any.
pub async fn record(store: &Store, chain: Option<&str>, id: Uuid) -> Result<Option<AuditRow>, StoreError> {
    let is_it = |row: &AuditRow| row.id == id && chain.is_none_or(|chain| row.chain == chain);
    if let Some(row) = store.audit_row(id).await? {
        return Ok(Some(row).filter(is_it));
    }
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = id.hyphenated().encode_lower(&mut text).as_bytes();
    let mut behind: Option<BlockColumns> = None;
    loop {
        let mut blocks = store.audit_blocks_around(chain, id, behind.as_ref(), LATER).await?;
        for block in &blocks {
            let began: Vec<_> = Columns::new(&block.columns).times().map(|began| began == time(id)).collect();
            if !began.contains(&true) {
                continue;
            }
            let Some(found) = store.audit_block(&block.chain, block.first_seq).await? else { continue };
            let Some(block) = open(&found) else { continue };
            let is_there = |at: &usize| began.get(*at) == Some(&true) && block.mentions(*at, text);
            let places: Vec<_> = (0..block.count()).filter(is_there).collect();
            if let Some(row) = fitting(&found, &places).find(is_it) {
                return Ok(Some(row));
            }
        }
        if records::whole(blocks.len()) < LATER {
            return Ok(None);
        }
        behind = blocks.pop();
    }
}

/// Those of these places that are records, of the block's own chain, and not gone yet.
fn fitting<'a>(found: &'a FoundBlock, places: &'a [usize]) -> impl Iterator<Item = AuditRow> + 'a {
    let block = open(found).into_iter();
    block.flat_map(move |block| {
        let there = |at: &&usize| **at < block.count() && block.seq(**at) > found.begin_seq;
        let records = places.iter().filter(there).map(|at| block.record(*at));
        // What stands under something else than its text says may be of another tenant.
        let records = records.filter(|kept| {
            let same = matches!(kept.told, Told::Same);
            if !same {
                let (chain, seq) = (&found.block.chain, kept.row.seq);
                tracing::error!(
                    chain,
                    seq,
                    "a record of the audit trail is not shown, as it was changed; see `audit verify`"
                );
            }
            same
        });
        records.map(|kept| kept.row).collect::<Vec<_>>()
    })
}

fn open(found: &FoundBlock) -> Option<Block<'_>> {
    let opened = Block::open(&found.block);
    if opened.is_err() {
        let (chain, first, last) = (&found.block.chain, found.block.first_seq, found.block.last_seq);
        tracing::error!(chain, first, last, "a block of the audit trail cannot be read; see `audit verify`");
    }
    opened.ok()
}

/// When records began that are wanted, milliseconds; none: at any time.
fn times(which: &AuditSelection<'_>) -> Option<RangeInclusive<u64>> {
    let from = which.from.map(|from| time(id_of(from)));
    // Of the last millisecond some may be wanted.
    let to = which.to.map(|to| time(id_of(to)));
    let to = to.into_iter().chain(which.before.map(time)).min();
    (from.is_some() || to.is_some()).then(|| from.unwrap_or_default()..=to.unwrap_or(u64::MAX))
}

/// What is looked for, as columns have it.
struct Wanted<'a> {
    which: &'a AuditSelection<'a>,
    /// The accounts.
    users: Option<AHashSet<Uuid>>,
    user_hashes: AHashSet<[u8; 4]>,
    others: Vec<(Column, [u8; 4])>,
    /// When they began, milliseconds, if that matters.
    times: Option<RangeInclusive<u64>>,
}

impl<'a> Wanted<'a> {
    async fn new(store: &Store, which: &'a AuditSelection<'a>) -> Result<Self, StoreError> {
        let mut users: Option<AHashSet<Uuid>> = which.user.map(|user| [user].into_iter().collect());
        if let Some(username) = which.username {
            let named = store.audit_users(username).await?.into_iter();
            users = Some(named.filter(|user| users.as_ref().is_none_or(|users| users.contains(user))).collect());
        }
        let user_hashes = users.iter().flatten().map(|user| Column::User.short(user.as_bytes())).collect();
        let others = [
            (Column::Request, which.request_id),
            (Column::Name, which.name),
            (Column::Server, which.server),
            (Column::Address, which.address),
            (Column::Client, which.client),
            (Column::Action, which.action),
            (Column::Outcome, which.outcome),
        ];
        let others = others.into_iter().filter_map(|(column, value)| Some((column, column.short(value?.as_bytes()))));
        Ok(Self { which, users, user_hashes, others: others.collect(), times: times(which) })
    }

    /// Whether no account is like that.
    fn is_nobody(&self) -> bool {
        self.users.as_ref().is_some_and(|users| users.is_empty())
    }

    /// Where in a block there may be some.
    fn places(&self, block: &BlockColumns) -> Vec<usize> {
        let columns = Columns::new(&block.columns);
        let mut places: Option<Vec<usize>> = self.users.is_some().then(|| {
            let users = columns.values(Column::User).enumerate();
            users.filter(|(_, hash)| self.is_user(hash)).map(|(at, _)| at).collect()
        });
        for (column, hash) in &self.others {
            let hash = &hash[..column.width()];
            let values = columns.values(*column);
            places = Some(match places {
                Some(places) => places.into_iter().filter(|at| values.clone().nth(*at) == Some(hash)).collect(),
                None => values.enumerate().filter(|(_, value)| *value == hash).map(|(at, _)| at).collect(),
            });
        }
        let mut places = places.unwrap_or_else(|| (0..columns.count()).collect());
        if let Some(wanted) = self.times.as_ref().filter(|_| !places.is_empty()) {
            let times: Vec<_> = columns.times().collect();
            places.retain(|at| wanted.contains(&times[*at]));
        }
        places
    }

    fn is_user(&self, hash: &[u8]) -> bool {
        <[u8; 4]>::try_from(hash).is_ok_and(|hash| self.user_hashes.contains(&hash))
    }

    /// Whether this is one of them, by what it says itself.
    fn is(&self, row: &AuditRow) -> bool {
        let which = self.which;
        let like = |wanted: Option<&str>, is: Option<&str>| wanted.is_none_or(|wanted| is == Some(wanted));
        like(which.chain, Some(&row.chain))
            && self.users.as_ref().is_none_or(|users| row.user_id.is_some_and(|user| users.contains(&user)))
            && like(which.action, Some(&row.action))
            && like(which.server, row.server.as_deref())
            && like(which.name, row.name.as_deref())
            && like(which.outcome, Some(&row.outcome))
            && like(which.address, row.address.as_deref())
            && like(which.client, row.client.as_deref())
            && like(which.request_id, row.request_id.as_deref())
            && which.from.is_none_or(|from| row.at >= from)
            && which.to.is_none_or(|to| row.at < to)
            && which.before.is_none_or(|before| row.id < before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Brief;
    use crate::audit::block::Loose;

    #[test]
    fn a_block_is_opened_only_for_what_began_when_it_is_asked_for() {
        const HOUR: u64 = 3_600_000;
        let id = |millis: u64| Uuid::from_u128(u128::from(millis) << 80 | 7);
        let texts = [0, 5, 9].map(|hour| {
            let (id, at) = (id(hour * HOUR + 3), (hour * HOUR + 3) * 1_000 + 999);
            format!(r#"{{"id":"{id}","at":{at},"instance":"{id}","surface":"mcp","action":"tools/call","outcome":"success"}}"#)
        });
        let records: Vec<_> = texts.iter().map(|text| (Brief::read(text).unwrap(), text.as_str())).collect();
        let block = Loose::of(&records).keep(1, std::iter::repeat_n(&[7; 32][..], 3));
        let block = BlockColumns {
            chain: block.chain,
            first_seq: block.first_seq,
            greatest_id: block.greatest_id,
            columns: block.columns,
        };
        let hour = |hours: i64| Some(hours * 3_600_000_000);
        let fifth = records[1].0.at;
        let any = AuditSelection::default();
        for (which, expected) in [
            (any.clone(), vec![0, 1, 2]),
            (AuditSelection { from: hour(1), ..any.clone() }, vec![1, 2]),
            (AuditSelection { to: hour(1), ..any.clone() }, vec![0]),
            (AuditSelection { from: hour(1), to: hour(5), ..any.clone() }, vec![]),
            (AuditSelection { from: Some(fifth), to: Some(fifth + 1), ..any.clone() }, vec![1]),
            (AuditSelection { before: Some(id(4 * HOUR)), ..any.clone() }, vec![0]),
            (AuditSelection { before: Some(id(4 * HOUR)), to: hour(1), action: Some("tools/list"), ..any }, vec![]),
        ] {
            let others = which.action.map(|action| (Column::Action, Column::Action.short(action.as_bytes())));
            let wanted = Wanted {
                which: &which,
                users: None,
                user_hashes: AHashSet::new(),
                others: others.into_iter().collect(),
                times: times(&which),
            };
            assert_eq!(wanted.places(&block), expected, "{which:?}");
        }
    }
}
