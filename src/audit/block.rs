//! Many records of a chain as one row of the database. Their texts are compressed together, as they are much alike. Beside these stand
//! the hash of each in its chain, and short hashes of what people look for, one kind after the other: a search reads those alone and opens
//! only the blocks in which something fits.

use std::io::Write as _;

use crc::{CRC_32_ISCSI, Crc, Table};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Brief, Record, chain, frame};
use crate::crypto::hexadecimal;
use crate::store::audit::{AuditRow, ChainRow};
use crate::store::audit_blocks::BlockRow;

/// Most records of a block.
pub(super) const MOST: usize = 256;
/// Bytes of a hash in a chain.
pub(super) const HASH: usize = 32;
/// Bytes of a length before a text.
const LENGTH: usize = 4;
/// Most bytes of the texts of a block, before they are compressed.
const LONGEST: usize = MOST * (frame::LONGEST + LENGTH);

/// Stable for ever: what it gave stands in databases.
static SHORT: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    User,
    Server,
    Name,
    Address,
    Client,
    Action,
    Outcome,
    Request,
    /// With what its id begins: when it began, to the millisecond.
    Time,
}

impl Column {
    /// As they stand in a block.
    const ALL: [Self; 9] = [
        Self::User,
        Self::Server,
        Self::Name,
        Self::Address,
        Self::Client,
        Self::Action,
        Self::Outcome,
        Self::Request,
        Self::Time,
    ];

    /// Bytes for each record. The more values there are, the more are needed to tell them apart.
    pub(super) const fn width(self) -> usize {
        match self {
            Self::User | Self::Name | Self::Address | Self::Request => 4,
            Self::Server | Self::Client | Self::Action | Self::Outcome => 2,
            Self::Time => 6,
        }
    }

    /// Of all of them.
    const WIDTH: usize = {
        let (mut all, mut at) = (0, 0);
        while at < Self::ALL.len() {
            all += Self::ALL[at].width();
            at += 1;
        }
        all
    };

    /// The hash of a value; nothing has another one than anything.
    pub(super) fn short(self, value: &[u8]) -> [u8; 4] {
        let kept = if self.width() == 4 { u32::MAX } else { 0xffff };
        (SHORT.checksum(value) & kept).max(1).to_le_bytes()
    }

    /// What stands there of a record; only so much of it as the column is wide.
    fn of(self, record: &Brief<'_>) -> [u8; 6] {
        let mut of = [0; 6];
        match self {
            Self::Time => of.copy_from_slice(&time(record.id).to_be_bytes()[2..]),
            hashed => of[..4].copy_from_slice(&hashed.hash_of(record)),
        }
        of
    }

    fn hash_of(self, record: &Brief<'_>) -> [u8; 4] {
        let some = |text: Option<&str>| text.map_or([0; 4], |text| self.short(text.as_bytes()));
        match self {
            Self::Time => [0; 4],
            Self::User => record.user.map_or([0; 4], |user| self.short(user.as_bytes())),
            Self::Server => some(record.server),
            Self::Name => some(record.name),
            Self::Address => record.address.map_or([0; 4], |address| {
                // Longer than any address is.
                let mut text = [0; 48];
                let mut rest = &mut text[..];
                _ = write!(rest, "{address}");
                let left = rest.len();
                self.short(&text[..text.len() - left])
            }),
            Self::Client => some(record.client),
            Self::Action => self.short(record.action.as_bytes()),
            Self::Outcome => self.short(record.outcome.as_bytes()),
            Self::Request => some(record.request_id),
        }
    }
}

/// Milliseconds since 1970, as an id says.
pub(super) fn time(id: Uuid) -> u64 {
    u64::try_from(id.as_u128() >> 80).unwrap_or_default()
}

/// Hashes of what is looked for, of the records of a block, and their times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns<'a>(&'a [u8]);

impl<'a> Columns<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Of how many records.
    pub(super) fn count(self) -> usize {
        self.0.len() / Column::WIDTH
    }

    /// One column, a value for each record.
    pub(super) fn values(self, column: Column) -> std::slice::ChunksExact<'a, u8> {
        let before: usize = Column::ALL.iter().take_while(|other| **other != column).map(|other| other.width()).sum();
        let (from, width) = (before * self.count(), column.width());
        self.0[from..from + width * self.count()].chunks_exact(width)
    }

    /// The times of the records.
    pub(super) fn times(self) -> impl Iterator<Item = u64> + 'a {
        self.values(Column::Time).map(|value| value.iter().fold(0, |time, byte| time << 8 | u64::from(*byte)))
    }

    /// Whether those of the record at that place are those of this one.
    fn say(self, at: usize, record: &Brief<'_>) -> bool {
        let same = |column: Column| self.values(column).nth(at) == Some(&column.of(record)[..column.width()]);
        Column::ALL.into_iter().all(same)
    }
}

/// A block of records that have no place in their chain yet.
pub(super) struct Loose<'a> {
    block: BlockRow,
    texts: Vec<&'a str>,
}

