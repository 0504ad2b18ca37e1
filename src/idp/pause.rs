//! A provider that said "too many requests" is not asked by anybody until the time it named is over.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where the provider does not say how long.
const UNSAID: Duration = Duration::from_secs(30);
/// However long it says.
const LONGEST: Duration = Duration::from_mins(15);

/// Until when a provider is not asked.
#[derive(Debug, Default)]
pub(super) struct Pause(Mutex<Option<Instant>>);

impl Pause {
    /// How long it lasts still.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// Begins one, never shorter than one that runs; says how long it lasts.
    pub(super) fn begin(&self, now: Instant, asked: Option<Duration>) -> Duration {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let then = now + asked.unwrap_or(UNSAID).min(LONGEST);
        let then = until.map_or(then, |until| until.max(then));
        *until = Some(then);
        then - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_lasts_as_long_as_was_asked_within_bounds_and_is_never_cut_short() {
        let (pause, now) = (Pause::default(), Instant::now());
        assert_eq!(pause.left(now), None);
        assert_eq!(pause.begin(now, Some(Duration::from_mins(1))), Duration::from_mins(1));
        assert_eq!(pause.begin(now, Some(Duration::from_secs(5))), Duration::from_mins(1));
        assert_eq!(pause.left(now + Duration::from_secs(59)), Some(Duration::from_secs(1)));
        assert_eq!(pause.left(now + Duration::from_mins(1)), None);
        let later = now + Duration::from_hours(1);
        assert_eq!(pause.begin(later, None), UNSAID);
        assert_eq!(pause.begin(later, Some(Duration::from_hours(9))), LONGEST);
    }
}
