//! Whether the trail in the database is what was written there: each record follows the one before it, each column says what the
//! record says, and the heads and checkpoints are what this gateway signed. What is not so is named, one sentence each.

use ahash::{AHashMap, AHashSet};
use serde::Serialize;
use uuid::Uuid;

use super::block::{Kept, Told};
use super::chain::{self, Signed};
use super::{records, stamper};
use crate::crypto::Sealer;
use crate::crypto::stamp::is_signed;
use crate::store::audit::ChainRow;
use crate::store::{Store, StoreError, micros, now};

/// Records that are read at a time.
const AT_ONCE: i64 = 2_000;
/// No tenant keeps its records for less than 30 days, microseconds.
const SHORTEST: i64 = 30 * 24 * chain::TIME;
/// Most findings that are told of one chain: after a restore of the wrong backup everything is wrong.
const MOST: usize = 1_000;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// In which chain: a tenant's, or that of no tenant, whose name is empty.
    pub chain: String,
    /// At which record, if it is one.
    pub seq: Option<i64>,
    /// One stable word.
    pub kind: &'static str,
    /// What is wrong.
    pub what: String,
}

/// What was looked at, and what is wrong with it.
#[derive(Debug, Default, Serialize)]
pub struct Verified {
    /// Chains.
    pub chains: u64,
    /// Records.
    pub records: u64,
    /// What is wrong; nothing, if the trail is whole.
    pub findings: Vec<Finding>,
}

/// Verifies every chain, or one. With `master` it is also seen that the keys are the gateway's own; without, that they fit.
/// `progress` hears how many records were looked at.
pub async fn verify(
    store: &Store,
    master: Option<&Sealer>,
    only: Option<&str>,
    mut progress: impl FnMut(u64),
) -> Result<Verified, StoreError> {
    let mut verified = Verified::default();
    let mut keys = AHashMap::new();
    for row in store.audit_keys().await? {
        if master.is_some_and(|master| stamper::open(master, &row).is_err()) {
            let what = format!("the key {} is not this gateway's: its seal does not open under the master key", row.id);
            verified.findings.push(Finding { chain: String::new(), seq: None, kind: "key", what });
        }
        keys.insert(row.id, row.public);
    }
    let names = store.audit_chain_names().await?;
    if let Some(name) = only.filter(|only| !names.iter().any(|name| name == only)) {
        let what = "there is no such chain: nobody has this name, or all of it was removed".to_owned();
        verified.findings.push(Finding { chain: name.to_owned(), seq: None, kind: "chain", what });
    }
    for name in names {
        if only.is_none_or(|only| only == name) {
            let mut chain = Chain { keys: &keys, name: &name, verified: &mut verified, told: 0, damaged: Vec::new() };
            chain.verify(store, &mut progress).await?;
        }
    }
    Ok(verified)
}

struct Chain<'a> {
    keys: &'a AHashMap<Uuid, Vec<u8>>,
    name: &'a str,
    verified: &'a mut Verified,
    told: usize,
    /// From where to where there are blocks that cannot be opened, of which nothing was said yet.
    damaged: Vec<(i64, i64)>,
}