impl<'a> Loose<'a> {
    /// Of up to [`MOST`] records of a chain and their texts, in their order.
    pub(super) fn of(records: &[(Brief<'_>, &'a str)]) -> Self {
        let mut columns = Vec::with_capacity(records.len() * Column::WIDTH);
        for column in Column::ALL {
            for (record, _) in records {
                columns.extend_from_slice(&column.of(record)[..column.width()]);
            }
        }
        let texts: Vec<&str> = records.iter().map(|(_, text)| *text).collect();
        let mut all = Vec::with_capacity(texts.iter().map(|text| text.len() + LENGTH).sum());
        for text in &texts {
            all.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            all.extend_from_slice(text.as_bytes());
        }
        let ids = || records.iter().map(|(record, _)| record.id);
        let block = BlockRow {
            chain: records.first().map(|(record, _)| chain::chain_of(record).to_owned()).unwrap_or_default(),
            first_seq: 0,
            last_seq: 0,
            least_id: ids().min().unwrap_or_default(),
            greatest_id: ids().max().unwrap_or_default(),
            columns,
            hashes: Vec::with_capacity(records.len() * HASH),
            texts: lz4_flex::block::compress_prepend_size(&all),
        };
        Self { block, texts }
    }

    pub(super) fn count(&self) -> usize {
        self.texts.len()
    }

    /// Hangs it behind the head of its chain, which is its last record then.
    pub(super) fn link(self, head: &mut ChainRow) -> BlockRow {
        let Self { mut block, texts } = self;
        block.first_seq = head.seq.saturating_add(1);
        for text in texts {
            // A number that somebody made up may be the last that there is: the database refuses the next then.
            head.seq = head.seq.saturating_add(1);
            head.hash = chain::hash(&head.hash, text);
            block.hashes.extend_from_slice(&head.hash);
        }
        block.last_seq = head.seq;
        block
    }

    /// Gives it the place and the hashes that its records have already.
    pub(super) fn keep<'b>(self, first: i64, hashes: impl Iterator<Item = &'b [u8]>) -> BlockRow {
        let Self { mut block, texts } = self;
        hashes.for_each(|hash| block.hashes.extend_from_slice(hash));
        block.first_seq = first;
        block.last_seq = first.saturating_add(i64::try_from(texts.len()).unwrap_or(i64::MAX).saturating_sub(1));
        block
    }
}

/// A block whose parts do not fit together: nobody wrote it so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damaged;

/// SHA-256 of a block as it stands there, hexadecimal.
pub(super) fn digest(block: &BlockRow) -> String {
    let parts = [&block.columns, &block.hashes, &block.texts];
    let all = parts.into_iter().fold(Sha256::new(), |all, part| all.chain_update(Sha256::digest(part)));
    hexadecimal(&all.finalize())
}

/// What is stored of a record besides its text, against the text.
#[derive(Debug)]
pub(super) enum Told {
    /// Says the same.
    Same,
    /// Says something else, this: a search does not find the record, or for what it is not.
    Otherwise(String),
    /// The text is no record.
    Unreadable(serde_json::Error),
}

/// A record as it is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) row: AuditRow,
    pub(super) told: Told,
}

impl Kept {
    /// One that stands alone.
    pub(super) fn alone(row: AuditRow) -> Self {
        let told = match Record::read(&row.text) {
            Ok(record) => {
                let said = AuditRow { seq: row.seq, ..chain::row(&Brief::from(&record), String::new()) };
                let columns = AuditRow { text: String::new(), hash: Vec::new(), ..row.clone() };
                if said == columns { Told::Same } else { Told::Otherwise(format!("{columns:?}")) }
            }
            Err(error) => Told::Unreadable(error),
        };
        Self { row, told }
    }
}

/// A block that was opened.
pub(super) struct Block<'a> {
    row: &'a BlockRow,
    texts: Vec<u8>,
    /// Where each text ends.
    ends: Vec<usize>,
}

impl<'a> Block<'a> {
    pub(super) fn open(row: &'a BlockRow) -> Result<Self, Damaged> {
        let before = row.last_seq.checked_sub(row.first_seq).and_then(|before| usize::try_from(before).ok());
        let count = before.ok_or(Damaged)?.saturating_add(1);
        if count > MOST || row.columns.len() != count * Column::WIDTH || row.hashes.len() != count * HASH {
            return Err(Damaged);
        }
        let (length, _) = lz4_flex::block::uncompressed_size(&row.texts).map_err(|_| Damaged)?;
        if length > LONGEST {
            return Err(Damaged);
        }
        let texts = lz4_flex::block::decompress_size_prepended(&row.texts).map_err(|_| Damaged)?;
        if texts.len() != length {
            return Err(Damaged);
        }
        let (mut at, mut ends) = (0, Vec::with_capacity(count));
        while let Some(length) = texts.get(at..at + LENGTH).and_then(|bytes| bytes.first_chunk()) {
            at = at.saturating_add(LENGTH).saturating_add(u32::from_le_bytes(*length) as usize);
            ends.push(at);
            if at > texts.len() || ends.len() > count {
                return Err(Damaged);
            }
        }
        if ends.len() == count && at == texts.len() { Ok(Self { row, texts, ends }) } else { Err(Damaged) }
    }

    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// The place of a record in the chain.
    pub(super) fn seq(&self, at: usize) -> i64 {
        self.row.first_seq.saturating_add(i64::try_from(at).unwrap_or(i64::MAX))
    }

