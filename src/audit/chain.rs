//! How records hang together: each has the hash of the one before it and its own text, so that none can be changed, taken out, put in
//! or moved without all behind it being made anew; and what the head of a chain is now and then, signed.

use sha2::{Digest as _, Sha256};

use super::Brief;
use super::added::Added;
use super::stamper::Keys;
use crate::crypto::stamp::is_signed;
use crate::store::audit::{AuditRow, ChainPart, ChainRow, CheckpointRow};

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

/// What of a chain is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed {
    /// Where it ends.
    Head,
    /// Where it once ended. It is signed in other words: else an old one could be put in the head's place, and what is behind it taken away.
    Checkpoint,
}

/// The text of a head or a checkpoint that is signed.
pub(super) fn signed(what: Signed, chain: &str, seq: i64, hash: &[u8], at: i64) -> Vec<u8> {
    let what = match what {
        Signed::Head => "head",
        Signed::Checkpoint => "checkpoint",
    };
    let mut text = format!("mcp-gateway audit {what}\n{chain}\n{seq}\n{at}\n").into_bytes();
    crate::crypto::append_hexadecimal(hash, &mut text);
    text
}

/// The chain that a record belongs to.
pub(super) fn chain_of<'a>(record: &Brief<'a>) -> &'a str {
    record.tenant.unwrap_or_default()
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

/// Whether this gateway signed the head of a chain.
pub(super) fn is_own(head: &ChainRow, keys: &Keys) -> bool {
    let text = signed(Signed::Head, &head.chain, head.seq, &head.hash, head.at);
    keys.public(head.key_id).is_some_and(|public| is_signed(public, &text, &head.signature))
}

/// Hangs `added` behind what there is of a chain, at the time `now`. What was made up is not signed, nor is anything behind it: the
/// head keeps a signature that does not fit, and so everybody sees it from then on.
pub(super) fn link(chain: &str, before: Option<ChainRow>, added: Added<'_>, keys: &Keys, now: i64) -> ChainPart {
    let sound = before.as_ref().is_none_or(|before| is_own(before, keys));
    let mut head = before.unwrap_or_else(|| ChainRow {
        chain: chain.to_owned(),
        begin_seq: 0,
        begin_hash: beginning(chain),
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
        return ChainPart { rows, blocks, head, checkpoint: None };
    }
    head.key_id = keys.id;
    head.signature = keys.sign(&signed(Signed::Head, chain, head.seq, &head.hash, now));
    let due = head.seq - head.checkpoint_seq >= RECORDS || now - head.checkpoint_at >= TIME;
    let checkpoint = (due && head.seq > head.checkpoint_seq).then(|| {
        (head.checkpoint_seq, head.checkpoint_at) = (head.seq, now);
        CheckpointRow {
            chain: chain.to_owned(),
            seq: head.seq,
            hash: head.hash.clone(),
            at: now,
            key_id: head.key_id,
            signature: keys.sign(&signed(Signed::Checkpoint, chain, head.seq, &head.hash, now)),
        }
    });
    ChainPart { rows, blocks, head, checkpoint }
}
