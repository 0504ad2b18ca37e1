//! Many times in few bytes: how many fell between which bounds. Thirty-two bounds between a number and its double, so a quantile is off by
//! [`ERROR`] at most; below 64 microseconds it is exact. Sketches add up: the sum of two is the sketch of all that both have seen, in
//! whichever order and by whichever process. Only what occurred takes room.

use std::collections::BTreeMap;

/// By how much of itself a quantile may be off: half the width of a step.
pub const ERROR: f64 = 1.0 / 64.0;

/// Steps between a number and its double, as a power of two.
const BITS: u32 = 5;
const STEPS: u64 = 1 << BITS;
/// The step of the greatest number that there is.
const LAST: u16 = 1919;

/// See the module. Times are whole microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch(BTreeMap<u16, u64>);

impl Sketch {
    /// One more time.
    pub fn add(&mut self, micros: u64) {
        *self.0.entry(step(micros)).or_default() += 1;
    }

    /// All that the other has seen.
    pub fn merge(&mut self, other: &Self) {
        for (step, count) in &other.0 {
            let sum = self.0.entry(*step).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// How many times it has seen.
    pub fn count(&self) -> u64 {
        self.0.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The time that this part of all do not exceed, microseconds; none of nothing.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let count = self.count();
        #[expect(clippy::cast_precision_loss, reason = "a rank that is off by one in 2^53")]
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a count")]
        let rank = ((part.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut passed = 0_u64;
        let found = self.0.iter().find(|(_, count)| {
            passed = passed.saturating_add(**count);
            passed >= rank
        });
        found.map(|(step, _)| middle(*step))
    }

    /// As it is stored: for each step that occurred how far it is from the one before, and how often it did (LEB128).
    pub fn to_bytes(&self) -> Vec<u8> {
        let (mut bytes, mut before) = (Vec::with_capacity(self.0.len() * 3), 0);
        for (step, count) in &self.0 {
            put(&mut bytes, u64::from(step - before));
            put(&mut bytes, *count);
            before = *step;
        }
        bytes
    }

    /// What was stored; none of anything else.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let (mut all, mut before) = (BTreeMap::new(), 0_u16);
        while !bytes.is_empty() {
            let step = before.checked_add(u16::try_from(take(&mut bytes)?).ok()?).filter(|step| *step <= LAST)?;
            let count = take(&mut bytes)?;
            if all.insert(step, count).is_some() {
                return None;
            }
            before = step;
        }
        Some(Self(all))
    }
}

/// In which step a number is.
#[expect(clippy::cast_possible_truncation, reason = "at most LAST")]
fn step(number: u64) -> u16 {
    let doubled = (u64::BITS - number.leading_zeros()).saturating_sub(BITS + 1);
    (u64::from(doubled) * STEPS + (number >> doubled)) as u16
}

/// The number in the middle of a step.
#[expect(clippy::cast_precision_loss, reason = "within the error")]
fn middle(step: u16) -> f64 {
    let step = u64::from(step);
    let doubled = (step / STEPS).saturating_sub(1);
    let first = (step - doubled * STEPS) << doubled;
    first as f64 + ((1_u64 << doubled) - 1) as f64 / 2.0
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7f) as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "numbers of a test"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(times: &[u64]) -> Sketch {
        let mut sketch = Sketch::default();
        for time in times {
            sketch.add(*time);
        }
        sketch
    }

    /// The exact one, by nearest rank.
    fn exact(times: &[u64], part: f64) -> f64 {
        let mut times = times.to_vec();
        times.sort_unstable();
        let rank = ((part * times.len() as f64).ceil() as usize).max(1);
        times[rank - 1] as f64
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_the_error(
            times in prop::collection::vec(prop_oneof![0..100_u64, 0..1_000_000_u64, any::<u64>()], 1..200),
            part in 0.0..=1.0,
        ) {
            let (found, exact) = (of(&times).quantile(part).unwrap(), exact(&times, part));
            prop_assert!((found - exact).abs() <= exact * ERROR, "{found} for {exact}");
        }

        #[test]
        fn sums_and_stored_sketches_are_those_of_all_times(
            one in prop::collection::vec(any::<u64>(), 0..50),
            other in prop::collection::vec(0..100_000_u64, 0..50),
        ) {
            let all: Vec<u64> = one.iter().chain(&other).copied().collect();
            let mut sum = of(&one);
            sum.merge(&of(&other));
            prop_assert_eq!(&sum, &of(&all));
            prop_assert_eq!(Sketch::from_bytes(&sum.to_bytes()), Some(sum));
        }

        #[test]
        fn no_bytes_are_taken_for_more_than_they_are(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(sketch) = Sketch::from_bytes(&bytes) {
                sketch.quantile(0.5);
            }
        }
    }

    #[test]
    fn short_times_are_exact_and_nothing_has_no_quantile() {
        assert_eq!(Sketch::default().quantile(0.5), None);
        for time in 0..64 {
            assert_eq!(of(&[time]).quantile(0.5), Some(time as f64));
        }
        assert_eq!(step(u64::MAX), LAST);
    }

    #[test]
    fn ten_thousand_calls_take_some_dozen_bytes() {
        let times: Vec<u64> = (0..10_000).map(|call| 800 + call % 400).collect();
        let bytes = of(&times).to_bytes();
        assert!(bytes.len() < 100, "{}", bytes.len());
    }
}
