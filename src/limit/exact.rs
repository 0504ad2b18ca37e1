//! What would be exact: the allocation of one second by somebody who knows all that is asked for in it. The limiter itself decides
//! before it knows; how far it is from this is what the reports say.
//!
//! It keeps the same promise: capacity is filled by water in proportion to weight, a tenant may go beyond its share by its burst
//! factor, and who used less than its share a moment ago may make up for it.

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
