//! How records hang together: each has the hash of the one before it and its own text, so that none can be changed, taken out, put in
//! or moved without all behind it being made anew; and what the head of a chain is now and then, signed.

use sha2::{Digest as _, Sha256};

use uuid::Uuid;

use super::added::Added;
use super::stamper::Keys;
use super::{Brief, Record};
use crate::crypto::stamp::is_signed;
use crate::store::audit::{AcceptedRow, AuditRow, ChainPart, ChainRow, CheckpointRow};

/// Records after which there is a checkpoint.
const RECORDS: i64 = 1_000;
/// Time after which there is one, microseconds, if there are records at all.
pub(super) const TIME: i64 = 3_600_000_000;

/// What a chain begins with: no two begin alike.
pub(super) fn beginning(chain: &str) -> Vec<u8> {
    Sha256::digest(format!("mcp-gateway audit chain\n{chain}")).to_vec()
}

/// The hash of a record behind another.
pub(super) fn hash(before: &[u8], text: &str) -> Vec<u8> {
    Sha256::new().chain_update(before).chain_update(text).finalize().to_vec()
}

/// What of a chain is signed, each in other words: else one could be put in the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed<'a> {
    /// Where it ends.
    Head,
    /// Where it once ended: as the head it would hide what was taken away behind it.
    Checkpoint,
    /// Where it begins by now.
    Beginning,
    /// What was taken as it is: by whom, why, and what was wrong.
    Accepted([&'a str; 3]),
}

/// The text of it that is signed.
pub(super) fn signed(what: Signed<'_>, chain: &str, seq: i64, hash: &[u8], at: i64) -> Vec<u8> {
    let (word, more) = match what {
        Signed::Head => ("head", None),
        Signed::Checkpoint => ("checkpoint", None),
        Signed::Beginning => ("beginning", None),
        Signed::Accepted(words) => ("accepted", Some(words)),
    };
    let mut text = format!("mcp-gateway audit {word}\n{chain}\n{seq}\n{at}\n").into_bytes();
    crate::crypto::append_hexadecimal(hash, &mut text);
    for word in more.into_iter().flatten() {
        // By their digests: no word can look like two.
        text.push(b'\n');
        crate::crypto::append_hexadecimal(&Sha256::digest(word), &mut text);
    }
    text
}

/// The chain that a record belongs to.
pub(super) fn chain_of<'a>(record: &Brief<'a>) -> &'a str {
    record.belongs_to()
}

/// The row of a record, without its place. Its text is kept to the letter.
pub(super) fn row(record: &Brief<'_>, text: String) -> AuditRow {
    AuditRow {
        chain: chain_of(record).to_owned(),
        seq: 0,
        id: record.id,
        at: record.at,
        action: record.action.to_string(),
        outcome: record.outcome.to_string(),
        user_id: record.user,
        username: record.username.map(str::to_owned),
        server: record.server.map(str::to_owned),
        name: record.name.map(str::to_owned),
        address: record.address.map(|address| address.to_string()),
        client: record.client.map(str::to_owned),
        request_id: record.request_id.map(str::to_owned),
        text,
        hash: Vec::new(),
    }
}

/// The row of a record that no journal holds.
pub(super) fn written(record: &Record) -> AuditRow {
    row(&Brief::from(record), serde_json::to_string(record).unwrap_or_default())
}

/// Whether this gateway signed the head of a chain.
pub(super) fn is_own(head: &ChainRow, keys: &Keys) -> bool {
    let text = signed(Signed::Head, &head.chain, head.seq, &head.hash, head.at);
    keys.public(head.key_id).is_some_and(|public| is_signed(public, &text, &head.signature))
}

/// Whether this gateway signed a checkpoint.
pub(super) fn is_own_point(point: &CheckpointRow, keys: &Keys) -> bool {
    let text = signed(Signed::Checkpoint, &point.chain, point.seq, &point.hash, point.at);
    keys.public(point.key_id).is_some_and(|public| is_signed(public, &text, &point.signature))
}

/// Whether a chain begins where it first did, or where this gateway says; `public` finds what verifies.
pub(super) fn begins_soundly<'k>(head: &ChainRow, public: impl FnOnce(Uuid) -> Option<&'k [u8]>) -> bool {
    if head.begin_seq == 0 {
        return head.begin_hash == beginning(&head.chain);
    }
    let text = signed(Signed::Beginning, &head.chain, head.begin_seq, &head.begin_hash, head.begin_at);
    let (Some(key), Some(signature)) = (head.begin_key, &head.begin_signature) else { return false };
    public(key).is_some_and(|public| is_signed(public, &text, signature))
}

/// Whether this gateway signed that a chain was taken as it is.
pub(super) fn is_accepted(row: &AcceptedRow, public: Option<&[u8]>) -> bool {
    let what = Signed::Accepted([&row.author, &row.reason, &row.findings]);
    let text = signed(what, &row.chain, row.seq, &row.hash, row.at);
    public.is_some_and(|public| is_signed(public, &text, &row.signature))
}

/// Hangs `added` behind what there is of a chain, at the time `now`. What is not `sound`, as somebody else made it up, is not signed, nor is
/// anything behind it: the head keeps a signature that does not fit, and so everybody sees it from then on.
pub(super) fn link(
    chain: &str,
    before: Option<ChainRow>,
    added: Added<'_>,
    keys: &Keys,
    sound: bool,
    now: i64,
) -> ChainPart {
    let mut head = before.unwrap_or_else(|| ChainRow {
        chain: chain.to_owned(),
        begin_seq: 0,
        begin_hash: beginning(chain),
        begin_at: 0,
        begin_key: None,
        begin_signature: None,
        seq: 0,
        hash: beginning(chain),
        at: now,
        key_id: keys.id,
        signature: Vec::new(),
        checkpoint_seq: 0,
        checkpoint_at: now,
    });
    if head.begin_hash.is_empty() {
        head.begin_hash = beginning(chain);
    }
    let (rows, blocks) = added.link(&mut head);
    head.at = now;
    if !sound {
        return ChainPart { rows, blocks, head, checkpoint: None, accepted: None };
    }
    head.key_id = keys.id;
    head.signature = keys.sign(&signed(Signed::Head, chain, head.seq, &head.hash, now));
    let due = head.seq - head.checkpoint_seq >= RECORDS || now - head.checkpoint_at >= TIME;
    let checkpoint = (due && head.seq > head.checkpoint_seq).then(|| checkpoint(&mut head, keys));
    ChainPart { rows, blocks, head, checkpoint, accepted: None }
}

/// A checkpoint where a chain ends now.
pub(super) fn checkpoint(head: &mut ChainRow, keys: &Keys) -> CheckpointRow {
    (head.checkpoint_seq, head.checkpoint_at) = (head.seq, head.at);
    CheckpointRow {
        chain: head.chain.clone(),
        seq: head.seq,
        hash: head.hash.clone(),
        at: head.at,
        key_id: keys.id,
        signature: keys.sign(&signed(Signed::Checkpoint, &head.chain, head.seq, &head.hash, head.at)),
    }
}
