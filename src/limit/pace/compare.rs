//! Compares, once a second, what was given with what would have been exact, and takes back what was lent and not used.

use std::sync::atomic::Ordering::Relaxed;

use super::{Active, Others, Pace};
use crate::limit::bucket::{Nanos, Price};
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
                own: active.share.base_rpm().map(f64::from),
                wanted: now.wanted.saturating_sub(before.wanted),
                given: now.given.saturating_sub(before.given),
            };
            let here = (now.wanted_here - before.wanted_here, now.given_here - before.given_here);
            ((second, &mut active.standing), here)
        });
        let (mut seconds, here): (Vec<_>, Vec<_>) = seconds.unzip();
        let (mut sums, violations) = self.comparison.second(&fair.rules, &mut seconds);
        for (sums, (wanted_here, given_here)) in sums.iter_mut().zip(here) {
            (sums.wanted_here, sums.given_here) = (wanted_here, given_here);
        }

        let (at, window) = (second.saturating_sub(1), fair.rules.window_seconds());
        for (active, sums) in self.active.iter().zip(sums).filter(|(_, sums)| sums.wanted > 0 || sums.given > 0) {
            locked(&active.share.window).get_or_insert_with(|| Box::new(Window::new())).add(at, window, sums);
        }
        let (here, abroad) = (fair.exhausted.swap(false, Relaxed), fair.exhausted_abroad.swap(false, Relaxed));
        let moments = Moments { violations, exhausted: u64::from(here || abroad), exhausted_here: u64::from(here) };
        self.moments.add(at, window, moments);
    }

    /// A tenant saves up what it leaves of its share, and not what it was lent: else those who ask for a little less than they may have
    /// would have more than that, at the cost of those who ask for more. It keeps besides about as much as what comes in a second differs
    /// by chance.
    pub(super) fn take_back(&self, fair: &Fair, now: Nanos) {
        // A replica by itself does not know what its tenants had elsewhere; and with enough for all it is at nobody's cost.
        if self.others == Others::Away || !fair.is_pressed() {
            return;
        }
        for Active { share, standing, .. } in &self.active {
            let (part, here) = (fair.part(share), share.here.get());
            let kept = standing.saved() * here + (part / here).sqrt();
            share.fair.keep(Price::a_second(part / kept, 0).token, now);
        }
    }
}
