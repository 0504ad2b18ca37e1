//! The proofs of possession that were shown to this process (RFC 9449 section 11.1), so that each is good once. A proof is good within
//! five minutes of when it was made; so a memory of ten minutes knows every one that could come again. What comes faster than
//! it has room for pushes out the oldest, and is counted.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use time::OffsetDateTime;

use crate::crypto::dpop::{self, BadProof, Thumbprint, WINDOW, Wanted};
use crate::store::micros;
use crate::telemetry::Metrics;

/// Proofs of one generation, of which there are two: some 20 bytes each. None is forgotten early below 800 proofs a second.
const MOST: usize = 500_000;

type Ids = HashSet<u128, ahash::RandomState>;

/// See the module. Cheap to clone; clones are one memory.
#[derive(Clone)]
pub struct Proofs(Arc<Parts>);

struct Parts {
    shown: Mutex<Shown>,
    metrics: Arc<Metrics>,
}

impl Proofs {
    /// A memory that knows none, and counts there what it forgets too early.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Parts { shown: Mutex::new(Shown::new(MOST)), metrics }))
    }

    /// Checks a proof, and that it was not shown before; the key that it is by.
    pub fn take(&self, text: &str, wanted: &Wanted<'_>, now: OffsetDateTime) -> Result<Thumbprint, BadProof> {
        let proved = dpop::check(text, wanted, now)?;
        // Last of all: nobody without the key uses up a proof.
        let (is_new, forgotten) =
            self.0.shown.lock().unwrap_or_else(PoisonError::into_inner).take(proved.id, micros(now));
        if forgotten > 0 {
            self.0.metrics.proofs_forgotten.with([]).add(forgotten);
        }
        if is_new { Ok(proved.key) } else { Err(BadProof::Replayed) }
    }
}

/// Two generations of proofs: one that is filled, and the one before it.
struct Shown {
    young: Ids,
    old: Ids,
    /// When the young one began, microseconds since 1970.
    since: i64,
    most: usize,
}

impl Shown {
    fn new(most: usize) -> Self {
        Self { young: Ids::default(), old: Ids::default(), since: i64::MIN, most }
    }

    /// Whether it is new at `now`, and how many were forgotten that could still come again.
    fn take(&mut self, id: u128, now: i64) -> (bool, u64) {
        // One that was made five minutes ahead of our clock is good for ten.
        let window = 2 * i64::try_from(WINDOW.as_micros()).unwrap_or(i64::MAX / 2);
        if now.saturating_sub(self.since) > window {
            self.turn(now);
        }
        if self.old.contains(&id) || self.young.contains(&id) {
            return (false, 0);
        }
        let forgotten = if self.young.len() >= self.most { self.turn(now) } else { 0 };
        self.young.insert(id);
        (true, forgotten)
    }

    /// Begins a generation; says how many were in the one that goes.
    fn turn(&mut self, now: i64) -> u64 {
        self.since = now;
        let gone = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
        gone.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    #[test]
    fn a_proof_is_new_once_for_as_long_as_it_could_come_again() {
        let mut shown = Shown::new(1_000);
        assert_eq!(shown.take(1, 0), (true, 0));
        for minute in [0, 1, 9, 10] {
            assert_eq!(shown.take(1, minute * MINUTE), (false, 0), "{minute}");
        }
        assert_eq!(shown.take(2, 11 * MINUTE), (true, 0));
        assert_eq!(shown.take(1, 11 * MINUTE), (false, 0), "the generation before");
        assert_eq!(shown.take(2, 21 * MINUTE), (false, 0));
        assert_eq!(shown.take(3, 23 * MINUTE), (true, 0));
        assert_eq!(shown.old.len() + shown.young.len(), 2, "what is over is gone");
    }

    #[test]
    fn a_flood_pushes_out_the_oldest_and_that_is_counted() {
        let mut shown = Shown::new(10);
        let forgotten: u64 = (0..100).map(|id| shown.take(id, 0).1).sum();
        assert_eq!(forgotten, 80, "two generations of ten are known");
        assert!(shown.old.len() + shown.young.len() <= 20);
        assert_eq!(shown.take(99, 100), (false, 0));
        assert_eq!(shown.take(85, 100), (false, 0));
        assert_eq!(shown.take(1, 100), (true, 10), "it was forgotten, and pushes out others");
    }
}
