//! In which order the replicas of a server are tried. A policy gives an order, not a winner: failover is "the next one".
//! Here are the pure parts: the list, the hash that is the same on every machine and after every start, and how each policy
//! sorts. Which replicas may be tried at all is decided before, in the module above.

/// Most replicas of one server.
pub const MAX_REPLICAS: usize = 64;

/// Indexes of replicas, first choice first. It lives on the stack.
#[derive(Debug, Clone)]
pub struct Order {
    indexes: [u8; MAX_REPLICAS],
    from: u8,
    len: u8,
}

impl Order {
    pub(super) const fn empty() -> Self {
        Self { indexes: [0; MAX_REPLICAS], from: 0, len: 0 }
    }

    pub(super) fn push(&mut self, index: usize) {
        if let (Some(slot), Ok(index)) = (self.indexes.get_mut(usize::from(self.len)), u8::try_from(index)) {
            *slot = index;
            self.len += 1;
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.indexes[usize::from(self.from)..usize::from(self.len)]
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.indexes[usize::from(self.from)..usize::from(self.len)]
    }

    /// The first choice.
    pub fn first(&self) -> Option<usize> {
        self.as_slice().first().copied().map(usize::from)
    }
}

impl Iterator for Order {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let first = self.first()?;
        self.from += 1;
        Some(first)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.as_slice().len(), Some(self.as_slice().len()))
    }
}

impl ExactSizeIterator for Order {}

/// A hash of texts that is the same on every machine, in every build and after every start: FNV-1a over each text and its
/// length, then mixed. It spreads callers over replicas; it protects nothing.
pub fn stable_hash(texts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in texts {
        for byte in text.bytes().chain((text.len() as u64).to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    mix(hash)
}

/// Every bit of the result depends on every bit of `x` (the finaliser of splitmix64).
pub(super) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Smaller is better: weighted rendezvous hashing. With `u` uniform in (0, 1), `-ln(u) / weight` is the waiting time for an
/// event of that rate, and the replica whose event comes first wins in proportion to its weight. A replica's score does not
/// depend on the others, so one that comes or goes moves only the callers it wins or had won.
pub(super) fn rendezvous(key: u64, replica: u64, weight: u32) -> f64 {
    let hash = mix(mix(key) ^ replica);
    #[expect(clippy::cast_precision_loss, reason = "the top 53 bits fit exactly")]
    let uniform = ((hash >> 11) as f64 + 0.5) * (1.0 / (1_u64 << 53) as f64);
    -ln(uniform) / f64::from(weight)
}

/// The natural logarithm of a positive normal number, from operations whose result IEEE 754 fixes to the bit. The one of the
/// platform may differ in the last digits from machine to machine, and two gateways would then send a caller to two replicas.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    // ln(m) = 2 artanh((m - 1) / (m + 1)); for m in [1, 2) the argument is at most 1/3, and eleven terms reach 1e-12.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..11).rev().fold(0.0, |sum, term| sum * square + 1.0 / f64::from(2 * term + 1));
    f64::from(exponent) * std::f64::consts::LN_2 + 2.0 * s * series
}

/// Sorts `order` by `score`, ties as they stand.
pub(super) fn sort_by_score(order: &mut [u8], score: impl Fn(usize) -> f64) {
    let mut scored = [(0.0_f64, 0_u8); MAX_REPLICAS];
    let scored = &mut scored[..order.len()];
    for (slot, index) in scored.iter_mut().zip(order.iter()) {
        *slot = (score(usize::from(*index)), *index);
    }
    insertion_sort(scored, |(a, _), (b, _)| a.total_cmp(b).is_gt());
    for (index, (_, sorted)) in order.iter_mut().zip(scored.iter()) {
        *index = *sorted;
    }
}

/// Stable, in place, without allocation: there are at most [`MAX_REPLICAS`], mostly two or three.
pub(super) fn insertion_sort<T>(items: &mut [T], after: impl Fn(&T, &T) -> bool) {
    for end in 1..items.len() {
        let mut at = end;
        while at > 0 && after(&items[at - 1], &items[at]) {
            items.swap(at - 1, at);
            at -= 1;
        }
    }
}

/// One step of smooth weighted round robin over the replicas in `order`: each gains its weight, the highest is chosen and
/// pays the sum. Over any run of as many calls as the weights add up to, each gets its exact share, and no replica gets its
/// share in one burst.
pub(super) fn smooth_weighted(order: &mut [u8], current: &mut [i64], weight: impl Fn(usize) -> u32) {
    let mut sum = 0;
    for index in order.iter().copied().map(usize::from) {
        let gain = i64::from(weight(index));
        sum += gain;
        current[index] += gain;
    }
    insertion_sort(order, |a, b| current[usize::from(*a)] < current[usize::from(*b)]);
    if let Some(first) = order.first() {
        current[usize::from(*first)] -= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_hash_is_the_same_on_every_machine() {
        // These values are part of the product: changing them moves every caller to another replica on upgrade.
        assert_eq!(stable_hash(&[]), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(stable_hash(&["local", "ada"]), 0xdb83_d94b_fa33_2e12);
        assert_ne!(stable_hash(&["ab", "c"]), stable_hash(&["a", "bc"]));
        assert_eq!(rendezvous(7, 9, 3).to_bits(), 0x3f9e_def7_6b8a_c540);
    }

    #[test]
    fn an_order_is_walked_once_and_holds_no_more_than_it_can() {
        let mut order = Order::empty();
        for index in 0..MAX_REPLICAS + 5 {
            order.push(index);
        }
        assert_eq!(order.len(), MAX_REPLICAS);
        assert_eq!(order.next(), Some(0));
        assert_eq!(order.first(), Some(1));
        assert_eq!(order.count(), MAX_REPLICAS - 1);
    }

    proptest! {
        #[test]
        fn the_logarithm_is_the_logarithm(x in 1e-300_f64..1e300) {
            prop_assert!((ln(x) - x.ln()).abs() <= 1e-11 * (1.0 + x.ln().abs()));
        }

        #[test]
        fn a_full_turn_of_smooth_weights_gives_each_its_exact_share(weights in prop::collection::vec(1..50_u32, 1..12)) {
            let mut current = vec![0; weights.len()];
            let mut chosen = vec![0_u32; weights.len()];
            for _ in 0..weights.iter().sum::<u32>() {
                let mut order: Vec<u8> = (0..u8::try_from(weights.len()).unwrap()).collect();
                smooth_weighted(&mut order, &mut current, |index| weights[index]);
                chosen[usize::from(order[0])] += 1;
            }
            prop_assert_eq!(chosen, weights);
            prop_assert!(current.iter().all(|left| *left == 0));
        }

        #[test]
        fn sorting_keeps_every_index_and_puts_the_best_first(scores in prop::collection::vec(0.0..1.0_f64, 1..64)) {
            let mut order: Vec<u8> = (0..u8::try_from(scores.len()).unwrap()).collect();
            sort_by_score(&mut order, |index| scores[index]);
            prop_assert!(order.windows(2).all(|pair| scores[usize::from(pair[0])] <= scores[usize::from(pair[1])]));
            order.sort_unstable();
            prop_assert_eq!(order, (0..u8::try_from(scores.len()).unwrap()).collect::<Vec<_>>());
        }
    }
}