impl Chain<'_> {
    fn find(&mut self, seq: Option<i64>, kind: &'static str, what: String) {
        self.told += 1;
        if self.told <= MOST {
            self.verified.findings.push(Finding { chain: self.name.to_owned(), seq, kind, what });
        }
    }

    fn is_signed(&self, what: Signed, (seq, hash, at): (i64, &[u8], i64), key: Uuid, signature: &[u8]) -> bool {
        let text = chain::signed(what, self.name, seq, hash, at);
        self.keys.get(&key).is_some_and(|public| is_signed(public, &text, signature))
    }

    async fn verify(&mut self, store: &Store, progress: &mut impl FnMut(u64)) -> Result<(), StoreError> {
        self.verified.chains += 1;
        let Some(head) = store.audit_chain(self.name).await? else {
            self.find(None, "head", "there are records, or checkpoints, and no head: it was removed".to_owned());
            return Ok(());
        };
        if !self.is_signed(Signed::Head, (head.seq, &head.hash, head.at), head.key_id, &head.signature) {
            self.find(Some(head.seq), "head", "the head is not what this gateway signed".to_owned());
        }
        let points = self.checkpoints(store, &head).await?;
        let (mut before, mut seq) = (head.begin_hash.clone(), head.begin_seq);
        let mut next = Some(seq);
        while let Some(after) = next.filter(|after| *after < head.seq) {
            let piece = records::piece(store, self.name, after, AT_ONCE).await?;
            next = piece.next;
            self.damaged.extend(piece.damaged);
            let records = piece.records.into_iter().filter(|kept| kept.row.seq <= head.seq).collect::<Vec<_>>();
            self.verified.records += records.len() as u64;
            for kept in records {
                let row = &kept.row;
                if row.seq > seq + 1 {
                    self.missing(seq + 1, row.seq - 1);
                    // Whether it follows what is gone nobody can say.
                    before.clone_from(&row.hash);
                } else {
                    self.record(&before, &kept);
                    before.clone_from(&row.hash);
                }
                if points.get(&row.seq).is_some_and(|hash| *hash != row.hash) {
                    let what = format!(
                        "the chain has another hash than the checkpoint at record {}: something before it was changed and hashed anew",
                        row.seq
                    );
                    self.find(Some(row.seq), "checkpoint", what);
                }
                seq = row.seq;
            }
            progress(self.verified.records);
        }
        if seq < head.seq {
            self.missing(seq + 1, head.seq);
        } else if before != head.hash {
            let what = "the chain has another hash than its head: records were changed and hashed anew".to_owned();
            self.find(Some(head.seq), "head", what);
        }
        // What came meanwhile has moved the head with it.
        let now = store.audit_chain(self.name).await?.map_or(head.seq, |now| now.seq.max(head.seq));
        let behind = records::piece(store, self.name, now, 1).await?;
        let first = behind.records.first().map(|kept| kept.row.seq);
        if let Some(first) = first.or_else(|| behind.damaged.first().map(|(first, _)| *first)) {
            self.find(Some(first), "added", format!("record {first} stands behind the head of the chain"));
        }
        Ok(())
    }

    /// Looks at the checkpoints; returns the hash that each record had then.
    async fn checkpoints(&mut self, store: &Store, head: &ChainRow) -> Result<AHashMap<i64, Vec<u8>>, StoreError> {
        let (mut points, mut early) = (AHashMap::new(), AHashSet::new());
        let kept = micros(now()) - SHORTEST;
        for point in store.audit_checkpoints(self.name).await? {
            if point.at > kept {
                early.insert(point.seq);
            }
            if !self.is_signed(Signed::Checkpoint, (point.seq, &point.hash, point.at), point.key_id, &point.signature) {
                let what = format!("the checkpoint at record {} is not what this gateway signed", point.seq);
                self.find(Some(point.seq), "checkpoint", what);
                continue;
            }
            if point.seq > head.seq {
                let what = format!(
                    "the head is older than the checkpoint at record {}: records at the end are gone",
                    point.seq
                );
                self.find(Some(point.seq), "head", what);
            }
            points.insert(point.seq, point.hash);
        }
        let begins = if head.begin_seq == 0 {
            head.begin_hash == chain::beginning(self.name)
        } else {
            points.get(&head.begin_seq) == Some(&head.begin_hash)
        };
        if begins && early.contains(&head.begin_seq) {
            let what = format!("records up to {} are gone, and no tenant has any go so early", head.begin_seq);
            self.find(Some(head.begin_seq), "beginning", what);
        }
        if !begins {
            let what = format!(
                "the chain begins behind record {}, and no checkpoint says so: records at the beginning are gone",
                head.begin_seq
            );
            self.find(Some(head.begin_seq), "beginning", what);
        }
        Ok(points)
    }

    /// What is missing, and of that what is in blocks that cannot be opened.
    fn missing(&mut self, mut from: i64, to: i64) {
        for (first, last) in std::mem::take(&mut self.damaged) {
            let (first, last) = (first.max(from), last.min(to));
            if first > last {
                continue;
            }
            if first > from {
                self.gone(from, first - 1);
            }
            let what = format!("records {first} to {last} cannot be read: the block that holds them was changed");
            self.find(Some(first), "block", what);
            from = last + 1;
        }
        if from <= to {
            self.gone(from, to);
        }
    }

    fn gone(&mut self, from: i64, to: i64) {
        let what = if from == to {
            format!("record {from} is missing")
        } else {
            format!("records {from} to {to} are missing")
        };
        self.find(Some(from), "missing", what);
    }

    fn record(&mut self, before: &[u8], Kept { row, told }: &Kept) {
        if chain::hash(before, &row.text) != row.hash {
            let what = format!(
                "record {} does not follow the one before it: its text was changed, or it stands in another's place",
                row.seq
            );
            self.find(Some(row.seq), "record", what);
        }
        match told {
            Told::Same => {}
            Told::Otherwise => {
                let what = format!("the columns of record {} say something else than its text", row.seq);
                self.find(Some(row.seq), "columns", what);
            }
            Told::Unreadable(error) => {
                self.find(Some(row.seq), "record", format!("record {} cannot be read: {error}", row.seq));
            }
        }
    }
}
