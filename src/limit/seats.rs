//! Seats of which there are only so many, whatever sits on them, and whom they belong to. No account takes all: once half of them are
//! taken, none has more than a part. As long as there is that much room one alone may have half.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::AHashMap;

use super::buckets::BucketKey;

/// Who sits is counted under as many locks.
const SHARDS: usize = 16;
/// An account's part of all seats is one in so many.
const PARTS: usize = 10;
/// And no less than this.
const LEAST: usize = 64;

/// Why there is no seat, with how many are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSeat {
    /// All are.
    All(usize),
    /// This account has its part and more than half of all are.
    Own(usize),
}

/// See the module. Clones are of the same seats.
#[derive(Debug, Clone)]
pub struct Seats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    part: usize,
    taken: AtomicUsize,
    accounts: [Mutex<AHashMap<BucketKey, usize>>; SHARDS],
}

/// A seat; dropping it frees it.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Inner>,
    account: BucketKey,
}

impl Seats {
    /// As many, all free.
    pub fn new(most: usize) -> Self {
        let accounts = std::array::from_fn(|_| Mutex::default());
        Self(Arc::new(Inner { most, part: (most / PARTS).max(LEAST), taken: AtomicUsize::default(), accounts }))
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.0.taken.load(Relaxed)
    }

    /// Takes one for this account.
    pub fn take(&self, account: BucketKey) -> Result<Seat, NoSeat> {
        let Inner { most, part, taken, .. } = &*self.0;
        let mut accounts = self.0.of(account);
        let own = accounts.get(&account).copied().unwrap_or_default();
        let limit = if own < *part { *most } else { most / 2 };
        let more = |taken: usize| (taken < limit).then_some(taken + 1);
        match taken.fetch_update(Relaxed, Relaxed, more) {
            Ok(_) => {
                accounts.insert(account, own + 1);
                Ok(Seat { seats: self.0.clone(), account })
            }
            Err(taken) if taken >= *most => Err(NoSeat::All(taken)),
            Err(_) => Err(NoSeat::Own(own)),
        }
    }
}

impl Inner {
    fn of(&self, account: BucketKey) -> MutexGuard<'_, AHashMap<BucketKey, usize>> {
        // Ids are random at their end.
        let shard = &self.accounts[account as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut accounts = self.seats.of(self.account);
        match accounts.get_mut(&self.account) {
            Some(own) if *own > 1 => *own -= 1,
            _ => _ = accounts.remove(&self.account),
        }
        self.seats.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_many_as_there_are(seats: &Seats, account: BucketKey) -> (Vec<Seat>, NoSeat) {
        let mut taken = Vec::new();
        loop {
            match seats.take(account) {
                Ok(seat) => taken.push(seat),
                Err(none) => return (taken, none),
            }
        }
    }

    #[test]
    fn one_alone_has_half_and_others_their_part_of_the_rest() {
        let seats = Seats::new(1000);
        let (greedy, none) = as_many_as_there_are(&seats, 1);
        assert_eq!((greedy.len(), none), (500, NoSeat::Own(500)));
        let others: Vec<_> = (2..7).map(|account| as_many_as_there_are(&seats, account)).collect();
        let counts: Vec<_> = others.iter().map(|(seats, none)| (seats.len(), *none)).collect();
        assert_eq!(counts[..4], [(100, NoSeat::Own(100)); 4]);
        assert_eq!((counts[4].1, seats.taken()), (NoSeat::All(1000), 1000));
        drop(greedy);
        assert_eq!(as_many_as_there_are(&seats, 2).0.len(), 0, "still half of them are taken");
        assert_eq!(as_many_as_there_are(&seats, 1).0.len(), 100);
        drop(others);
        assert_eq!(seats.taken(), 0);
        assert!(seats.0.accounts.iter().all(|part| part.lock().unwrap().is_empty()), "who has none is not remembered");
    }

    #[test]
    fn where_there_are_few_one_may_have_all() {
        let seats = Seats::new(2);
        let (mine, none) = as_many_as_there_are(&seats, 1);
        assert_eq!((mine.len(), none), (2, NoSeat::All(2)));
    }
}