    fn text(&self, at: usize) -> &[u8] {
        let begin = at.checked_sub(1).map_or(0, |before| self.ends[before]) + LENGTH;
        &self.texts[begin..self.ends[at]]
    }

    /// Whether this stands somewhere in the text of a record.
    pub(super) fn mentions(&self, at: usize, what: &[u8]) -> bool {
        memchr::memmem::find(self.text(at), what).is_some()
    }

    /// What the block says of a record besides its text.
    fn said(&self, at: usize) -> String {
        let columns = Columns::new(&self.row.columns);
        let values: Vec<_> = Column::ALL.into_iter().map(|column| columns.values(column).nth(at)).collect();
        format!("{} {values:?}", self.row.chain)
    }

    /// One of its records.
    pub(super) fn record(&self, at: usize) -> Kept {
        let text = String::from_utf8_lossy(self.text(at)).into_owned();
        let (seq, hash) = (self.seq(at), self.row.hashes[at * HASH..(at + 1) * HASH].to_vec());
        let (row, told) = match Record::read(&text) {
            Ok(record) => {
                let record = Brief::from(&record);
                let same =
                    Columns::new(&self.row.columns).say(at, &record) && chain::chain_of(&record) == self.row.chain;
                (chain::row(&record, text), if same { Told::Same } else { Told::Otherwise(self.said(at)) })
            }
            Err(error) => (unreadable(text), Told::Unreadable(error)),
        };
        Kept { row: AuditRow { chain: self.row.chain.clone(), seq, hash, ..row }, told }
    }
}

/// What can be said of a text that is no record.
fn unreadable(text: String) -> AuditRow {
    AuditRow {
        chain: String::new(),
        seq: 0,
        id: Uuid::nil(),
        at: 0,
        action: String::new(),
        outcome: String::new(),
        user_id: None,
        username: None,
        server: None,
        name: None,
        address: None,
        client: None,
        request_id: None,
        text,
        hash: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(number: usize) -> String {
        let id = Uuid::from_u128(number as u128 + 1);
        format!(
            r#"{{"id":"{id}","at":{number},"instance":"{id}","surface":"mcp","action":"tools/call","tenant":"acme","address":"2001:db8::{number}","name":"tool-{number}","outcome":"success"}}"#
        )
    }

    fn block(count: usize) -> BlockRow {
        let texts: Vec<_> = (0..count).map(text).collect();
        let records: Vec<_> = texts.iter().map(|text| (Brief::read(text).unwrap(), text.as_str())).collect();
        Loose::of(&records).keep(5, std::iter::repeat_n(&[7; HASH][..], count))
    }

    #[test]
    fn what_was_put_in_comes_out() {
        for count in [1, 2, MOST] {
            let block = block(count);
            assert_eq!((block.first_seq, block.last_seq), (5, 4 + whole(count)));
            let open = Block::open(&block).unwrap_or_else(|_| panic!("{count} records"));
            for at in 0..count {
                let Kept { row, told } = open.record(at);
                assert!(matches!(told, Told::Same), "{told:?}");
                assert_eq!((row.text, row.seq, row.id), (text(at), 5 + whole(at), Uuid::from_u128(at as u128 + 1)));
                assert_eq!(row.hash, [7; HASH]);
            }
            let columns = Columns::new(&block.columns);
            let address = Column::Address.short(b"2001:db8::");
            let found: Vec<_> = columns.values(Column::Address).map(|value| value == address).collect();
            assert!(found[0] && !found[1..].contains(&true));
        }
    }

    #[test]
    fn hashes_of_what_is_looked_for_stay_as_they_are() {
        // They stand in databases: others would hide what is there.
        let hash = |column: Column, text: &str| u32::from_le_bytes(column.short(text.as_bytes()));
        assert_eq!(hash(Column::Name, "123456789"), 0xe306_9283);
        assert_eq!(hash(Column::Server, "123456789"), 0x9283);
        assert_eq!(hash(Column::Name, ""), 1);
        assert_eq!(Column::WIDTH, 30);
    }

    proptest! {
        #[test]
        fn what_somebody_changed_is_damaged_or_can_be_looked_at(
            part in 0..3_usize, at in any::<prop::sample::Index>(), bits in 1_u8.., cut in any::<bool>(), last in -3_i64..12
        ) {
            let mut block = block(6);
            let bytes = match part {
                0 => &mut block.columns,
                1 => &mut block.hashes,
                _ => &mut block.texts,
            };
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= bits }
            block.last_seq = block.first_seq + last;
            if let Ok(open) = Block::open(&block) {
                prop_assert_eq!(last, 5);
                prop_assert_eq!((0..open.count()).filter(|at| open.record(*at).row.chain == "acme").count(), 6);
            }
        }
    }

    fn whole(count: usize) -> i64 {
        i64::try_from(count).unwrap()
    }
}
