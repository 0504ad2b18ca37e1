//! How fast token endpoints answer: the last few hundred answers, of which those of the last minutes count.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most answers that are remembered.
const MOST: usize = 512;
/// For how long one counts.
const WINDOW: Duration = Duration::from_mins(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Latency(Mutex<VecDeque<(Instant, Duration)>>);

impl Latency {
    /// An answer came now, after so long.
    pub(super) fn note(&self, took: Duration, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == MOST {
            all.pop_front();
        }
        all.push_back((now, took));
    }

    /// What half of the answers took at most; none without an answer.
    pub(super) fn median(&self, now: Instant) -> Option<Duration> {
        let mut took: Vec<Duration> = {
            let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter(|(at, _)| now.saturating_duration_since(*at) < WINDOW).map(|(_, took)| *took).collect()
        };
        let middle = took.len().checked_sub(1)? / 2;
        Some(*took.select_nth_unstable(middle).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_the_last_minutes_and_of_so_many_at_most() {
        let (start, latency) = (Instant::now(), Latency::default());
        assert_eq!(latency.median(start), None);
        for ms in [9, 1, 5, 700] {
            latency.note(Duration::from_millis(ms), start);
        }
        assert_eq!(latency.median(start), Some(Duration::from_millis(5)));
        let later = start + Duration::from_mins(4);
        for _ in 0..MOST {
            latency.note(Duration::from_millis(20), later);
        }
        assert_eq!(latency.median(later), Some(Duration::from_millis(20)));
        assert_eq!(latency.0.lock().unwrap().len(), MOST);
        assert_eq!(latency.median(later + WINDOW), None);
    }
}
