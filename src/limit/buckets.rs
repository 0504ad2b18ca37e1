//! Buckets by key, one for each user, server or tool that has one. A bucket that is full again is as good as none, so there are never
//! more than were used within the time that they save up; past the cap newcomers share one.
//!
//! Where replicas share them, each bucket here is what was read on the board last, less what was let go here since. One of which the
//! board was not asked lately has no more than a part of what it may hold, for the others may have let the rest go.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use ahash::RandomState;
use hashbrown::HashMap;

use super::board::{MOST_TAKEN, Taken};
use super::bucket::{Bucket, Nanos, Price, SECOND};
use super::fair::locked;

/// A user, server or tool: a random id, or something as hard to meet twice.
pub type BucketKey = u128;

/// Parts of the map, each under a lock of its own.
const SHARDS: usize = 64;

/// Many buckets.
#[derive(Debug)]
pub struct Buckets {
    shards: Box<[Mutex<Shard>]>,
    state: RandomState,
    most_in_shard: usize,
    /// Where newcomers go when all are in use.
    shared: Bucket,
    shed: AtomicU64,
    replicas: AtomicU32,
    /// How many times the price is paid here, of late and before.
    apart: AtomicU32,
    apart_before: AtomicU32,
    /// Since when they are shared.
    since: AtomicU64,
    /// The shard with which the next report begins.
    next: AtomicUsize,
}

#[derive(Debug, Default)]
struct Kept {
    bucket: Bucket,
    /// When the board told of it last, or it was cut down because it did not.
    heard: Nanos,
}

/// What was heard of a bucket holds for so long.
const FRESH: Nanos = SECOND;

#[derive(Debug)]
struct Shard {
    buckets: HashMap<BucketKey, Kept, RandomState>,
    /// What the board does not know of yet.
    taken: HashMap<BucketKey, (i32, Price), RandomState>,
}

impl Buckets {
    /// None yet, and never more than about `most`.
    pub fn new(most: usize) -> Self {
        let state = RandomState::new();
        let map = || HashMap::with_hasher(state.clone());
        let shards =
            (0..SHARDS).map(|_| Mutex::new(Shard { buckets: map(), taken: HashMap::with_hasher(state.clone()) }));
        Self {
            shards: shards.collect(),
            state,
            most_in_shard: (most / SHARDS).max(1),
            shared: Bucket::default(),
            shed: AtomicU64::default(),
            replicas: AtomicU32::new(1),
            apart: AtomicU32::new(1),
            apart_before: AtomicU32::new(1),
            since: AtomicU64::default(),
            next: AtomicUsize::default(),
        }
    }

    /// These are from now on shared by so many replicas; with 1 they are this process's alone.
    pub fn share_among(&self, replicas: u32, now: Nanos) {
        if replicas > 1 && self.replicas.load(Relaxed) == 1 {
            self.apart_before.store(self.apart.load(Relaxed), Relaxed);
            self.since.store(now, Relaxed);
        }
        self.apart.store(1, Relaxed);
        self.replicas.store(replicas.max(1), Relaxed);
    }

    /// The board is away: each replica goes on by itself, with its part of every rate.
    pub fn part(&self, replicas: u32) {
        self.replicas.store(1, Relaxed);
        self.apart.store(replicas.max(1), Relaxed);
        // What was let go meanwhile is forgotten, here as everywhere: all of it at once would be more than a bucket.
        self.shards.iter().for_each(|shard| locked(shard).taken.clear());
    }

    fn shard(&self, key: BucketKey) -> &Mutex<Shard> {
        #[expect(clippy::cast_possible_truncation, reason = "any part of a hash is as good as another")]
        &self.shards[self.state.hash_one(key) as usize % SHARDS]
    }

    /// What a token costs here.
    fn price(&self, price: Price) -> Price {
        Price { token: price.token.saturating_mul(self.apart.load(Relaxed).into()), ..price }
    }

    /// Takes a token of this key, or says how long it is until one is there.
    pub fn take(&self, key: BucketKey, price: Price, now: Nanos) -> Result<(), Nanos> {
        let (price, replicas) = (self.price(price), self.replicas.load(Relaxed));
        let mut shard = locked(self.shard(key));
        let Shard { buckets, taken } = &mut *shard;
        if buckets.len() >= self.most_in_shard && !buckets.contains_key(&key) {
            let saved = self.longest_saved(price.saved);
            buckets.retain(|_, kept| !kept.bucket.is_full(saved, now));
            if buckets.len() >= self.most_in_shard {
                self.shed.fetch_add(1, Relaxed);
                return self.shared.take(price, now);
            }
        }
        let kept = buckets.entry(key).or_default();
        if replicas > 1
            && let Some(used) = self.catch_up(kept, price, replicas, now)
        {
            taken.insert(key, (used, price));
        }
        kept.bucket.take(price, now)?;
        if replicas > 1 {
            taken.entry(key).or_insert((0, price)).0 += 1;
        }
        Ok(())
    }

