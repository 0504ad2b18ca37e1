//! A token bucket in one number: the moment up to which its tokens are spent (the generic cell rate algorithm, with the sign turned).
//! A token costs some time, a bucket holds as many as fit into the time that it may save up, and nobody has to fill it. Taking is one
//! compare-and-swap, refusing none: it costs nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Nanoseconds of a clock of this process.
pub type Nanos = u64;

/// One second.
pub const SECOND: Nanos = 1_000_000_000;

/// A bucket. A new one is full.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

/// What one token costs and how much is saved up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Time in which one token comes.
    pub token: Nanos,
    /// Time whose tokens are saved up; a bucket always has room for one.
    pub saved: Nanos,
}

impl Price {
    /// That of `count` tokens a minute, all of which may come at once.
    pub fn a_minute(count: u32) -> Self {
        Self { token: 60 * SECOND / u64::from(count.max(1)), saved: 60 * SECOND }
    }

    /// That of `rate` tokens a second.
    pub fn a_second(rate: f64, saved: Nanos) -> Self {
        let time = 1e9 / rate;
        // As far away as a number goes that others are added to.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the cast saturates: never, or at once"
        )]
        let token = (time as u64).min(u64::MAX / 4);
        // Rounded up; where that is an instruction of its own is not known when this is compiled, and a call takes longer.
        #[expect(clippy::cast_precision_loss, reason = "a whole number of a float is one")]
        let more = u64::from((token as f64) < time);
        Self { token: token + more, saved }
    }
}

impl Bucket {
    /// Takes one token, or says how long it is until one is there.
    pub fn take(&self, price: Price, now: Nanos) -> Result<(), Nanos> {
        self.take_leaving(price, now, 0)
    }

    /// The same for somebody who leaves what comes in the time `left` for others.
    pub fn take_leaving(&self, price: Price, now: Nanos, left: Nanos) -> Result<(), Nanos> {
        let mut old = self.0.load(Relaxed);
        loop {
            let new = from(old, price, now) + price.token;
            if new + left > now {
                return Err(new + left - now);
            }
            match self.0.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(seen) => old = seen,
            }
        }
    }

    /// Takes the next token that comes, if that is within `patience`: returns how long it is until then, or would be. Who takes one in
    /// this way goes before all who wait for one.
    pub fn reserve(&self, price: Price, now: Nanos, patience: Nanos) -> Result<Nanos, Nanos> {
        let mut old = self.0.load(Relaxed);
        loop {
            // What is saved up by now counts, and not what would be by then.
            let new = from(old, price, now) + price.token;
            if new > now + patience {
                return Err(new - now);
            }
            match self.0.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => return Ok(new.saturating_sub(now)),
                Err(seen) => old = seen,
            }
        }
    }

    /// How long it is until a token is there; 0 when one is. Takes none.
    pub fn wait(&self, price: Price, now: Nanos) -> Nanos {
        self.wait_leaving(price, now, 0)
    }

    /// The same for somebody who leaves what comes in the time `left` for others.
    pub fn wait_leaving(&self, price: Price, now: Nanos, left: Nanos) -> Nanos {
        (from(self.0.load(Relaxed), price, now) + price.token + left).saturating_sub(now)
    }

    /// From `at` on a token costs something else: as many are there as before, or as many as are saved up now if that is fewer.
    pub fn reprice(&self, old: Price, new: Price, at: Nanos) {
        let mut spent = self.0.load(Relaxed);
        while spent < at {
            let time = u128::from(at - from(spent, old, at)) * u128::from(new.token) / u128::from(old.token.max(1));
            let there = at.saturating_sub(Nanos::try_from(time).unwrap_or(Nanos::MAX));
            match self.0.compare_exchange_weak(spent, there, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(seen) => spent = seen,
            }
        }
    }

    /// Gives a token back.
    pub fn give_back(&self, price: Price) {
        _ = self.0.fetch_update(Relaxed, Relaxed, |spent| Some(spent.saturating_sub(price.token)));
    }

    /// How many tokens are there.
    pub fn tokens(&self, price: Price, now: Nanos) -> u64 {
        self.there(price, now) / price.token.max(1)
    }

    /// The time in which what is there came.
    pub fn there(&self, price: Price, now: Nanos) -> Nanos {
        now.saturating_sub(from(self.0.load(Relaxed), price, now))
    }

    /// Whether it is as a new one: nothing is lost with it.
    pub fn is_full(&self, saved: Nanos, now: Nanos) -> bool {
        self.0.load(Relaxed) <= now.saturating_sub(saved)
    }

    /// Keeps at most what comes in this time.
    pub fn keep(&self, time: Nanos, now: Nanos) {
        self.0.fetch_max(now.saturating_sub(time), Relaxed);
    }

    /// The moment up to which its tokens are spent.
    pub fn spent(&self) -> Nanos {
        self.0.load(Relaxed)
    }

    /// Its tokens are spent up to this moment, as somebody knows who counts for all.
    pub fn set(&self, moment: Nanos) {
        self.0.store(moment, Relaxed);
    }
}

