//! Whether the trail in the database is what was written there: each record follows the one before it, each column says what the
//! record says, the heads, beginnings and checkpoints are what this gateway signed, and no chain is shorter than was said of it. What is
//! not so is named, one sentence each. Each chain is looked at as it is at one moment, so that a gateway may write meanwhile.

use std::collections::BTreeSet;

use ahash::{AHashMap, AHashSet};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::block::{Kept, Told};
use super::chain::{self, Signed};
use super::records::{self, Unsound};
use super::words::{Said, Words};
use super::{Record, stamper};
use crate::crypto::stamp::is_signed;
use crate::crypto::{Sealer, hexadecimal};
use crate::store::audit::{AcceptedRow, ChainRow};
use crate::store::audit_view::AuditView;
use crate::store::{Store, StoreError};

/// Records that are read at a time.
const AT_ONCE: i64 = 2_000;
/// Most findings that are told of one chain: after a restore of the wrong backup everything is wrong.
const MOST: usize = 1_000;
/// A chain that moved so much later than anything was said of any, microseconds: it is said each minute.
const UNSAID: i64 = 600_000_000;

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
    /// SHA-256 of what stands there, hexadecimal.
    pub digest: String,
}

/// A finding that was taken as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// At which record, if it is one.
    pub seq: Option<i64>,
    /// One stable word.
    pub kind: String,
    /// What is wrong.
    pub what: String,
    /// SHA-256 of what stood there, hexadecimal.
    pub digest: String,
}

/// What somebody took as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// In which chain.
    pub chain: String,
    /// Up to which record.
    pub seq: i64,
    /// When, microseconds since 1970.
    pub at: i64,
    /// Who.
    pub author: String,
    /// Why.
    pub reason: String,
    /// What was wrong.
    pub findings: Vec<Known>,
}

/// What was looked at, and what is wrong with it.
#[derive(Debug, Default, Serialize)]
pub struct Verified {
    /// Chains.
    pub chains: u64,
    /// Records.
    pub records: u64,
    /// Whether it was seen that the keys are this gateway's own, which the master key says.
    pub keys_checked: bool,
    /// What is wrong; nothing, if the trail is whole.
    pub findings: Vec<Finding>,
    /// What was wrong and was taken as it is.
    pub accepted: Vec<Taken>,
}

/// Verifies every chain, or one and that of no tenant, which says how far it was. With `master` it is also seen that the keys are the
/// gateway's own; without, that they fit. `progress` hears how many records were looked at.
pub async fn verify(
    store: &Store,
    master: Option<&Sealer>,
    only: Option<&str>,
    mut progress: impl FnMut(u64),
) -> Result<Verified, StoreError> {
    let mut verifying = Verifying {
        master,
        verified: Verified { keys_checked: master.is_some(), ..Verified::default() },
        strange: BTreeSet::new(),
        words: Words::default(),
    };
    // That of no tenant first: chains only move on from what it says.
    let mut view = store.audit_view().await?;
    let mut names = view.names().await?;
    let moved = view.chains().await?;
    if names.iter().any(String::is_empty) {
        verifying.chain(&mut view, "", None, &mut progress).await?;
    }
    let newest = moved.iter().filter(|head| !head.chain.is_empty()).max_by_key(|head| head.at);
    // All that it said may be too old by now; when it moved last is signed.
    let gone = moved.iter().find(|head| head.chain.is_empty() && head.begin_seq >= head.seq);
    let said_at = verifying.words.last_at.max(gone.map_or(0, |head| head.at));
    if let Some(newest) = newest.filter(|newest| newest.at > said_at.saturating_add(UNSAID)) {
        let what = format!(
            "the chain `{}` moved, and this one says nothing of it any more: it was removed, or an older state was brought back",
            newest.chain
        );
        let finding = Finding { chain: String::new(), seq: None, kind: "heads", what, digest: digest("unsaid") };
        let known = view.accepted("").await?;
        verifying.find_unless_known(finding, &known);
    }
    drop(view);
    names.extend(verifying.words.of.keys().filter(|chain| !names.contains(*chain)).cloned().collect::<Vec<_>>());
    if let Some(name) = only.filter(|only| !names.iter().any(|name| name == only)) {
        let what = "there is no such chain: nobody has this name".to_owned();
        let finding = Finding { chain: name.to_owned(), seq: None, kind: "chain", what, digest: digest(name) };
        verifying.verified.findings.push(finding);
    }
    for name in names {
        if !name.is_empty() && only.is_none_or(|only| only == name) {
            let said = verifying.words.of.remove(&name);
            verifying.chain(&mut store.audit_view().await?, &name, said, &mut progress).await?;
        }
    }
    Ok(verifying.verified)
}

fn digest(what: impl AsRef<[u8]>) -> String {
    hexadecimal(&Sha256::digest(what))
}

