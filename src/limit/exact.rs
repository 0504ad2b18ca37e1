//! What would be exact: the allocation of one second by somebody who knows all that is asked for in it. The limiter itself decides
//! before it knows; how far it is from this is what the reports say.
//!
//! It keeps the same promise: capacity is filled by water in proportion to weight, a tenant may go beyond its share by its burst
//! factor, and who used less than its share a moment ago may make up for it.

use super::fair::Rules;
use super::figures::Sums;
use super::water::{Claim, level};

/// One tenant in one second; counts are of requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wish {
    /// Its weight.
    pub weight: f64,
    /// What it asked for.
    pub demand: f64,
    /// Its share of this second.
    pub share: f64,
    /// The most it may have beyond what it made up for.
    pub most: f64,
    /// What it may make up for: of its share, unused.
    pub saved: f64,
}

/// What one tenant asked for in a second and was given, and under which terms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Second {
    /// Its weight.
    pub weight: f64,
    /// How many times its share it may have.
    pub burst: f64,
    /// Requests a second that its own cap allows; infinite without one.
    pub own: f64,
    /// Requests asked for.
    pub wanted: u64,
    /// Requests let through.
    pub given: u64,
}

/// How one tenant stands from second to second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    saved: f64,
    /// What it is owed of its share; below 0, what it had too much.
    owed: f64,
}

impl Standing {
    /// What it may make up for: of its share, unused.
    pub(super) fn saved(&self) -> f64 {
        self.saved
    }
}

impl Default for Standing {
    /// That of one which has asked for nothing: it has all that can be saved up.
    fn default() -> Self {
        Self { saved: f64::MAX, owed: 0.0 }
    }
}

/// Compares what was given with what is exact, second by second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Comparison {
    /// Capacity that was not used lately and may come at once.
    reserve: f64,
}

impl Comparison {
    /// One second of all tenants that asked for something lately. Returns the sums of each, and how many had more than their share
    /// and what they could make up for, while one that wanted more was owed more than it ever should be.
    #[expect(clippy::cast_precision_loss, reason = "counts of one second")]
    pub fn second(&mut self, rules: &Rules, tenants: &mut [(Second, &mut Standing)]) -> (Vec<Sums>, u64) {
        let (capacity, credit) = (rules.capacity(), rules.window_seconds() as f64 / 100.0);
        let weights: f64 =
            tenants.iter().filter(|(second, _)| second.wanted > 0).map(|(second, _)| second.weight).sum();
        let unit = if weights > 0.0 { capacity / weights } else { capacity };
        let wish = |(second, standing): &(Second, &mut Standing)| {
            let share = (second.weight * unit).min(second.own);
            Wish {
                weight: second.weight,
                demand: second.wanted as f64,
                share,
                most: (second.weight * unit * second.burst).min(second.own),
                saved: standing.saved.min(share * credit),
            }
        };
        let mut wishes: Vec<Wish> = tenants.iter().map(wish).collect();
        let whole = capacity + self.reserve;
        let fair = self::second(&mut wishes, whole, credit);
        self.reserve = (whole - fair.iter().sum::<f64>()).clamp(0.0, rules.at_once());

        let (mut starved, mut above) = (false, 0);
        let sums = tenants.iter_mut().zip(&wishes).zip(fair).map(|(((second, standing), wish), fair)| {
            let (had, share, unmet) = (second.given as f64, wish.share, second.wanted > second.given);
            above += u64::from(had > share + standing.owed.max(0.0) + 1.0);
            standing.saved = wish.saved;
            standing.owed = if unmet { standing.owed + share - had } else { 0.0 };
            standing.owed = standing.owed.clamp(-share * credit - 1.0, share * credit + 2.0);
            starved |= unmet && standing.owed > share * credit + 1.0;
            let lent = (had - share).max(0.0);
            Sums { wanted: second.wanted, given: second.given, fair, share, lent, ..Sums::default() }
        });
        let sums = sums.collect();
        (sums, if starved { above } else { 0 })
    }
}

/// Gives a second's `capacity` out. Returns what each is given; `saved` of each is brought up to date, at most `credit` seconds of
/// its share.
pub fn second(wishes: &mut [Wish], capacity: f64, credit: f64) -> Vec<f64> {
    let made_up: f64 = wishes.iter().map(|wish| wish.demand.min(wish.saved)).sum();
    let scale = if made_up > capacity { capacity / made_up } else { 1.0 };
    let claim = |wish: &Wish| {
        let rest = wish.demand - wish.demand.min(wish.saved) * scale;
        Claim { weight: wish.weight, most: rest.min(wish.most) }
    };
    let level = level(&wishes.iter().map(claim), capacity - made_up * scale);
    wishes
        .iter_mut()
        .map(|wish| {
            let (early, fresh) = (wish.demand.min(wish.saved) * scale, claim(wish).part(level));
            wish.saved = (wish.saved - early + (wish.share - fresh).max(0.0)).min(wish.share * credit);
            early + fresh
        })
        .collect()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums and halves of small whole numbers are exact")]
mod tests {
    use super::*;

    fn wish(demand: f64, saved: f64) -> Wish {
        Wish { weight: 1.0, demand, share: 10.0, most: 15.0, saved }
    }

    #[test]
    fn who_left_some_of_its_share_makes_up_for_it_first() {
        let mut wishes = [wish(100.0, 6.0), wish(100.0, 0.0)];
        assert_eq!(second(&mut wishes, 20.0, 3.0), [13.0, 7.0]);
        assert_eq!(wishes.map(|wish| wish.saved), [3.0, 3.0]);
    }

    #[test]
    fn nobody_goes_beyond_its_burst_and_saves_more_than_its_credit() {
        let mut wishes = [wish(100.0, 0.0), wish(1.0, 29.0)];
        assert_eq!(second(&mut wishes, 20.0, 3.0), [15.0, 1.0]);
        assert_eq!(wishes[1].saved, 30.0);
    }

    #[test]
    fn what_is_made_up_for_never_exceeds_what_is_there() {
        let mut wishes = [wish(100.0, 30.0), wish(100.0, 30.0)];
        assert_eq!(second(&mut wishes, 20.0, 3.0), [10.0, 10.0]);
    }
}