    /// A bucket of which nothing was heard lately has no more than this replica's part. Returns what was let go of it before there were
    /// others, which is for them to know.
    fn catch_up(&self, kept: &mut Kept, price: Price, replicas: u32, now: Nanos) -> Option<i32> {
        let since = self.since.load(Relaxed);
        if kept.heard >= since.max(now.saturating_sub(FRESH)) {
            return None;
        }
        let untold = (kept.heard < since).then(|| {
            let used = price.saved.saturating_sub(kept.bucket.there(price, now)).div_ceil(price.token.max(1));
            i32::try_from(used / u64::from(self.apart_before.load(Relaxed))).unwrap_or(i32::MAX)
        });
        let part = (price.saved / u64::from(replicas)).max(price.token);
        kept.bucket.set(kept.bucket.spent().max(now.saturating_sub(part)));
        kept.heard = now;
        untold
    }

    /// In so much time each bucket is full again, whatever a token of it costs.
    fn longest_saved(&self, saved: Nanos) -> Nanos {
        saved.saturating_mul(self.apart.load(Relaxed).into())
    }

    /// Gives it back.
    pub fn give_back(&self, key: BucketKey, price: Price) {
        let price = self.price(price);
        let mut shard = locked(self.shard(key));
        // One that is not there was full again, or was never its own.
        if let Some(kept) = shard.buckets.get(&key) {
            kept.bucket.give_back(price);
            if self.replicas.load(Relaxed) > 1 {
                shard.taken.entry(key).or_insert((0, price)).0 -= 1;
            }
        }
    }

    /// What the board is to be told: each of these is told once.
    pub fn report(&self) -> Vec<Taken> {
        let mut all = Vec::new();
        let first = self.next.load(Relaxed);
        for place in (first..first + SHARDS).map(|place| place % SHARDS) {
            let mut shard = locked(&self.shards[place]);
            if all.len() + shard.taken.len() > MOST_TAKEN && !all.is_empty() {
                self.next.store(place, Relaxed);
                break;
            }
            let room = MOST_TAKEN - all.len();
            let told = shard.taken.extract_if(|_, _| true).take(room);
            all.extend(told.map(|(bucket, (count, price))| Taken { bucket, count, price }));
        }
        all
    }

    /// The board may not have heard this: it is told again. What it did hear then counts twice, rather than not at all.
    pub fn keep(&self, told: &[Taken]) {
        for Taken { bucket, count, price } in told {
            locked(self.shard(*bucket)).taken.entry(*bucket).or_insert((0, *price)).0 += count;
        }
    }

