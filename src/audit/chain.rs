//! How records hang together: each has the hash of the one before it and its own text, so that none can be changed, taken out, put in
//! or moved without all behind it being made anew; and what the head of a chain is now and then, signed.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::Record;
use crate::crypto::stamp::StampKey;
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

/// What is signed of a head or a checkpoint.
pub(super) fn signed(chain: &str, seq: i64, hash: &[u8], at: i64) -> Vec<u8> {
    let mut text = format!("mcp-gateway audit head\n{chain}\n{seq}\n{at}\n").into_bytes();
    super::encode::append_hexadecimal(hash, &mut text);
    text
}

/// The chain that a record belongs to.
pub(super) fn chain_of(record: &Record) -> &str {
    record.tenant.as_deref().unwrap_or_default()
}

/// The row of a record, without its place. Its text is kept to the letter.
pub(super) fn row(record: &Record, text: String) -> AuditRow {
    AuditRow {
        chain: chain_of(record).to_owned(),
        seq: 0,
        id: record.id,
        at: record.at,
        action: record.action.to_string(),
        outcome: record.outcome.to_string(),
        user_id: record.user,
        username: record.username.as_deref().map(str::to_owned),
        server: record.server.as_deref().map(str::to_owned),
        name: record.name.as_deref().map(str::to_owned),
        address: record.address.map(|address| address.to_string()),
        client: record.client.as_deref().map(str::to_owned),
        request_id: record.request_id.as_deref().map(str::to_owned),
        text,
        hash: Vec::new(),
    }
}

/// Hangs `rows` behind what there is of a chain, at the time `now`.
pub(super) fn link(
    chain: &str,
    before: Option<ChainRow>,
    mut rows: Vec<AuditRow>,
    key: &Arc<(Uuid, StampKey)>,
    now: i64,
) -> ChainPart {
    let mut head = before.unwrap_or_else(|| ChainRow {
        chain: chain.to_owned(),
        begin_seq: 0,
        begin_hash: beginning(chain),
        seq: 0,
        hash: beginning(chain),
        at: now,
        key_id: key.0,
        signature: Vec::new(),
        checkpoint_seq: 0,
        checkpoint_at: now,
    });
    for row in &mut rows {
        head.seq += 1;
        head.hash = hash(&head.hash, &row.text);
        (row.seq, row.hash) = (head.seq, head.hash.clone());
    }
    (head.at, head.key_id) = (now, key.0);
    head.signature = key.1.sign(&signed(chain, head.seq, &head.hash, now));
    let due = head.seq - head.checkpoint_seq >= RECORDS || now - head.checkpoint_at >= TIME;
    let checkpoint = (due && head.seq > head.checkpoint_seq).then(|| {
        (head.checkpoint_seq, head.checkpoint_at) = (head.seq, now);
        CheckpointRow {
            chain: chain.to_owned(),
            seq: head.seq,
            hash: head.hash.clone(),
            at: now,
            key_id: head.key_id,
            signature: head.signature.clone(),
        }
    });
    ChainPart { rows, head, checkpoint }
}
