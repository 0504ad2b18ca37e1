//! What was asked for, given, and would have been given by an exact allocation, over the window of the shares. A tenant that asked
//! for nothing has no figures.

use std::time::Duration;

/// Parts that the window moves in.
const PARTS: usize = 10;

/// Requests of one tenant; `fair` and `share` may be parts of one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    /// Asked for.
    pub wanted: u64,
    /// Let through.
    pub given: u64,
    /// What an exact allocation of the capacity gives.
    pub fair: f64,
    /// Its share in the seconds in which it asked for something.
    pub share: f64,
    /// Let through beyond its share.
    pub lent: f64,
    /// What could have been: as far as its burst and its own cap allow.
    pub lendable: f64,
    /// Asked for at this process.
    pub wanted_here: u64,
    /// Let through by this process.
    pub given_here: u64,
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, more: Self) {
        self.wanted += more.wanted;
        self.given += more.given;
        self.fair += more.fair;
        self.share += more.share;
        self.lent += more.lent;
        self.lendable += more.lendable;
        self.wanted_here += more.wanted_here;
        self.given_here += more.given_here;
    }
}

/// The figures of the last `window`, give or take a tenth of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ring<T> {
    parts: [(u64, T); PARTS],
}

/// The figures of one tenant.
pub type Window = Ring<Sums>;

impl<T: Copy + Default + std::ops::AddAssign> Ring<T> {
    /// Without any.
    pub fn new() -> Self {
        Self { parts: [(0, T::default()); PARTS] }
    }

    /// Adds what happened at second `at`, in a window of `window` seconds.
    pub fn add(&mut self, at: u64, window: u64, more: T) {
        let part = at * PARTS as u64 / window;
        let (seen, sums) = &mut self.parts[usize::try_from(part).unwrap_or_default() % PARTS];
        if *seen != part {
            (*seen, *sums) = (part, T::default());
        }
        *sums += more;
    }

    /// What happened in the last `window` seconds before `at`.
    pub fn sum(&self, at: u64, window: u64) -> T {
        let newest = at * PARTS as u64 / window;
        let mut all = T::default();
        for (_, sums) in self.parts.iter().filter(|(part, _)| *part <= newest && *part + PARTS as u64 > newest) {
            all += *sums;
        }
        all
    }
}

impl<T: Copy + Default + std::ops::AddAssign> Default for Ring<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// What happened in the whole process; seconds are counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moments {
    /// (tenant, second) pairs in which a tenant had more than its share and what it could make up for, while another one that wanted
    /// more was owed more than it ever should be.
    pub violations: u64,
    /// Seconds in which a request found the capacity used up.
    pub exhausted: u64,
    /// Those in which one at this process did.
    pub exhausted_here: u64,
}

impl std::ops::AddAssign for Moments {
    fn add_assign(&mut self, more: Self) {
        self.violations += more.violations;
        self.exhausted += more.exhausted;
        self.exhausted_here += more.exhausted_here;
    }
}

/// How close the whole came to the exact allocation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Closeness {
    wanted: f64,
    fair: f64,
    kept: f64,
    wrongly_refused: f64,
    wrongly_given: f64,
    rates: f64,
    squares: f64,
    tenants: f64,
}

impl Closeness {
    /// Takes in one tenant.
    pub fn take_in(&mut self, sums: &Sums) {
        if sums.wanted == 0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of requests of some minutes")]
        let (wanted, given) = (sums.wanted as f64, sums.given as f64);
        let fair = sums.fair.min(wanted);
        self.wanted += wanted;
        self.fair += fair;
        self.kept += given.min(fair);
        self.wrongly_refused += (fair - given).max(0.0);
        self.wrongly_given += (given - fair).max(0.0);
        let got = if fair > 0.0 { given.min(fair) / fair } else { 1.0 };
        self.rates += got;
        self.squares += got * got;
        self.tenants += 1.0;
    }

    /// Sum of the lesser of given and fair, over the sum of fair.
    pub fn efficiency(&self) -> Option<f64> {
        ratio(self.kept, self.fair)
    }

    /// Jain's index of what tenants were given of what is fair: 1 when all were treated alike.
    pub fn jain_index(&self) -> Option<f64> {
        ratio(self.rates * self.rates, self.tenants * self.squares)
    }

    /// Refused although the exact allocation lets it through, of all requests.
    pub fn wrongly_refused(&self) -> Option<f64> {
        ratio(self.wrongly_refused, self.wanted)
    }

    /// Let through although the exact allocation refuses it, of all requests.
    pub fn wrongly_given(&self) -> Option<f64> {
        ratio(self.wrongly_given, self.wanted)
    }
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// Whole seconds of a window, at least one for each of its parts.
pub fn seconds(window: Duration) -> u64 {
    window.as_secs().max(PARTS as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_gone() {
        let mut ring = Ring::<Moments>::new();
        let mut add = |seconds: std::ops::Range<u64>| {
            for second in seconds {
                ring.add(second, 300, Moments { exhausted: 1, ..Moments::default() });
            }
            ring
        };
        assert_eq!(add(0..690).sum(689, 300).exhausted, 300);
        let ring = add(690..700);
        // The newest part is as long as it has lasted.
        assert_eq!(ring.sum(699, 300).exhausted, 280);
        assert_eq!(ring.sum(809, 300).exhausted, 190);
        assert_eq!(ring.sum(2000, 300).exhausted, 0);
    }

    #[test]
    fn no_demand_has_no_figures() {
        let mut closeness = Closeness::default();
        closeness.take_in(&Sums::default());
        assert_eq!((closeness.efficiency(), closeness.jain_index(), closeness.wrongly_given()), (None, None, None));
    }
}
