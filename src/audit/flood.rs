//! Whoever is not let in could fill the disk with records of that. So many of them are kept one by one, whoever sends them; beyond
//! that they are counted, and each minute one record says how many there were, by why they were refused.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Refusals in a row that are kept one by one.
const BURST: f64 = 2_000.0;
/// And so many more each second.
const EACH_SECOND: f64 = 20.0;
/// How long refusals are counted before it is said how many there were.
const COUNTED: Duration = Duration::from_mins(1);

/// What was refused, and why; the words are the gateway's own, and few.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Refused {
    /// What happened; empty: a request.
    pub(super) action: &'static str,
    /// Why.
    pub(super) reason: Cow<'static, str>,
}

impl Refused {
    pub(super) fn of(action: &'static str, reason: Cow<'static, str>) -> Self {
        Self { action, reason }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Flood(Mutex<State>);

#[derive(Debug)]
struct State {
    room: f64,
    at: Instant,
    counted: BTreeMap<Refused, u64>,
    since: Instant,
}

impl Flood {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State { room: BURST, at: now, counted: BTreeMap::new(), since: now }))
    }

    /// Whether this refusal has a record of its own; else it is counted.
    pub(super) fn admits(&self, refused: Refused, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(state.at).as_secs_f64();
        state.room = (state.room + passed * EACH_SECOND).min(BURST);
        state.at = state.at.max(now);
        if state.room >= 1.0 {
            state.room -= 1.0;
            return true;
        }
        if state.counted.is_empty() {
            state.since = now;
        }
        *state.counted.entry(refused).or_default() += 1;
        false
    }

    /// How many were counted, if that was for a minute, or if it is the end.
    pub(super) fn take(&self, now: Instant, end: bool) -> BTreeMap<Refused, u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = end || now.saturating_duration_since(state.since) >= COUNTED;
        if due { std::mem::take(&mut state.counted) } else { BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_none_of_it_is_forgotten() {
        let begin = Instant::now();
        let flood = Flood::new(begin);
        let (mut one_by_one, mut counted) = (0, 0);
        for number in 0..100_000_u32 {
            let now = begin + Duration::from_millis(number.into());
            let refused = match number % 3 {
                0 => Refused::of("", "malformed".into()),
                1 => Refused::of("", "unknown_key".into()),
                _ => Refused::of("auth.login", "wrong_password".to_owned().into()),
            };
            one_by_one += u64::from(flood.admits(refused, now));
            counted += flood.take(now, false).values().sum::<u64>();
        }
        counted += flood.take(begin, true).values().sum::<u64>();
        assert_eq!(one_by_one + counted, 100_000);
        assert!((3_990..=4_010).contains(&one_by_one), "{one_by_one}");
        assert!(flood.take(begin, true).is_empty());
    }
}