/// What all chains have in common.
struct Verifying<'a> {
    master: Option<&'a Sealer>,
    verified: Verified,
    /// Keys that are not the gateway's.
    strange: BTreeSet<Uuid>,
    words: Words,
}

impl Verifying<'_> {
    /// Looks at one chain; `said` is what was said of it.
    async fn chain(
        &mut self,
        view: &mut AuditView,
        name: &str,
        said: Option<Said>,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), StoreError> {
        let keys = self.keys(view).await?;
        let marks = view.accepted(name).await?;
        let mut chain = Chain {
            name,
            keys,
            said: said.unwrap_or_default(),
            words: &mut self.words,
            records: &mut self.verified.records,
            findings: Vec::new(),
            told: AHashSet::new(),
            damaged: Vec::new(),
            across: AHashSet::new(),
        };
        let sound: Vec<_> = marks.into_iter().filter(|mark| chain.is_accepted(mark)).collect();
        chain.verify(view, &sound, progress).await?;
        let findings = chain.finished();
        self.verified.chains += 1;
        for finding in findings {
            self.find_unless_known(finding, &sound);
        }
        self.verified.accepted.extend(sound.into_iter().map(|mark| Taken {
            findings: known(&mark),
            chain: mark.chain,
            seq: mark.seq,
            at: mark.at,
            author: mark.author,
            reason: mark.reason,
        }));
        Ok(())
    }

    fn find_unless_known(&mut self, finding: Finding, marks: &[AcceptedRow]) {
        let is_known =
            |known: &Known| (known.seq, &*known.kind, &known.digest) == (finding.seq, finding.kind, &finding.digest);
        if !marks.iter().any(|mark| known(mark).iter().any(is_known)) {
            self.verified.findings.push(finding);
        }
    }

    /// The keys that there are, of which a process may have made one just now.
    async fn keys(&mut self, view: &mut AuditView) -> Result<AHashMap<Uuid, Vec<u8>>, StoreError> {
        let mut keys = AHashMap::new();
        for row in view.keys().await? {
            let is_own = self.master.is_none_or(|master| stamper::open(master, &row).is_ok());
            if !is_own && self.strange.insert(row.id) {
                let what =
                    format!("the key {} is not this gateway's: its seal does not open under the master key", row.id);
                let digest = digest(&row.public);
                self.verified.findings.push(Finding { chain: String::new(), seq: None, kind: "key", what, digest });
            }
            keys.insert(row.id, row.public);
        }
        Ok(keys)
    }
}

/// What was wrong when somebody took a chain as it is.
fn known(mark: &AcceptedRow) -> Vec<Known> {
    serde_json::from_str(&mark.findings).unwrap_or_default()
}

struct Chain<'a> {
    name: &'a str,
    keys: AHashMap<Uuid, Vec<u8>>,
    said: Said,
    words: &'a mut Words,
    records: &'a mut u64,
    findings: Vec<Finding>,
    told: AHashSet<(Option<i64>, &'static str, String)>,
    /// Blocks that cannot be opened, in their order.
    damaged: Vec<Unsound>,
    /// Where blocks begin that were told of already, as they do not begin behind the one before.
    across: AHashSet<i64>,
}

