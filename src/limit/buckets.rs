//! Buckets by key, one for each user, server or tool that has one. A bucket that is full again is as good as none, so there are never
//! more than were used within the time that they save up; past the cap newcomers share one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ahash::RandomState;
use hashbrown::HashMap;

use super::bucket::{Bucket, Nanos, Price};
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
}

type Shard = HashMap<BucketKey, Bucket, RandomState>;

impl Buckets {
    /// None yet, and never more than about `most`.
    pub fn new(most: usize) -> Self {
        let state = RandomState::new();
        let shard = || Mutex::new(HashMap::with_hasher(state.clone()));
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            state,
            most_in_shard: (most / SHARDS).max(1),
            shared: Bucket::default(),
            shed: AtomicU64::default(),
        }
    }

    fn with<T>(&self, key: BucketKey, saved: Nanos, now: Nanos, what: impl FnOnce(&Bucket) -> T) -> T {
        #[expect(clippy::cast_possible_truncation, reason = "any part of a hash is as good as another")]
        let mut shard = locked(&self.shards[self.state.hash_one(key) as usize % SHARDS]);
        if shard.len() >= self.most_in_shard && !shard.contains_key(&key) {
            shard.retain(|_, bucket| !bucket.is_full(saved, now));
            if shard.len() >= self.most_in_shard {
                self.shed.fetch_add(1, Relaxed);
                return what(&self.shared);
            }
        }
        what(shard.entry(key).or_default())
    }

    /// Takes a token of this key, or says how long it is until one is there.
    pub fn take(&self, key: BucketKey, price: Price, now: Nanos) -> Result<(), Nanos> {
        self.with(key, price.saved, now, |bucket| bucket.take(price, now))
    }

    /// Gives it back.
    pub fn give_back(&self, key: BucketKey, price: Price) {
        #[expect(clippy::cast_possible_truncation, reason = "any part of a hash is as good as another")]
        let shard = locked(&self.shards[self.state.hash_one(key) as usize % SHARDS]);
        // One that is not there was full again, or was never its own.
        shard.get(&key).inspect(|bucket| bucket.give_back(price));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| locked(shard).len()).sum()
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
        for shard in &self.shards {
            let mut shard = locked(shard);
            shard.retain(|_, bucket| !bucket.is_full(saved, now));
            if shard.capacity() > 4 * shard.len() + 64 {
                shard.shrink_to_fit();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bucket::SECOND;
    use super::*;

    const START: Nanos = 1 << 45;

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
