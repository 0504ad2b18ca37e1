//! What binds the chains together: now and then the one of no tenant says of the others how far they are, and so remembers chains that
//! were removed, or brought back to an older state, alone.

use ahash::AHashMap;

use super::trail::Trail;
use super::{Record, chain};
use crate::crypto::hexadecimal;
use crate::store::audit::{AuditRow, ChainHead};
use crate::telemetry::Event;

/// What such a record is called.
pub(super) const ACTION: &str = "audit.heads";
/// Chains of one record.
const AT_ONCE: usize = 100;
/// Words about one chain that are remembered; of more, older ones are left out, every other one.
const MOST: usize = 4_096;

/// The records that say how far these chains are.
pub(super) fn rows(trail: &Trail, heads: &[ChainHead]) -> Vec<AuditRow> {
    let row = |heads: &[ChainHead]| {
        let words = heads.iter().map(|head| format!("{} {} {}", head.chain, head.seq, hexadecimal(&head.hash)));
        let detail = words.collect::<Vec<_>>().join("; ");
        let count = heads.len() as u64;
        let record = trail.record(Event { detail: Some(detail.into()), count, ..Event::new(ACTION, true) });
        chain::written(&record)
    };
    heads.chunks(AT_ONCE).map(row).collect()
}

/// What was said of one chain.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// At which record it had which hash; in order.
    pub(super) heads: Vec<(i64, String)>,
    /// What it did not stand by later: of two words that contradict each other, the first.
    pub(super) taken_back: Vec<(i64, String)>,
}

/// What was said of all chains.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// By their names.
    pub(super) of: AHashMap<String, Said>,
    /// When something was said last.
    pub(super) last_at: i64,
}

impl Words {
    /// Hears a record of the chain of no tenant.
    pub(super) fn hear(&mut self, record: &Record) {
        if record.action != ACTION {
            return;
        }
        self.last_at = self.last_at.max(record.at);
        for word in record.detail.as_deref().unwrap_or_default().split("; ") {
            let mut parts = word.split(' ');
            let (Some(chain), Some(seq), Some(hash)) = (parts.next(), parts.next(), parts.next()) else { continue };
            let Ok(seq) = seq.parse() else { continue };
            self.of.entry(chain.to_owned()).or_default().hear(seq, hash);
        }
    }
}

impl Said {
    fn hear(&mut self, seq: i64, hash: &str) {
        if let Some((last, known)) = self.heads.last() {
            if *last == seq && known == hash {
                return;
            }
            // Whoever said so had read it after whoever spoke before.
            if *last >= seq {
                self.taken_back.push((*last, known.clone()));
                self.heads.retain(|(known, _)| *known < seq);
            }
        }
        self.heads.push((seq, hash.to_owned()));
        if self.heads.len() > MOST {
            let mut at = 0;
            self.heads.retain(|_| {
                at += 1;
                at > MOST / 2 || at % 2 == 0
            });
        }
    }
}