    /// Takes over what the board answered to it: up to when each is spent, by what all replicas let go.
    pub fn hear(&self, told: &[Taken], spent: &[i64], at: Nanos) {
        for (told, spent) in told.iter().zip(spent) {
            let mut shard = locked(self.shard(told.bucket));
            let since = shard.taken.get(&told.bucket).map_or(0, |(count, _)| i64::from(*count));
            let since = since.saturating_mul(i64::try_from(told.price.token).unwrap_or(i64::MAX));
            if let Some(kept) = shard.buckets.get_mut(&told.bucket) {
                kept.bucket.set(at.saturating_add_signed(spent.saturating_add(since)));
                kept.heard = at;
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| locked(shard).buckets.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often a newcomer found all in use.
    pub fn shed(&self) -> u64 {
        self.shed.load(Relaxed)
    }

    /// Forgets those that are full again.
    pub fn sweep(&self, saved: Nanos, now: Nanos) {
        let saved = self.longest_saved(saved);
        for shard in &self.shards {
            let buckets = &mut locked(shard).buckets;
            buckets.retain(|_, kept| !kept.bucket.is_full(saved, now));
            if buckets.capacity() > 4 * buckets.len() + 64 {
                buckets.shrink_to_fit();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::board::{Board, Report};
    use super::super::bucket::SECOND;
    use super::*;

    const START: Nanos = 1 << 45;

    fn exchange(board: &mut Board, buckets: &Buckets, replica: u128, now: Nanos) {
        let taken = buckets.report();
        let reply = board.exchange(Report { replica, taken: taken.clone(), ..Report::default() }, now);
        buckets.hear(&taken, &reply.spent, now);
    }

    /// Whichever replica is asked, a user has what it may have; what several let go before they knew of each other is owed.
    #[test]
    fn replicas_let_go_as_much_as_one_would() {
        let (mut board, price) = (Board::new(1.0), Price::a_minute(60));
        let replicas: Vec<Buckets> = (0..3).map(|_| Buckets::new(100)).collect();
        for buckets in &replicas {
            buckets.share_among(3, START - SECOND);
        }
        let mut passed = Vec::new();
        for step in 0..900 {
            let now = START + step * SECOND / 10;
            for (buckets, replica) in replicas.iter().zip(0..) {
                for _ in 0..5 {
                    passed.extend(buckets.take(7, price, now).ok().map(|()| step));
                }
                exchange(&mut board, buckets, replica, now + SECOND / 100 * u64::try_from(replica).unwrap());
            }
        }
        let within = |seconds: u64| passed.iter().filter(|step| **step < seconds * 10).count();
        // At first what it may hold, then one a second.
        assert!((58..=75).contains(&within(2)), "{}", within(2));
        assert!((148..=155).contains(&within(90)), "{}", within(90));
    }

    #[test]
    fn what_one_lets_go_or_gives_back_another_knows_when_it_is_asked_next() {
        let (mut board, price) = (Board::new(1.0), Price::a_minute(4));
        let (one, other) = (Buckets::new(100), Buckets::new(100));
        for buckets in [&one, &other] {
            buckets.share_among(2, START - SECOND);
        }
        for _ in 0..2 {
            one.take(7, price, START).unwrap();
        }
        assert_eq!(one.take(7, price, START), Err(15 * SECOND), "the other half may be needed elsewhere");
        exchange(&mut board, &one, 1, START);
        other.take(7, price, START).unwrap();
        exchange(&mut board, &other, 2, START);
        // Three are gone, and the fourth is where it is asked for.
        other.take(7, price, START).unwrap();
        exchange(&mut board, &other, 2, START);
        assert_eq!(other.take(7, price, START), Err(15 * SECOND));
        // This one does not know that yet; what it lets go is owed.
        one.take(7, price, START).unwrap();
        exchange(&mut board, &one, 1, START);
        assert_eq!(one.take(7, price, START), Err(30 * SECOND));
        one.give_back(7, price);
        exchange(&mut board, &one, 1, START);
        assert_eq!(one.take(7, price, START), Err(15 * SECOND));
    }

    /// Each is asked only once in a minute, and then for all that it has: what the others let go it does not know.
    #[test]
    fn who_comes_to_all_replicas_after_a_rest_has_no_more_than_twice_what_one_has() {
        let (mut board, price) = (Board::new(1.0), Price::a_minute(60));
        let replicas: Vec<Buckets> = (0..10).map(|_| Buckets::new(100)).collect();
        let mut passed = 0;
        for minute in 0..10 {
            let now = START + minute * 60 * SECOND;
            for (buckets, replica) in replicas.iter().zip(0..) {
                buckets.share_among(10, START - SECOND);
                passed += (0..100).filter(|_| buckets.take(7, price, now).is_ok()).count();
                if minute % 2 == 0 {
                    exchange(&mut board, buckets, replica, now);
                }
            }
            for (buckets, replica) in replicas.iter().zip(0..) {
                exchange(&mut board, buckets, replica, now + SECOND / 10);
            }
        }
        assert!((500..=720).contains(&passed), "{passed} in ten minutes");
    }

    #[test]
    fn what_was_let_go_alone_is_known_when_others_come() {
        let (mut board, price) = (Board::new(1.0), Price::a_minute(60));
        let (one, other) = (Buckets::new(100), Buckets::new(100));
        for _ in 0..50 {
            one.take(7, price, START).unwrap();
        }
        for buckets in [&one, &other] {
            buckets.share_among(2, START + 1);
        }
        one.take(7, price, START + 2).unwrap();
        exchange(&mut board, &one, 1, START + 2);
        other.take(7, price, START + 2).unwrap();
        exchange(&mut board, &other, 2, START + 2);
        let left = (0..100).filter(|_| other.take(7, price, START + 2).is_ok()).count();
        assert_eq!(left, 8);
    }

    #[test]
    fn without_the_board_few_a_minute_are_few_after_a_sweep() {
        let (buckets, price) = (Buckets::new(100), Price::a_minute(1));
        buckets.part(5);
        buckets.take(7, price, START).unwrap();
        buckets.sweep(price.saved, START + 100 * SECOND);
        buckets.take(7, price, START + 100 * SECOND).unwrap_err();
        buckets.take(7, price, START + 300 * SECOND).unwrap();
    }

    #[test]
    fn without_the_board_each_has_its_part() {
        let (buckets, price) = (Buckets::new(100), Price::a_minute(60));
        buckets.part(3);
        let passed = (0..100).filter(|_| buckets.take(7, price, START).is_ok()).count();
        assert_eq!(passed, 20);
        assert_eq!(buckets.take(7, price, START), Err(3 * SECOND));
        assert!(buckets.report().is_empty());
    }

    #[test]
    fn each_key_has_its_own_and_what_is_full_again_makes_room() {
        let (buckets, price) = (Buckets::new(SHARDS), Price::a_minute(2));
        let keys: Vec<BucketKey> = (0..400_u32).map(BucketKey::from).collect();
        let mut through = 0;
        for key in &keys {
            through += usize::from(buckets.take(*key, price, START).is_ok());
        }
        assert!(buckets.len() <= SHARDS && buckets.shed() > 0, "two keys of one shard");
        assert!(through < keys.len(), "those without a bucket share one");
        buckets.sweep(price.saved, START + 29 * SECOND);
        assert!(!buckets.is_empty());
        buckets.sweep(price.saved, START + 31 * SECOND);
        assert!(buckets.is_empty());
    }
}
