//! Takes a chain that is false as it is, once somebody has looked into it: a signed mark says from where on it is trusted anew, who said
//! so, why, and what was wrong. That is told for ever; what is changed later is a finding as before.

use uuid::Uuid;

use super::added::Added;
use super::chain::{self, Signed};
use super::records;
use super::stamper::{StampError, Stamper};
use super::trail::Trail;
use super::verify::{Finding, Known, verify};
use crate::crypto::Sealer;
use crate::store::audit::{AcceptedRow, ChainHead, ChainRow, JournalStep};
use crate::store::rollups::Increments;
use crate::store::{Store, StoreError, micros, now};
use crate::telemetry::Event;

/// How often it is tried to get between two pieces that a gateway writes.
const TRIES: usize = 100;
/// Records that are read at a time.
const AT_ONCE: i64 = 2_000;

/// Why a chain was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Nothing can be signed.
    #[error(transparent)]
    Stamp(#[from] StampError),
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing was ever said of it.
    #[error("there is no chain of that name, and never was one; `audit verify` names those that there are")]
    Nobody,
    /// A record was changed behind what had been looked at.
    #[error("record {0} was changed while the chain was looked at; try again")]
    Changed(i64),
    /// It never stood still.
    #[error("records come so fast that none is the last one; try again when less is done")]
    Busy,
}

/// A chain that is taken as it is.
#[derive(Debug)]
pub struct Accepted {
    /// Up to which record.
    pub seq: i64,
    /// What was wrong with it; nothing, if there was nothing to take.
    pub findings: Vec<Finding>,
}

/// Takes a chain as it is, in the words of `author`. The record of it is the first that is trusted.
pub async fn accept(
    store: &Store,
    master: &Sealer,
    trail: &Trail,
    name: &str,
    (author, reason): (&str, &str),
    progress: impl FnMut(u64),
) -> Result<Accepted, AcceptError> {
    // What comes while it is looked at hangs behind this.
    let mut end = end(store, name).await?;
    let verified = verify(store, Some(master), Some(name), progress).await?;
    let findings: Vec<_> = verified.findings.into_iter().filter(|finding| finding.chain == name).collect();
    if findings.is_empty() {
        return Ok(Accepted { seq: end.seq, findings });
    }
    if findings.iter().all(|finding| finding.kind == "chain") {
        return Err(AcceptError::Nobody);
    }
    let keys = Stamper::new(store.clone(), master.clone()).keys().await?;
    let known = findings.iter().map(|finding| Known {
        seq: finding.seq,
        kind: finding.kind.to_owned(),
        what: finding.what.clone(),
        digest: finding.digest.clone(),
    });
    let known = serde_json::to_string(&known.collect::<Vec<_>>()).unwrap_or_default();
    let (journal, chains) = (Uuid::now_v7(), [name.to_owned()]);
    let place = store.audit_journal(journal, micros(now())).await?;
    let mut taken = Err(AcceptError::Busy);
    for _ in 0..TRIES {
        follow(store, &mut end).await?;
        let at = micros(now());
        let step =
            JournalStep { journal, from: place, to: place, at, durable: true, heads_since: None, look_behind: true };
        let link = |chain: &str, before: Option<ChainRow>, _: &[ChainHead]| {
            let (seq, hash) = before.as_ref().map_or((0, chain::beginning(chain)), |row| (row.seq, row.hash.clone()));
            if (seq, &hash) != (end.seq, &end.hash) {
                return None;
            }
            let mut event = Event::new("audit.accept", true);
            event.tenant = Some(chain).filter(|chain| !chain.is_empty()).map(Into::into);
            (event.username, event.detail) = (Some(author.into()), Some(reason.to_owned().into()));
            let mut added = Added::default();
            added.push([chain::written(&trail.record(event))]);
            let mut part = chain::link(chain, before, added, &keys, true, at);
            part.checkpoint = Some(chain::checkpoint(&mut part.head, &keys));
            let what = Signed::Accepted([author, reason, &known]);
            part.accepted = Some(AcceptedRow {
                signature: keys.sign(&chain::signed(what, chain, seq, &hash, at)),
                chain: chain.to_owned(),
                seq,
                hash,
                at,
                author: author.to_owned(),
                reason: reason.to_owned(),
                findings: known.clone(),
                key_id: keys.id,
            });
            let head = &mut part.head;
            if head.begin_seq > 0 {
                let text = chain::signed(Signed::Beginning, chain, head.begin_seq, &head.begin_hash, at);
                (head.begin_at, head.begin_key) = (at, Some(keys.id));
                head.begin_signature = Some(keys.sign(&text));
            } else {
                head.begin_hash = chain::beginning(chain);
            }
            Some(part)
        };
        match store.write_audit(step, &chains, link, &Increments::default()).await {
            Err(StoreError::Stale) => {}
            written => {
                taken = written.map(|()| end.seq).map_err(Into::into);
                break;
            }
        }
    }
    store.forget_audit_journal(journal).await?;
    Ok(Accepted { seq: taken?, findings })
}

/// Where a chain ends, with what somebody put behind its head.
async fn end(store: &Store, name: &str) -> Result<ChainHead, StoreError> {
    let head = store.audit_chain(name).await?;
    let mut end = head.map_or_else(
        || ChainHead { chain: name.to_owned(), seq: 0, hash: chain::beginning(name) },
        |head| ChainHead { chain: head.chain, seq: head.seq, hash: head.hash },
    );
    let mut next = Some(end.seq);
    while let Some(after) = next {
        let piece = records::piece(store, name, after, AT_ONCE).await?;
        next = piece.next;
        if let Some(last) = piece.records.into_iter().last() {
            (end.seq, end.hash) = (last.row.seq, last.row.hash);
        }
    }
    Ok(end)
}

/// Follows a chain to its end; what comes meanwhile has to hang together.
async fn follow(store: &Store, end: &mut ChainHead) -> Result<(), AcceptError> {
    let mut next = Some(end.seq);
    while let Some(after) = next {
        let piece = records::piece(store, &end.chain, after, AT_ONCE).await?;
        next = piece.next;
        if let Some(block) = piece.damaged.first() {
            return Err(AcceptError::Changed(block.first));
        }
        for row in piece.records.into_iter().map(|kept| kept.row) {
            if row.seq != end.seq + 1 || chain::hash(&end.hash, &row.text) != row.hash {
                return Err(AcceptError::Changed(row.seq));
            }
            (end.seq, end.hash) = (row.seq, row.hash);
        }
    }
    Ok(())
}
