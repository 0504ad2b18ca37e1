//! Removes what is older than its tenant wants it kept: from the beginning of a chain up to a checkpoint, which is what the chain
//! begins with from then on. What is left hangs together as before.

use super::chain::TIME;
use crate::store::audit::Pruning;
use crate::store::{Store, StoreError};

/// Records of one transaction.
const AT_ONCE: i64 = 2_000;
/// Most records that one run removes.
const MOST: u64 = 1_000_000;
/// Days for which records of a tenant are kept that is there no more.
const OF_NOBODY: i64 = 365;
/// A day, microseconds.
const DAY: i64 = 24 * TIME;

/// Removes what was written too long before `now`; says of each chain how many records went.
pub async fn prune(store: &Store, now: i64) -> Result<Vec<(String, u64)>, StoreError> {
    let (mut gone, mut left) = (Vec::new(), MOST);
    for (chain, days) in store.audit_retention().await? {
        let before = now - days.unwrap_or(OF_NOBODY) * DAY;
        let Some(to) = store.begin_audit_chain_later(&chain, before).await? else { continue };
        let mut count = 0;
        while left > 0 {
            let Pruning { removed, more } = store.prune_audit_chain(&chain, to, AT_ONCE).await?;
            count += removed;
            left = left.saturating_sub(removed);
            if !more {
                break;
            }
        }
        if count > 0 {
            gone.push((chain, count));
        }
    }
    Ok(gone)
}
