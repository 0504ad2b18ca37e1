//! What the guards of the other replicas counted, as far as it was heard.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

use super::figures::{Counts, Events};
use crate::limit::board::Other;

/// Most replicas that are told apart.
const MOST: usize = 1000;

/// See the module.
#[derive(Debug)]
pub(super) struct Abroad {
    counts: Counts,
    /// What each had counted since it began when it was last heard.
    heard: Mutex<HashMap<u128, Vec<u64>>>,
}

impl Abroad {
    pub(super) fn new(window: Duration) -> Self {
        Self { counts: Counts::new(window), heard: Mutex::default() }
    }

    /// Takes in what was read of each of the others.
    pub(super) fn hear(&self, others: &[Other], now: OffsetDateTime) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.retain(|replica, _| others.iter().any(|other| other.replica == *replica));
        for other in others {
            if heard.len() >= MOST && !heard.contains_key(&other.replica) {
                continue;
            }
            // What one counted before it was first heard is not of now.
            let before = heard.insert(other.replica, other.counts.clone()).unwrap_or_else(|| other.counts.clone());
            let more: Vec<u64> =
                other.counts.iter().zip(before).map(|(now, before)| now.saturating_sub(before)).collect();
            if more.iter().any(|more| *more > 0) {
                self.counts.add(&more, now);
            }
        }
    }

    pub(super) fn within(&self, now: OffsetDateTime) -> Events {
        self.counts.within(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_count_is_added_once() {
        let (abroad, now) = (Abroad::new(Duration::from_mins(5)), OffsetDateTime::UNIX_EPOCH);
        let other = |replica, first| Other { replica, counts: vec![first, 1], ..Other::default() };
        abroad.hear(&[other(1, 100)], now);
        assert_eq!(abroad.within(now)[0], 0, "before it was heard");
        abroad.hear(&[other(1, 103), other(2, 7)], now);
        abroad.hear(&[other(1, 103), other(2, 9)], now);
        assert_eq!(abroad.within(now)[..2], [5, 0]);
        abroad.hear(&[other(2, 9)], now);
        abroad.hear(&[other(1, 110), other(2, 9)], now);
        assert_eq!(abroad.within(now)[0], 5, "one that was away is heard anew");
    }
}
