//! Removes what is older than its tenant wants it kept: from the beginning of a chain up to a checkpoint, which is what the chain
//! begins with from then on; that is signed. What is left hangs together as before.

use super::chain::{self, Signed, TIME};
use super::stamper::{Keys, StampError, Stamper};
use crate::crypto::Sealer;
use crate::store::Store;
use crate::store::audit::{Beginning, ChainRow, CheckpointRow};

/// Most records that one run removes, but for those before the last checkpoint.
const MOST: u64 = 1_000_000;
/// Days for which records of a tenant are kept that is there no more.
const OF_NOBODY: i64 = 365;
/// No tenant keeps its records for less.
const SHORTEST: i64 = 30;
/// A day, microseconds.
const DAY: i64 = 24 * TIME;

/// Removes what was written too long before `now`; says of each chain how many records went. Nothing goes from a chain of which somebody
/// else said where it begins.
pub async fn prune(store: &Store, master: &Sealer, now: i64) -> Result<Vec<(String, u64)>, StampError> {
    let keys = Stamper::new(store.clone(), master.clone()).keys().await?;
    let (mut gone, mut left) = (Vec::new(), MOST);
    for (chain, days) in store.audit_retention().await? {
        let before = now - days.unwrap_or(OF_NOBODY).max(SHORTEST) * DAY;
        let mut count = 0;
        while left > 0 {
            let sign = |head: &ChainRow, point: &CheckpointRow| sign(&keys, head, point, now);
            let removed = match store.prune_audit_chain(&chain, before, sign).await {
                Err(error) if error.is_of_rows() => {
                    tracing::error!(
                        chain,
                        "records of the audit trail are due to go and stay: {error}; see `audit verify`"
                    );
                    None
                }
                removed => removed?,
            };
            let Some(removed) = removed else { break };
            count += removed;
            left = left.saturating_sub(removed.max(1));
        }
        if count > 0 {
            gone.push((chain, count));
        }
    }
    Ok(gone)
}

/// Signs that a chain begins behind a checkpoint, if both the checkpoint and where it begins by now are this gateway's word.
fn sign(keys: &Keys, head: &ChainRow, point: &CheckpointRow, at: i64) -> Option<Beginning> {
    if !chain::begins_soundly(head, |key| keys.public(key)) || !chain::is_own_point(point, keys) {
        tracing::error!(
            chain = head.chain,
            "records of the audit trail are due to go and stay: where their chain begins was changed in the database; \
             `audit verify` says what is wrong"
        );
        return None;
    }
    let text = chain::signed(Signed::Beginning, &head.chain, point.seq, &point.hash, at);
    Some(Beginning { at, key_id: keys.id, signature: keys.sign(&text) })
}