/// What is older than what it saves up is lost.
fn from(spent: Nanos, price: Price, now: Nanos) -> Nanos {
    spent.max(now.saturating_sub(price.saved.max(price.token)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Nanos = 1 << 45;

    #[test]
    fn a_minute_s_worth_comes_at_once_and_then_one_after_the_other() {
        let (bucket, price) = (Bucket::default(), Price::a_minute(60));
        for _ in 0..60 {
            bucket.take(price, START).unwrap();
        }
        assert_eq!(bucket.take(price, START), Err(SECOND));
        assert_eq!(bucket.wait(price, START + SECOND / 4), 3 * SECOND / 4);
        bucket.take(price, START + SECOND).unwrap();
        assert_eq!(bucket.tokens(price, START + 11 * SECOND), 10);
    }

    #[test]
    fn who_reserves_takes_the_next_that_comes_and_no_more() {
        let (bucket, price) = (Bucket::default(), Price { token: SECOND / 100, saved: SECOND / 10 });
        for _ in 0..10 {
            bucket.take(price, START).unwrap();
        }
        assert_eq!(bucket.reserve(price, START, SECOND / 2), Ok(SECOND / 100));
        assert_eq!(bucket.reserve(price, START, SECOND / 2), Ok(SECOND / 50));
        assert_eq!(bucket.wait(price, START), 3 * SECOND / 100, "others wait for two more");
        for _ in 0..48 {
            bucket.reserve(price, START, SECOND / 2).unwrap();
        }
        assert_eq!(bucket.reserve(price, START, SECOND / 2), Err(51 * SECOND / 100));
    }

    #[test]
    fn one_fits_even_if_it_costs_more_than_is_saved_up() {
        let (bucket, price) = (Bucket::default(), Price { token: 10 * SECOND, saved: SECOND });
        bucket.take(price, START).unwrap();
        assert_eq!(bucket.take(price, START), Err(10 * SECOND));
    }

    #[test]
    fn a_token_costs_the_next_whole_nanosecond() {
        let token = |rate| Price::a_second(rate, 0).token;
        assert_eq!([token(1.0), token(1000.0), token(3.0)], [SECOND, SECOND / 1000, SECOND / 3 + 1]);
    }

    #[test]
    fn no_rate_at_all_never_gives_one_and_does_not_overflow() {
        let (bucket, price) = (Bucket::default(), Price::a_second(0.0, SECOND));
        bucket.take(price, START).unwrap_err();
    }

    #[test]
    fn what_is_there_stays_when_the_rate_changes() {
        let (slow, fast) =
            (Price { saved: 6 * SECOND, ..Price::a_minute(60) }, Price { saved: 6 * SECOND, ..Price::a_minute(600) });
        let bucket = Bucket::default();
        bucket.take(slow, START).unwrap();
        bucket.reprice(slow, fast, START);
        assert_eq!(bucket.tokens(fast, START), 5);
        assert_eq!(bucket.tokens(fast, START + SECOND), 15);
        bucket.reprice(fast, slow, START + SECOND);
        // No more than are saved up at this price.
        assert_eq!(bucket.tokens(slow, START + SECOND), 6);
        let never = Price::a_second(0.0, 6 * SECOND);
        bucket.reprice(slow, never, START + SECOND);
        bucket.take(never, START + SECOND).unwrap_err();
        bucket.reprice(never, fast, START + SECOND);
        assert_eq!(bucket.tokens(fast, START + SECOND), 0);
    }

    proptest! {
        /// In no stretch of time come more than its rate and what was saved up allow; and the wait that is said is true.
        #[test]
        fn it_holds_its_rate(rpm in 1_u32..5000, steps in prop::collection::vec(0_u64..3 * SECOND, 1..200)) {
            let (bucket, price) = (Bucket::default(), Price { saved: 2 * SECOND, ..Price::a_minute(rpm) });
            let (mut now, mut taken) = (START, Vec::new());
            for step in steps {
                now += step;
                match bucket.take(price, now) {
                    Ok(()) => taken.push(now),
                    Err(wait) => {
                        prop_assert!(bucket.take(price, now + wait - 1).is_err());
                        prop_assert!(bucket.take(price, now + wait).is_ok());
                        now += wait;
                        taken.push(now);
                    }
                }
            }
            for (i, from) in taken.iter().enumerate() {
                let (span, count) = (now - from, (taken.len() - i) as u64);
                prop_assert!(count <= (span + price.saved.max(price.token)) / price.token + 1);
            }
        }
    }
}