/// The hashes that the chain has to have at some records, and who says so.
type Points = AHashMap<i64, Vec<(&'static str, String)>>;

impl Chain<'_> {
    fn find(&mut self, seq: Option<i64>, kind: &'static str, what: String, digest: String) {
        if self.told.insert((seq, kind, digest.clone())) && self.findings.len() < MOST {
            self.findings.push(Finding { chain: self.name.to_owned(), seq, kind, what, digest });
        }
    }

    fn finished(mut self) -> Vec<Finding> {
        let more = self.told.len() - self.findings.len();
        if more > 0 {
            let (what, digest) = (format!("and {more} more"), digest(more.to_string()));
            self.findings.push(Finding { chain: self.name.to_owned(), seq: None, kind: "more", what, digest });
        }
        self.findings
    }

    fn public(&self, key: Uuid) -> Option<&[u8]> {
        self.keys.get(&key).map(|public| &public[..])
    }

    fn is_signed(&self, what: Signed<'_>, (seq, hash, at): (i64, &[u8], i64), key: Uuid, signature: &[u8]) -> bool {
        let text = chain::signed(what, self.name, seq, hash, at);
        self.public(key).is_some_and(|public| is_signed(public, &text, signature))
    }

    fn is_accepted(&mut self, mark: &AcceptedRow) -> bool {
        let is_accepted = chain::is_accepted(mark, self.public(mark.key_id));
        if !is_accepted {
            let what =
                format!("that the chain was taken as it is up to record {} is not what this gateway signed", mark.seq);
            self.find(Some(mark.seq), "accepted", what, digest(&mark.signature));
        }
        is_accepted
    }

    async fn verify(
        &mut self,
        view: &mut AuditView,
        marks: &[AcceptedRow],
        progress: &mut impl FnMut(u64),
    ) -> Result<(), StoreError> {
        let Some(head) = view.chain(self.name).await? else {
            if let Some((seq, hash)) = self.said.heads.last().cloned() {
                let what = format!("the chain had {seq} records, and its head is gone: it was removed");
                self.find(Some(seq), "heads", what, hash);
            } else {
                let what = "there are records, or checkpoints, and no head: it was removed".to_owned();
                self.find(None, "head", what, digest("head"));
            }
            return Ok(());
        };
        if !self.is_signed(Signed::Head, (head.seq, &head.hash, head.at), head.key_id, &head.signature) {
            let what = "the head is not what this gateway signed".to_owned();
            self.find(Some(head.seq), "head", what, hexadecimal(&head.hash));
        }
        let mut points = self.checkpoints(view, &head).await?;
        for mark in marks {
            points.entry(mark.seq).or_default().push(("accepted", hexadecimal(&mark.hash)));
        }
        self.words_about(&head, &mut points);
        self.beginning(view, &head, &points).await?;
        for (first, last, texts) in view.blocks_across(self.name, AT_ONCE).await? {
            let what = format!(
                "the block of records {first} to {last} does not begin behind the one before it: it was put in"
            );
            self.find(Some(first), "block", what, digest(&texts));
            self.across.insert(first);
        }
        let (mut before, mut seq) = (head.begin_hash.clone(), head.begin_seq);
        let mut next = Some(seq);
        while let Some(after) = next.filter(|after| *after < head.seq) {
            let piece = records::piece(&mut *view, self.name, after, AT_ONCE).await?;
            next = piece.next;
            self.blocks(piece.damaged, piece.lying, head.seq);
            for seq in piece.twice.into_iter().filter(|seq| *seq <= head.seq) {
                self.find(Some(seq), "twice", format!("record {seq} stands there twice"), digest(seq.to_string()));
            }
            let records = piece.records.into_iter().filter(|kept| kept.row.seq <= head.seq).collect::<Vec<_>>();
            *self.records += records.len() as u64;
            for kept in records {
                let row = &kept.row;
                if row.seq > seq + 1 {
                    // Whether it follows what is gone nobody can say; what cannot be read has its hashes still.
                    let before = self.missing(seq + 1, row.seq - 1, &digest(&row.text));
                    self.record(before.as_deref(), &kept);
                } else {
                    self.record(Some(&before), &kept);
                }
                self.point(&points, row.seq, &row.hash);
                before.clone_from(&row.hash);
                seq = row.seq;
            }
            progress(*self.records);
        }
        if seq < head.seq {
            self.missing(seq + 1, head.seq, &hexadecimal(&head.hash));
        } else if before != head.hash {
            let what = "the chain has another hash than its head: records were changed and hashed anew".to_owned();
            self.find(Some(head.seq), "head", what, hexadecimal(&before));
        }
        let behind = records::piece(&mut *view, self.name, head.seq, AT_ONCE).await?;
        let added = behind.records.iter().map(|kept| (kept.row.seq, digest(&kept.row.text)));
        for (seq, digest) in added.chain(behind.damaged.into_iter().map(|block| (block.first, block.digest))) {
            let what = format!("record {seq} stands behind the head of the chain");
            self.find(Some(seq), "added", what, digest);
        }
        Ok(())
    }

    /// Looks at the checkpoints; returns the hash that each record had then.
    async fn checkpoints(&mut self, view: &mut AuditView, head: &ChainRow) -> Result<Points, StoreError> {
        let mut points = Points::new();
        for point in view.checkpoints(self.name).await? {
            let hash = hexadecimal(&point.hash);
            if !self.is_signed(Signed::Checkpoint, (point.seq, &point.hash, point.at), point.key_id, &point.signature) {
                let what = format!("the checkpoint at record {} is not what this gateway signed", point.seq);
                self.find(Some(point.seq), "checkpoint", what, hash);
                continue;
            }
            if point.seq > head.seq {
                let what = format!(
                    "the head is older than the checkpoint at record {}: records at the end are gone",
                    point.seq
                );
                self.find(Some(point.seq), "checkpoint", what, hash);
            } else {
                points.entry(point.seq).or_default().push(("checkpoint", hash));
            }
        }
        Ok(points)
    }

    /// Adds what was said of the chain, and finds what it falls short of.
    fn words_about(&mut self, head: &ChainRow, points: &mut Points) {
        let Said { heads, taken_back } = std::mem::take(&mut self.said);
        let gone = heads.last().filter(|(seq, _)| *seq > head.seq).cloned();
        for (seq, hash) in taken_back.into_iter().chain(gone) {
            let what = format!("the chain had {seq} records once, and then fewer: an older state was brought back");
            self.find(Some(seq), "heads", what, hash);
        }
        for (seq, hash) in heads {
            points.entry(seq).or_default().push(("heads", hash));
        }
    }

    /// Looks at where the chain begins, and at what stands before that.
    async fn beginning(&mut self, view: &mut AuditView, head: &ChainRow, points: &Points) -> Result<(), StoreError> {
        if !chain::begins_soundly(head, |key| self.keys.get(&key).map(|public| &public[..])) {
            let what = format!(
                "the chain begins behind record {}, and this gateway did not sign so: records at the beginning are gone",
                head.begin_seq
            );
            self.find(Some(head.begin_seq), "beginning", what, hexadecimal(&head.begin_hash));
        }
        self.point(points, head.begin_seq, &head.begin_hash);
        for row in view.records_below(self.name, head.begin_seq, AT_ONCE).await? {
            let what = format!("record {} stands before the beginning of the chain", row.seq);
            self.find(Some(row.seq), "below", what, digest(&row.text));
        }
        for (first, last, texts) in view.blocks_below(self.name, head.begin_seq, AT_ONCE).await? {
            let what = format!("records {first} to {last} stand before the beginning of the chain");
            self.find(Some(first), "below", what, digest(&texts));
        }
        Ok(())
    }

    /// Whether a record has the hash that others say.
    fn point(&mut self, points: &Points, seq: i64, hash: &[u8]) {
        let Some(said) = points.get(&seq) else { return };
        let hash = hexadecimal(hash);
        for (kind, other) in said.iter().filter(|(_, other)| *other != hash) {
            let who = match *kind {
                "heads" => "the chain of no tenant says",
                "accepted" => "it had when it was taken as it is",
                _ => "the checkpoint says",
            };
            let what = format!(
                "the chain has another hash at record {seq} than {who}: something before it was changed and hashed anew"
            );
            self.find(Some(seq), kind, what, other.clone());
        }
    }

    /// Looks at blocks in which something is wrong with more than one record, up to the head.
    fn blocks(&mut self, damaged: Vec<Unsound>, lying: Vec<Unsound>, head: i64) {
        for Unsound { first, last, digest, .. } in lying.into_iter().filter(|block| block.first <= head) {
            let what = format!("the block of records {first} to {last} says that their ids are others than they are");
            self.find(Some(first), "block", what, digest);
        }
        for block in damaged.into_iter().filter(|block| block.first <= head) {
            let Unsound { first, last, .. } = block;
            if !self.across.contains(&first) {
                let what = format!(
                    "records {first} to {last} cannot be read: the block that holds them was changed or put in"
                );
                self.find(Some(first), "block", what, block.digest.clone());
            }
            self.damaged.push(block);
        }
    }

    /// What is missing, and not because it is in a block that cannot be opened; `digest` is of what follows. Returns the hash of the last
    /// of these, if such a block has it.
    fn missing(&mut self, mut from: i64, to: i64, digest: &str) -> Option<Vec<u8>> {
        let mut hash = None;
        self.damaged.retain(|block| block.last >= from);
        for (first, last) in self.damaged.iter().map(|block| (block.first, block.last)).collect::<Vec<_>>() {
            if first > to || last < from {
                continue;
            }
            if first > from {
                self.gone(from, first - 1, digest.to_owned());
            }
            from = last.saturating_add(1);
        }
        if from <= to {
            self.gone(from, to, digest.to_owned());
        } else if let Some(block) = self.damaged.iter().find(|block| block.last == to) {
            hash = Some(block.hash.clone()).filter(|hash| !hash.is_empty());
        }
        hash
    }

    fn gone(&mut self, from: i64, to: i64, digest: String) {
        let what = if from == to {
            format!("record {from} is missing")
        } else {
            format!("records {from} to {to} are missing")
        };
        self.find(Some(from), "missing", what, digest);
    }

    fn record(&mut self, before: Option<&[u8]>, Kept { row, told }: &Kept) {
        if before.is_some_and(|before| chain::hash(before, &row.text) != row.hash) {
            let what = format!(
                "record {} does not follow the one before it: its text was changed, or it stands in another's place",
                row.seq
            );
            self.find(Some(row.seq), "record", what, digest(&row.text));
        }
        match told {
            Told::Same => {}
            Told::Otherwise(stands) => {
                let what = format!("the columns of record {} say something else than its text", row.seq);
                self.find(Some(row.seq), "columns", what, digest(stands));
            }
            Told::Unreadable(error) => {
                let what = format!("record {} cannot be read: {error}", row.seq);
                self.find(Some(row.seq), "record", what, digest(&row.text));
            }
        }
        if self.name.is_empty()
            && let Ok(record) = Record::read(&row.text)
        {
            self.words.hear(&record);
        }
    }
}
