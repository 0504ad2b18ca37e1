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
    /// Requests a minute that its own cap allows, of which as many may come at once.
    pub own: Option<f64>,
    /// Requests asked for.
    pub wanted: u64,
    /// Requests let through.
    pub given: u64,
}

/// How one tenant stands from second to second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    saved: f64,
    /// What is left of its own cap.
    own: f64,
    /// What it is owed of its share; below 0, what it had too much.
    owed: f64,
}

impl Standing {
    /// That of one which has so many requests left of its own cap.
    pub(super) fn with_own(own: f64) -> Self {
        Self { own, ..Self::default() }
    }

    /// What it may make up for: of its share, unused.
    pub(super) fn saved(&self) -> f64 {
        self.saved
    }
}

impl Default for Standing {
    /// That of one which has asked for nothing: it has all that can be saved up.
    fn default() -> Self {
        Self { saved: f64::MAX, own: f64::MAX, owed: 0.0 }
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
        let wish = |(second, standing): &mut (Second, &mut Standing)| {
            standing.own = second.own.map_or(f64::MAX, |rpm| (standing.own + rpm / 60.0).min(rpm));
            let share = (second.weight * unit).min(standing.own);
            Wish {
                weight: second.weight,
                demand: (second.wanted as f64).min(standing.own),
                share,
                most: (second.weight * unit * second.burst).min(standing.own),
                saved: standing.saved.min(share * credit),
            }
        };
        let mut wishes: Vec<Wish> = tenants.iter_mut().map(wish).collect();
        let whole = capacity + self.reserve;
        let fair = self::second(&mut wishes, whole, credit);
        self.reserve = (whole - fair.iter().sum::<f64>()).clamp(0.0, rules.at_once());

        let (mut starved, mut above) = (false, 0);
        let sums = tenants.iter_mut().zip(&wishes).zip(fair).map(|(((second, standing), wish), fair)| {
            let (had, share, unmet) = (second.given as f64, wish.share, second.wanted > second.given);
            above += u64::from(had > share + standing.owed.max(0.0) + 1.0);
            (standing.saved, standing.own) = (wish.saved, standing.own - fair);
            // What is owed under a greater weight is no more under a smaller one.
            standing.owed = if unmet { standing.owed.min(share * credit) + share - had } else { 0.0 };
            standing.owed = standing.owed.clamp(-share * credit - 1.0, share * credit + 2.0);
            starved |= unmet && standing.owed > share * credit + 1.0;
            let (lent, lendable) = ((had - share).max(0.0), wish.most - share);
            Sums { wanted: second.wanted, given: second.given, fair, share, lent, lendable, ..Sums::default() }
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
    use std::time::Duration;

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

    /// One second of tenants of equal weight that ask for so much and are given so much, of a capacity of 20.
    fn compare(comparison: &mut Comparison, standings: &mut [Standing], counts: &[(u64, u64)]) -> (Vec<Sums>, u64) {
        let rules = Rules { capacity_rpm: 1_200, window: Duration::from_mins(5), fair: true };
        let second = |(wanted, given)| Second { weight: 1.0, burst: 1.5, own: None, wanted, given };
        let mut tenants: Vec<_> = counts.iter().copied().map(second).zip(standings).collect();
        comparison.second(&rules, &mut tenants)
    }

    #[test]
    fn who_has_too_much_while_another_is_owed_more_than_it_may_save_up_is_counted() {
        let (mut comparison, mut standings) = (Comparison::default(), [Standing::default(); 2]);
        let mut counted = |counts| compare(&mut comparison, &mut standings, &[counts, (30, 20)]).1;
        // Each is due ten a second; three seconds of that and one request may be owed.
        let violations: Vec<u64> = (0..6).map(|_| counted((30, 0))).collect();
        assert_eq!(violations, [0, 0, 0, 1, 1, 1]);
        assert_eq!(counted((30, 30)), 0, "it has it now");
        assert_eq!((0..9).map(|_| counted((0, 0))).sum::<u64>(), 0, "nobody is owed what it does not ask for");
    }

    #[test]
    fn of_its_own_cap_a_minute_s_worth_may_come_at_once() {
        let (rules, mut standing) =
            (Rules { capacity_rpm: 60_000, window: Duration::from_mins(5), fair: true }, Standing::default());
        let mut comparison = Comparison::default();
        let mut second = |wanted, given| {
            let second = Second { weight: 1.0, burst: 1.5, own: Some(60.0), wanted, given };
            comparison.second(&rules, &mut [(second, &mut standing)]).0[0]
        };
        let first = second(100, 60);
        assert_eq!((first.fair, first.share, first.lent, first.lendable), (60.0, 60.0, 0.0, 0.0));
        assert_eq!(second(100, 1).fair, 1.0);
        assert_eq!((second(0, 0).fair, second(0, 0).fair, second(100, 3).fair), (0.0, 0.0, 3.0));
    }

    #[test]
    fn what_is_made_up_for_never_exceeds_what_is_there() {
        let mut wishes = [wish(100.0, 30.0), wish(100.0, 30.0)];
        assert_eq!(second(&mut wishes, 20.0, 3.0), [10.0, 10.0]);
    }
}
