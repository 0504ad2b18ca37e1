//! Compares, once a second, what was given with what would have been exact.

use std::sync::atomic::Ordering::Relaxed;

use super::Pace;
use crate::limit::exact::Second;
use crate::limit::fair::{Fair, locked};
use crate::limit::figures::{Moments, Window};

impl Pace {
    /// Compares the second that is over.
    pub(super) fn compare(&mut self, fair: &Fair, second: u64) {
        let seconds = self.active.iter_mut().map(|active| {
            let now = active.share.counted();
            let before = std::mem::replace(&mut active.second, now);
            let second = Second {
                weight: active.share.weight(),
                burst: active.share.burst(),
                own: active.share.base_rpm().map_or(f64::INFINITY, |rpm| f64::from(rpm) / 60.0),
                wanted: now.0.saturating_sub(before.0),
                given: now.1.saturating_sub(before.1),
            };
            (second, &mut active.standing)
        });
        let mut seconds: Vec<_> = seconds.collect();
        let (sums, violations) = self.comparison.second(&fair.rules, &mut seconds);

        let (at, window) = (second.saturating_sub(1), fair.rules.window_seconds());
        for (active, sums) in self.active.iter().zip(sums).filter(|(_, sums)| sums.wanted > 0 || sums.given > 0) {
            locked(&active.share.window).get_or_insert_with(|| Box::new(Window::new())).add(at, window, sums);
        }
        let refused = fair.refused.load(Relaxed);
        let moments = Moments {
            violations,
            exhausted: u64::from(fair.exhausted.swap(false, Relaxed)),
            refused: refused - std::mem::replace(&mut self.refused, refused),
        };
        self.moments.add(at, window, moments);
    }
}
