//! Water-filling: weighted max-min fairness, exactly. Everybody's part rises with the level of the water, each as fast as its
//! weight, until it has what it wants; what the modest leave lifts the level for the others. Nothing here knows of time.

/// One who wants a part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    /// How fast its part rises, above 0.
    pub weight: f64,
    /// The most it can use, at least 0: what it wants, or what it may have if that is less.
    pub most: f64,
}

impl Claim {
    /// Its part when the water stands at this level.
    pub fn part(self, level: f64) -> f64 {
        self.most.min(self.weight * level)
    }
}

/// Rounds at most; each one finds more claims that have all they want. What is left then is a level a little too low.
const ROUNDS: usize = 64;

/// The level at which the parts of all claims are `capacity`; infinite when there is enough for everybody.
pub fn level(claims: &(impl Iterator<Item = Claim> + Clone), capacity: f64) -> f64 {
    let (mut wanted, mut weights) = (0.0, 0.0);
    for claim in claims.clone() {
        wanted += claim.most;
        weights += claim.weight;
    }
    if wanted <= capacity {
        return f64::INFINITY;
    }
    // The parts rise ever more slowly with the level, so each guess, made of those who were not sated by the one before, is too low
    // or right.
    let mut level = capacity.max(0.0) / weights;
    for _ in 0..ROUNDS {
        let (mut sated, mut rest) = (0.0, 0.0);
        for claim in claims.clone() {
            if claim.most <= claim.weight * level {
                sated += claim.most;
            } else {
                rest += claim.weight;
            }
        }
        let next = if rest > 0.0 { (capacity - sated) / rest } else { level };
        if next <= level * (1.0 + 1e-12) {
            break;
        }
        level = next;
    }
    level
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(claims: &[Claim], capacity: f64) -> Vec<f64> {
        let level = level(&claims.iter().copied(), capacity);
        claims.iter().map(|claim| claim.part(level)).collect()
    }

    #[test]
    fn what_the_modest_leave_is_shared_by_weight() {
        let claim = |weight, most| Claim { weight, most };
        assert_eq!(parts(&[claim(1.0, 5.0), claim(1.0, 90.0), claim(2.0, 90.0)], 65.0), [5.0, 20.0, 40.0]);
        assert_eq!(parts(&[claim(1.0, 5.0), claim(7.0, 6.0)], 11.0), [5.0, 6.0]);
        assert_eq!(parts(&[], 11.0), [0.0; 0]);
        assert_eq!(parts(&[claim(1.0, 5.0)], 0.0), [0.0]);
    }

    fn some() -> impl Strategy<Value = (Vec<Claim>, f64)> {
        let claim = (0.01..1000.0, prop_oneof![Just(0.0), 0.0..10.0, 0.0..1e6]);
        let claims = prop::collection::vec(claim.prop_map(|(weight, most)| Claim { weight, most }), 1..60);
        (claims, prop_oneof![0.0..100.0, 0.0..1e7])
    }

    proptest! {
        #[test]
        fn all_is_given_that_is_wanted_and_there((claims, capacity) in some()) {
            let given: f64 = parts(&claims, capacity).iter().sum();
            let wanted: f64 = claims.iter().map(|claim| claim.most).sum();
            prop_assert!((given - wanted.min(capacity)).abs() <= 1e-6 * (1.0 + capacity), "{given} of {wanted}, {capacity}");
        }

        /// Max-min: nobody who wants more has less for its weight than anybody else.
        #[test]
        fn nobody_has_more_while_another_wants((claims, capacity) in some()) {
            let parts = parts(&claims, capacity);
            for (i, want) in claims.iter().enumerate().filter(|(i, claim)| parts[*i] < claim.most * (1.0 - 1e-9)) {
                for (j, other) in claims.iter().enumerate() {
                    let (own, theirs) = (parts[i] / want.weight, parts[j] / other.weight);
                    prop_assert!(theirs <= own * (1.0 + 1e-9), "{i}: {own}, {j}: {theirs}");
                }
            }
        }

        #[test]
        fn a_heavier_weight_gives_no_less((claims, capacity) in some(), which in any::<prop::sample::Index>(), more in 1.0..10.0) {
            let (which, before) = (which.index(claims.len()), parts(&claims, capacity));
            let mut heavier = claims;
            heavier[which].weight *= more;
            prop_assert!(parts(&heavier, capacity)[which] >= before[which] * (1.0 - 1e-9));
        }
    }
}
